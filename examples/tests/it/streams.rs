//! Simulator, bridge, scoring and a plug-in of one's own, one behind the other on real servers.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use iotml_core::testing::servers;

use crate::{check, command, fresh, run};

#[test]
fn cars_are_bridged_scored_and_tallied() {
    let (Some(kafka), Some(mqtt)) = (servers::kafka(), servers::hivemq()) else { return };
    let (raw, scored) = (fresh("raw"), fresh("scored"));
    let mut bridge = command(
        env!("CARGO_BIN_EXE_mqtt_to_kafka"),
        &["--mqtt", &mqtt, "--kafka", &kafka, "--topic", &raw, "--seconds", "12"],
    );
    let mut bridge = bridge.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The bridge must have subscribed before a car speaks, or a message has no one to go to.
    let mut first = String::new();
    BufReader::new(bridge.stderr.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("ready"), "{first}");
    let text = run(
        env!("CARGO_BIN_EXE_car_simulator"),
        &["mqtt", "--server", &mqtt, "--cars", "20", "--messages", "10", "--rate", "5", "--ramp-up", "0.5"],
        0,
    );
    assert!(text.contains("200 of 200 messages acknowledged"), "{text}");
    let text = check("mqtt_to_kafka", &bridge.wait_with_output().unwrap(), 0);
    assert!(text.contains("received 200 = delivered 200"), "{text}");

    let text = run(env!("CARGO_BIN_EXE_score_stream"), &["--kafka", &kafka, "--input", &raw, "--output", &scored], 0);
    assert!(text.contains("received 200 = delivered 200"), "{text}");

    let mut plugin = command(env!("CARGO_BIN_EXE_custom_plugin"), &["run", "examples/config/custom_plugin.toml"]);
    let output = plugin.env("KAFKA", &kafka).env("TOPIC", &raw).output().unwrap();
    check("custom_plugin", &output, 0);
}

#[test]
fn the_simulator_writes_files_that_others_read() {
    let folder = tempfile::tempdir().unwrap();
    let [csv, avro] = ["cars.csv", "cars.avro"].map(|name| folder.path().join(name).display().to_string());
    run(env!("CARGO_BIN_EXE_car_simulator"), &["csv", "--cars", "5", "--ticks", "10", "--out", &csv], 0);
    assert_eq!(std::fs::read_to_string(csv).unwrap().lines().count(), 51);
    run(env!("CARGO_BIN_EXE_car_simulator"), &["avro", "--cars", "5", "--ticks", "10", "--out", &avro], 0);
    let reader = apache_avro::Reader::new(std::fs::File::open(avro).unwrap()).unwrap();
    let records = reader.collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(records.len(), 50);
}
