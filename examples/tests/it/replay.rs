//! The reference recording through both brokers, against NumPy and TensorFlow.

use std::path::Path;

use iotml_core::testing::servers;

use crate::run;

const REPLAY: &str = env!("CARGO_BIN_EXE_csv_replay");

/// Replays all rows through the broker at `mqtt` and has Python check every score.
fn replay_and_check(mqtt: Option<String>) {
    let (Some(mqtt), Some(kafka), Some(seed)) = (mqtt, servers::kafka(), servers::seed_data()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let scores = folder.path().join("scores.csv");
    let [csv, normalization, model, golden] =
        ["car-sensor-data.csv", "normalization.json", "autoencoder-18.onnx", "autoencoder-18.golden.npz"]
            .map(|name| path(&seed.join(name)));
    let scores = path(&scores);
    let text = run(
        REPLAY,
        &[
            "--csv",
            &csv,
            "--normalization",
            &normalization,
            "--model",
            &model,
            "--mqtt",
            &mqtt,
            "--kafka",
            &kafka,
            "--out",
            &scores,
        ],
        0,
    );
    assert!(text.contains("10000 predictions, 0 dead letters, 0 filtered"), "{text}");
    let python = std::env::var("IOTML_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let text = run(
        &python,
        &[
            "examples/check_replay.py",
            "--csv",
            &csv,
            "--normalization",
            &normalization,
            "--model",
            &model,
            "--golden",
            &golden,
            "--scores",
            &scores,
        ],
        0,
    );
    println!("{text}");
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
    let [csv, normalization, model] =
        ["car-sensor-data.csv", "normalization.json", "autoencoder-18.onnx"].map(|name| path(&seed.join(name)));
    let arguments = [
        "--csv",
        &csv,
        "--normalization",
        &normalization,
        "--model",
        &model,
        "--mqtt",
        &mqtt,
        "--kafka",
        &kafka,
        "--dirty",
        "dead-letter",
    ];
    let text = run(REPLAY, &arguments, 0);
    assert!(text.contains("590 predictions, 9410 dead letters, 0 filtered"), "{text}");
}
