//! Opening a model: manifest, golden rows, refusals.

use iotml_core::error::Stage;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::{BuildContext, Registry};
use iotml_core::score::{Scorer, Threshold};
use iotml_model::manifest::{Golden, ManifestBuilder, embed};
use iotml_model::testing::{OnnxBuilder, scaled_copy};
use iotml_model::{
    EngineChoice, GoldenRule, Kind, Manifest, ManifestSource, Model, ModelError, OnnxScorer, OnnxScorerConfig,
    OpenOptions,
};

use crate::setup::{batch, block_on, engines, floats, score};

fn manifest() -> ManifestBuilder {
    Manifest::builder(Kind::Reconstruction, "half").feature("a", None).feature("b", None)
}

fn golden(score: f64) -> Golden {
    Golden {
        input: vec![vec![2.0, 4.0], vec![0.0, 2.0]],
        score: Some(vec![Some(2.5), Some(score)]),
        output: Some(vec![Some(vec![1.0, 2.0]), Some(vec![0.0, 1.0])]),
        tolerance: 1e-4,
    }
}

fn good() -> Manifest {
    manifest().golden(golden(0.5)).build().unwrap()
}

fn options(engine: EngineChoice) -> OpenOptions {
    OpenOptions { engine, ..OpenOptions::default() }
}

#[test]
fn a_manifest_is_found_in_the_metadata_beside_the_model_or_where_told() {
    let dir = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (dir.path().join("half.onnx"), dir.path().join("elsewhere.json"));
    let bytes = scaled_copy(2, 0.5).build();
    for engine in engines() {
        std::fs::write(&path, &bytes).unwrap();
        let error = Model::open(&path, &options(engine)).unwrap_err();
        assert!(matches!(&error, ModelError::NoManifest { .. }), "{error}");
        assert!(error.to_string().contains("half.json"), "{error}");

        std::fs::write(path.with_extension("json"), good().to_json()).unwrap();
        assert_eq!(Model::open(&path, &options(engine)).unwrap().manifest().version, "1");

        let embedded = Manifest { version: "2".into(), ..good() };
        std::fs::write(&path, embed(&bytes, &embedded).unwrap()).unwrap();
        assert_eq!(Model::open(&path, &options(engine)).unwrap().manifest().version, "2");

        std::fs::write(&elsewhere, Manifest { version: "3".into(), ..good() }.to_json()).unwrap();
        let manifest = ManifestSource::File(elsewhere.clone());
        let told = OpenOptions { manifest, ..options(engine) };
        assert_eq!(Model::open(&path, &told).unwrap().manifest().version, "3");
        std::fs::remove_file(path.with_extension("json")).unwrap();
    }
}

fn open(model: &OnnxBuilder, manifest: Manifest, engine: EngineChoice) -> Result<Model, ModelError> {
    let options = OpenOptions { manifest: ManifestSource::Given(Box::new(manifest)), ..options(engine) };
    Model::from_bytes(model.build(), "half.onnx", &options)
}

#[test]
fn golden_rows_must_come_out_on_the_engine_that_serves() {
    for engine in engines() {
        assert!(open(&scaled_copy(2, 0.5), good(), engine).is_ok());
        let wrong_score = manifest().golden(golden(0.6)).build().unwrap();
        let error = open(&scaled_copy(2, 0.5), wrong_score, engine).unwrap_err();
        assert!(matches!(&error, ModelError::Golden { row: 1, what, .. } if what == "score"), "{error}");
        assert!(error.to_string().contains("is 0.5, but training saw 0.6"), "{error}");
        // The same golden rows refuse a file with other weights.
        let error = open(&scaled_copy(2, 0.51), good(), engine).unwrap_err();
        assert!(matches!(&error, ModelError::Golden { row: 0, .. }), "{error}");
    }
}

