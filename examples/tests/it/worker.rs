//! The worker's command line on the configurations that come with it.

use iotml_model::Kind;
use iotml_model::manifest::{Manifest, embed};
use iotml_model::testing::scaled_copy;

use crate::{check, checkout, command, run};

const WORKER: &str = env!("CARGO_BIN_EXE_worker");

#[test]
fn every_configuration_that_comes_with_it_is_valid() {
    let mut n_files = 0;
    for entry in std::fs::read_dir(checkout().join("examples/config")).unwrap() {
        let file = entry.unwrap().path();
        // That one needs plug-ins which only its own example has.
        if file.ends_with("custom_plugin.toml") {
            continue;
        }
        n_files += 1;
        run(WORKER, &["validate", file.to_str().unwrap()], 0);
        assert!(run(WORKER, &["graph", "--format", "mermaid", file.to_str().unwrap()], 0).contains("flowchart"));
    }
    assert!(n_files >= 3);
}

#[test]
fn five_mistakes_are_reported_at_once_with_places_and_suggestions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.toml");
    let good = std::fs::read_to_string(checkout().join("examples/config/score.toml")).unwrap();
    let wrong = good
        .replace("\"tasks.max\" = 2", "\"tasks.max\" = \"two\"")
        .replace("\"errors.tolerance\" = \"all\"", "\"errors.tolerance\" = \"some\"")
        .replace("topics = [\"sensor-data\"]", "topicz = [\"sensor-data\"]")
        .replace("type = \"onnx\"", "type = \"onxx\"")
        .replace("key_field = \"car\"", "key_feild = \"car\"");
    std::fs::write(&file, wrong).unwrap();
    let text = run(WORKER, &["validate", file.to_str().unwrap()], 2);
    for part in ["tasks.max", "errors.tolerance", "topicz", "topics", "onxx", "onnx", "key_feild", "key_field"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

/// What `validate` says of the scoring configuration with `model` in the place of its model.
fn validate_with_model(model: &std::path::Path, change: impl Fn(String) -> String, expected: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("score.toml");
    let good = std::fs::read_to_string(checkout().join("examples/config/score.toml")).unwrap();
    let good = good.replace("testdata/cars/cars-autoencoder.onnx", model.to_str().unwrap());
    std::fs::write(&file, change(good)).unwrap();
    let mut worker = command(WORKER, &["validate", file.to_str().unwrap()]);
    // Whatever would load it fails.
    let output = worker.env("ORT_DYLIB_PATH", folder.path().join("no-library.so")).output().unwrap();
    check(WORKER, &output, expected)
}

#[test]
fn a_model_that_is_missing_or_refused_is_a_mistake_at_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    let same = |text: String| text;
    let missing = validate_with_model(&model, same, 2);
    assert!(missing.contains(&format!("score.model: cannot read {}", model.display())), "{missing}");
    assert!(missing.contains("line "), "{missing}");

    std::fs::write(&model, "not an ONNX file").unwrap();
    let refused = validate_with_model(&model, same, 2);
    assert!(refused.contains("score.model: model ") && refused.contains(" is refused: "), "{refused}");

    let manifest = || Manifest::builder(Kind::Reconstruction, "cars").feature("speed", None);
    std::fs::write(&model, embed(&scaled_copy(1, 1.0).build(), &manifest().build().unwrap()).unwrap()).unwrap();
    let no_golden_rows = validate_with_model(&model, same, 2);
    assert!(no_golden_rows.contains("score.model: model cars has no golden rows"), "{no_golden_rows}");

    let with =
        |key: &'static str| move |text: String| text.replace("type = \"onnx\"", &format!("type = \"onnx\"\n{key}"));
    let absent = validate_with_model(&model, with("golden = \"none\"\nmanifest = \"/nowhere/cars.json\""), 2);
    assert!(absent.contains("score.manifest: cannot read /nowhere/cars.json"), "{absent}");
    validate_with_model(&model, with("golden = \"none\""), 0);
}

#[test]
fn inv_11_a_next_event_model_behind_a_shared_subscription_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    let from_mqtt = |text: String| {
        let (begin, rest) = text.split_once("[source]").unwrap();
        let (_, end) = rest.split_once("[decode]").unwrap();
        let source = "[source]\ntype = \"mqtt\"\nserver = \"mqtt://127.0.0.1:1883\"\ngroup = \"bridge\"\n\
                      [[source.topics]]\nfilter = \"vehicles/{car}\"\nkey = \"{car}\"\n\n[decode]";
        format!("{begin}{source}{end}").replace("type = \"onnx\"", "type = \"onnx\"\ngolden = \"none\"")
    };
    for (kind, is_warned_of) in [(Kind::NextEvent, true), (Kind::Reconstruction, false)] {
        let manifest = Manifest::builder(kind, "cars").feature("speed", None).build().unwrap();
        std::fs::write(&model, embed(&scaled_copy(1, 1.0).build(), &manifest).unwrap()).unwrap();
        let text = validate_with_model(&model, from_mqtt, 0);
        assert_eq!(
            text.contains("source.group: one device's messages come over several connections"),
            is_warned_of,
            "{text}"
        );
        assert_eq!(text.contains("the state of score is kept in memory only"), is_warned_of, "{text}");
    }
}

#[test]
fn all_plugins_are_listed_and_described() {
    let list = run(WORKER, &["plugins"], 0);
    for name in ["mqtt", "kafka", "json", "csv", "avro", "confluent_avro", "onnx", "filter", "stdout", "threshold"] {
        assert!(list.contains(name), "{name} is not in\n{list}");
    }
    assert!(run(WORKER, &["plugins", "describe", "onnx"], 0).contains("golden"));
    let schema: serde_json::Value = serde_json::from_str(&run(WORKER, &["schema"], 0)).unwrap();
    assert!(schema["properties"]["route"].is_object());
}
