//! The reference recording through both brokers, against NumPy and TensorFlow.

use std::path::Path;

use iotml_core::testing::servers;

use crate::run;

const REPLAY: &str = env!("CARGO_BIN_EXE_csv_replay");

/// What the replay and its check both read.
const INPUTS: [(&str, &str); 3] =
    [("--csv", "car-sensor-data.csv"), ("--normalization", "normalization.json"), ("--model", "autoencoder-18.onnx")];

fn inputs(seed: &Path) -> Vec<String> {
    INPUTS.iter().flat_map(|(flag, file)| [(*flag).to_owned(), path(&seed.join(file))]).collect()
}

/// Replays the recording; what it printed.
fn replay(seed: &Path, mqtt: &str, kafka: &str, more: [&str; 2]) -> String {
    let inputs = inputs(seed);
    let mut arguments: Vec<&str> = inputs.iter().map(String::as_str).collect();
    arguments.extend(["--mqtt", mqtt, "--kafka", kafka]);
    arguments.extend(more);
    run(REPLAY, &arguments, 0)
}

/// Replays all rows through the broker at `mqtt` and has Python check every score.
fn replay_and_check(mqtt: Option<String>) {
    let (Some(mqtt), Some(kafka), Some(seed)) = (mqtt, servers::kafka(), servers::seed_data()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let scores = path(&folder.path().join("scores.csv"));
    let text = replay(&seed, &mqtt, &kafka, ["--out", &scores]);
    assert!(text.contains("10000 predictions, 0 dead letters, 0 filtered"), "{text}");
    let python = std::env::var("IOTML_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let (inputs, golden) = (inputs(&seed), path(&seed.join("autoencoder-18.golden.npz")));
    let mut arguments = vec!["examples/check_replay.py"];
    arguments.extend(inputs.iter().map(String::as_str));
    arguments.extend(["--golden", &golden, "--scores", &scores]);
    println!("{}", run(&python, &arguments, 0));
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn ten_thousand_rows_through_mosquitto_score_as_numpy_and_tensorflow_do() {
    replay_and_check(servers::mosquitto());
}

#[test]
fn ten_thousand_rows_through_hivemq_score_as_numpy_and_tensorflow_do() {
    replay_and_check(servers::hivemq());
}

#[test]
fn inv_7_dirty_rows_become_dead_letters_in_the_number_stated_before() {
    let (Some(mqtt), Some(kafka), Some(seed)) = (servers::mosquitto(), servers::kafka(), servers::seed_data()) else {
        return;
    };
    let text = replay(&seed, &mqtt, &kafka, ["--dirty", "dead-letter"]);
    assert!(text.contains("590 predictions, 9410 dead letters, 0 filtered"), "{text}");
}
