//! The worker's command line on the configurations that come with it.

use crate::{checkout, run};

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