#[test]
fn a_model_without_golden_rows_needs_the_explicit_option() {
    for engine in engines() {
        let without = manifest().build().unwrap();
        let error = open(&scaled_copy(2, 0.5), without.clone(), engine).unwrap_err();
        assert!(error.to_string().contains(r#"golden = "none""#), "{error}");
        let manifest = ManifestSource::Given(Box::new(without));
        let allowed = OpenOptions { manifest, golden: GoldenRule::None, ..options(engine) };
        assert!(Model::from_bytes(scaled_copy(2, 0.5).build(), "half.onnx", &allowed).is_ok());
    }
}

#[test]
fn golden_rows_of_next_event_start_without_a_score() {
    let manifest = |second: Option<f64>| {
        let golden = Golden {
            input: vec![vec![1.0], vec![3.0], vec![6.0]],
            score: Some(vec![None, second, Some(0.0)]),
            output: None,
            tolerance: 1e-4,
        };
        Manifest::builder(Kind::NextEvent, "next").feature("a", None).golden(golden).build().unwrap()
    };
    for engine in engines() {
        assert!(open(&scaled_copy(1, 2.0), manifest(Some(1.0)), engine).is_ok());
        let error = open(&scaled_copy(1, 2.0), manifest(None), engine).unwrap_err();
        assert!(error.to_string().contains("is 1, but training saw absent"), "{error}");
    }
}

#[test]
fn a_model_whose_rows_depend_on_each_other_is_refused() {
    // Subtracts the mean over the batch.
    let mixes = OnnxBuilder::new()
        .input("x", &[None, Some(2)])
        .output("y", &[None, Some(2)])
        .node("ReduceMean", &["x"], &["mean"])
        .attribute("keepdims", 1)
        .axes(&[0])
        .node("Sub", &["x", "mean"], &["y"]);
    let golden = Golden {
        input: vec![vec![1.0, 1.0], vec![3.0, 3.0]],
        score: Some(vec![Some(4.0), Some(4.0)]),
        output: None,
        tolerance: 1e-4,
    };
    for engine in engines() {
        let error = open(&mixes, manifest().golden(golden.clone()).build().unwrap(), engine).unwrap_err();
        match engine {
            // The padding of a block is rows, too, so that already all rows together come out wrong.
            EngineChoice::Tract => assert!(matches!(&error, ModelError::Golden { row: 0, .. }), "{error}"),
            _ => assert!(matches!(&error, ModelError::RowsDepend { row: 0, .. }), "{error}"),
        }
    }
}

#[test]
fn refusals_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loop.onnx");
    std::fs::write(&path, scaled_copy(2, 0.5).node("Loop", &["x"], &["z"]).build()).unwrap();
    let error = Model::open(&path, &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("loop.onnx is refused: operator `ai.onnx:Loop`"), "{error}");
    let error = Model::open(&dir.path().join("absent.onnx"), &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("absent.onnx"), "{error}");
    let small = OpenOptions {
        limits: iotml_model::precheck::Limits { max_bytes: 16, ..Default::default() },
        ..OpenOptions::default()
    };
    let error = Model::open(&path, &small).unwrap_err().to_string();
    assert!(error.contains("is above the limit of 16"), "{error}");
}

#[test]
fn registered_scorer_opens_from_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.onnx");
    std::fs::write(&path, embed(&scaled_copy(2, 0.5).build(), &good()).unwrap()).unwrap();
    let mut registry = Registry::default();
    iotml_model::register(&mut registry);
    assert_eq!(registry.names(Stage::Score), ["kmeans", "onnx"]);
    let context = BuildContext { pipeline: "p".into(), task: 0, n_tasks: 1 };
    let task = TaskContext::single("p");
    for engine in engines() {
        let config = serde_json::json!({ "model": path, "engine": engine, "threshold": { "value": 1.0 } });
        let mut scorer = registry.scorers["onnx"].build(config, &context).unwrap();
        block_on(scorer.open(&task)).unwrap();
        let output = scorer.score(batch(&[("a", &[2.0]), ("b", &[4.0])])).unwrap();
        assert_eq!(floats(&output, "score"), [Some(2.5)]);
    }
    let misspelt = serde_json::json!({ "model": path, "treshold": 1.0 });
    let error = registry.scorers["onnx"].build(misspelt, &context).err().unwrap().to_string();
    assert!(error.contains("treshold"), "{error}");
}

#[test]
fn what_needs_no_engine_is_checked_before_the_scorer_is_opened() {
    let refused = |config: OnnxScorerConfig| {
        let error = OnnxScorer::new(config).err().unwrap();
        (error.key.clone(), error.to_string())
    };
    let (key, message) = refused(OnnxScorerConfig::new("/nowhere/model.onnx"));
    assert_eq!(key.as_deref(), Some("model"));
    assert!(message.contains("cannot read /nowhere/model.onnx"), "{message}");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("next.onnx");
    let next = Manifest::builder(Kind::NextEvent, "next").feature("a", None).build().unwrap();
    std::fs::write(&path, embed(&scaled_copy(1, 1.0).build(), &next).unwrap()).unwrap();
    let config = || OnnxScorerConfig { golden: GoldenRule::None, ..OnnxScorerConfig::new(&path) };
    let manifest = Some(dir.path().join("absent.json"));
    assert_eq!(refused(OnnxScorerConfig { manifest, ..config() }).0.as_deref(), Some("manifest"));
    let threshold = Some(Threshold::per_feature([("b", 1.0)]));
    assert!(refused(OnnxScorerConfig { threshold, ..config() }).1.contains("`threshold`"));
    let mut scorer = OnnxScorer::new(config()).unwrap();
    assert!(scorer.model().is_none() && scorer.state().is_some(), "a model that remembers is known as such");
}

#[test]
fn a_model_that_its_engine_refuses_stops_the_task_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("half.onnx");
    let wrong = manifest().golden(golden(0.6)).build().unwrap();
    std::fs::write(&path, embed(&scaled_copy(2, 0.5).build(), &wrong).unwrap()).unwrap();
    for engine in engines() {
        let mut scorer = OnnxScorer::new(OnnxScorerConfig { engine, ..OnnxScorerConfig::new(&path) }).unwrap();
        assert!(scorer.state().is_none());
        let error = block_on(scorer.open(&TaskContext::single("p"))).unwrap_err();
        assert!(error.to_string().contains("is 0.5, but training saw 0.6"), "{error}");
        assert!(scorer.model().is_none());
        assert!(block_on(scorer.open(&TaskContext::single("p"))).is_err());
        assert!(scorer.score(batch(&[("a", &[0.0]), ("b", &[0.0])])).is_err());
    }
}

#[test]
fn metadata_names_the_model_in_service_and_counts_anomalies() {
    for engine in engines() {
        let opened =
            open(&scaled_copy(2, 0.5), manifest().fixed_threshold(2.0).golden(golden(0.5)).build().unwrap(), engine);
        let mut scorer = OnnxScorer::with_model(opened.unwrap(), OnnxScorerConfig::new("")).unwrap();
        let task = TaskContext::single("p");
        block_on(scorer.open(&task)).unwrap();
        score(&mut scorer, batch(&[("a", &[2.0, 0.0, f32::NAN]), ("b", &[4.0, 0.0, 9.0])]));
        let text = task.metrics.text().unwrap();
        assert!(text.contains("iotml_score_model_info{") && text.contains("model=\"half\""), "{text}");
        let line = text.lines().find(|line| line.starts_with("iotml_score_anomalies_total")).unwrap();
        assert!(line.ends_with(" 1"), "{line}");
    }
}
