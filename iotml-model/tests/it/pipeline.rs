//! A model in a running pipeline: dead letters, and state over a restart.

use std::sync::Arc;

use iotml_core::arrow::array::{Array, AsArray};
use iotml_core::arrow::datatypes::Float32Type;
use iotml_core::batch::{Batch, Message, Messages};
use iotml_core::encode::{EncodeError, Encoded, Encoder, envelope};
use iotml_core::error::ConfigError;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Audit, Pipeline, PipelineSpec, Route, TaskStages, Tolerance};
use iotml_core::score::Scorer;
use iotml_core::state::FileStateStore;
use iotml_core::testing::{MemoryLog, MemorySink};
use iotml_model::kmeans::{KMeansScorer, KMeansScorerConfig, KMeansThreshold};
use iotml_model::manifest::{Feature, ManifestBuilder, embed};
use iotml_model::testing::scaled_copy;
use iotml_model::{EngineChoice, GoldenRule, Kind, Manifest, OnnxScorer, OnnxScorerConfig};

use crate::setup::{Numbers, engines};

/// The score as text.
struct Scores;

impl Encoder for Scores {
    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
        let scores = batch.column("score").unwrap().as_primitive::<Float32Type>();
        let mut messages = Messages::default();
        for row in 0..batch.len() {
            let text = if scores.is_null(row) { "none".to_owned() } else { scores.value(row).to_string() };
            messages.push(Message { payload: Some(text.as_bytes()), ..envelope(batch, row) });
        }
        Ok(Encoded { messages, rejected: vec![] })
    }
}

struct World {
    folder: tempfile::TempDir,
    log: MemoryLog,
    sink: Arc<MemorySink>,
    dead: Arc<MemorySink>,
}

impl World {
    fn new(manifest: ManifestBuilder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bytes = embed(&scaled_copy(1, 1.0).build(), &manifest.build().unwrap()).unwrap();
        std::fs::write(folder.path().join("model.onnx"), bytes).unwrap();
        World { folder, log: MemoryLog::default(), sink: MemorySink::new(), dead: MemorySink::new() }
    }

    /// Runs a pipeline over what is not acknowledged yet, until it is.
    fn run(&self, engine: EngineChoice, values: &[&str]) -> Audit {
        let config = OnnxScorerConfig {
            engine,
            golden: GoldenRule::None,
            ..OnnxScorerConfig::new(self.folder.path().join("model.onnx"))
        };
        self.run_with(values, move || Ok(Box::new(OnnxScorer::new(config.clone())?))).0
    }

    /// The same with any scorer; what was measured comes along.
    fn run_with(
        &self,
        values: &[&str],
        scorer: impl Fn() -> Result<Box<dyn Scorer>, ConfigError> + Send + Sync + 'static,
    ) -> (Audit, String) {
        let message = |value: &&str| (Some(b"car1".to_vec()), Some(value.as_bytes().to_vec()));
        self.log.publish_keyed(values.iter().map(message));
        self.log.end();
        let (log, sink, dead) = (self.log.clone(), self.sink.clone(), self.dead.clone());
        let mut spec = PipelineSpec::new("cars", move |_| -> Result<TaskStages, ConfigError> {
            let route = Route::required("scores", Some(Box::new(Scores)), sink.clone());
            let mut stages = TaskStages::new(Box::new(log.source(2)), Box::new(Numbers), vec![route]);
            stages.scorer = Some(scorer()?);
            stages.dead_letter = Some(dead.clone());
            Ok(stages)
        });
        spec.state = Some(Arc::new(FileStateStore::new(self.folder.path().join("state"))));
        spec.options.tolerance = Tolerance::All;
        let metrics = Metrics::default();
        let summary = Pipeline::start(spec, metrics.clone()).unwrap().wait().unwrap();
        (summary.audit, metrics.text().unwrap())
    }
}

#[test]
fn inv_9_a_next_event_model_remembers_over_a_restart() {
    for engine in engines() {
        let world = World::new(Manifest::builder(Kind::NextEvent, "next").feature("a", None));
        world.run(engine, &["1", "2", "4"]);
        world.run(engine, &["7"]);
        // The model expects the same again, so the score is the squared step.
        assert_eq!(world.sink.texts(), ["none", "1", "4", "9"]);
    }
}

#[test]
fn inv_9_what_kmeans_has_learnt_is_there_after_a_restart_and_its_series_are_those_of_every_scorer() {
    let world = World::new(Manifest::builder(Kind::Reconstruction, "none").feature("a", None));
    let kmeans = || -> Result<Box<dyn Scorer>, ConfigError> {
        let feature = Feature { name: "a".to_owned(), scale: None, constant: None, impute: None };
        let mut config = KMeansScorerConfig::new(vec![feature]);
        (config.centres, config.warm_up) = (1, 3);
        config.threshold = KMeansThreshold { value: Some(4.0), quantile: None };
        Ok(Box::new(KMeansScorer::new(config)?))
    };
    let (audit, before) = world.run_with(&["1", "2", "3", "NaN"], kmeans);
    assert!(audit.balances(), "{audit:?}");
    let (_, after) = world.run_with(&["2", "9"], kmeans);
    // The centre is at 2, and nothing is warmed up anew.
    assert_eq!(world.sink.texts(), ["none", "none", "none", "0", "49"]);
    assert_eq!(world.dead.texts(), ["NaN"]);
    let labels = r#"pipeline="cars",task="0",model="kmeans",version="1""#;
    let figure = |text: &str, name: &str, more: &str| -> f64 {
        let start = format!("iotml_score_{name}{{{labels}{more}}} ");
        let found = text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok());
        found.unwrap_or_else(|| panic!("no {start} in {text}"))
    };
    let rows = |text: &str| {
        let of = |name| figure(text, name, "");
        (of("rows_total"), of("anomalies_total"), of("value_count"), of("value_sum"))
    };
    assert_eq!((rows(&before), rows(&after)), ((3.0, 0.0, 0.0, 0.0), (2.0, 1.0, 2.0, 49.0)));
    for (kind, n) in [("row", 1.0), ("score", 0.0), ("batch", 0.0)] {
        assert_eq!(figure(&before, "errors_total", &format!(r#",kind="{kind}""#)), n, "{kind}");
    }
    assert!(figure(&after, "batch_seconds_count", "") >= 1.0);
    assert_eq!(figure(&after, "model_info", r#",engine="kmeans""#), 1.0);
}

#[test]
fn inv_7_a_row_that_cannot_be_scored_is_dead_lettered_with_its_bytes() {
    for engine in engines() {
        let world = World::new(Manifest::builder(Kind::Reconstruction, "same").feature("a", None));
        let audit = world.run(engine, &["1", "NaN", "2", "inf", "3"]);
        assert_eq!(world.sink.texts(), ["0", "0", "0"]);
        assert_eq!(world.dead.texts(), ["NaN", "inf"]);
        assert!(audit.balances(), "{audit:?}");
        assert_eq!(world.log.acked(), 5);
    }
}
