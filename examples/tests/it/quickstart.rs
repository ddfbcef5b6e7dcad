//! The quickstart ends by itself with a clean audit, on embedded and on real servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use iotml_core::testing::servers;

use crate::{command, run};

const QUICKSTART: &str = env!("CARGO_BIN_EXE_quickstart");

#[test]
fn inv_1_4_7_the_embedded_demo_loses_nothing_and_finds_the_poison() {
    let text = run(
        QUICKSTART,
        &["--cars", "60", "--rate", "4", "--seconds", "12", "--poison", "200", "--metrics", "127.0.0.1:0"],
        0,
    );
    assert!(text.contains("clean: nothing was lost"), "{text}");
    let audit = text.lines().find(|line| line.contains("published")).unwrap();
    assert!(!audit.contains("dead-lettered 0"), "two of a hundred messages are broken on purpose: {audit}");
}

#[test]
fn inv_1_4_the_demo_on_real_servers_loses_nothing() {
    let (Some(kafka), Some(mosquitto)) = (servers::kafka(), servers::mosquitto()) else { return };
    let text = run(
        QUICKSTART,
        &[
            "--cars",
            "60",
            "--rate",
            "4",
            "--seconds",
            "10",
            "--poison",
            "100",
            "--metrics",
            "127.0.0.1:0",
            "--kafka",
            &kafka,
            "--mqtt",
            &mosquitto,
        ],
        0,
    );
    assert!(text.contains("clean: nothing was lost"), "{text}");
}

#[test]
fn a_server_that_is_not_there_is_one_clear_message() {
    let text = run(QUICKSTART, &["--kafka", "127.0.0.1:1", "--seconds", "1", "--metrics", "127.0.0.1:0"], 1);
    let message = text.lines().last().unwrap();
    assert!(message.starts_with("quickstart: ") && message.contains("127.0.0.1:1"), "{text}");
}

#[test]
fn metrics_during_the_demo_please_promtool() {
    let Some(promtool) = servers::server("IOTML_PROMTOOL") else { return };
    let mut demo = command(QUICKSTART, &["--cars", "20", "--seconds", "8", "--metrics", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        line.strip_prefix("metrics at http://").and_then(|rest| rest.strip_suffix("/metrics")).map(str::to_owned)
    });
    let address = address.expect("the demo says where its metrics are");
    let metrics = get(&address, "/metrics");
    assert!(metrics.contains("iotml_pipeline_received_rows_total{pipeline=\"bridge\""), "{metrics}");
    assert!(get(&address, "/healthz").contains("received"));
    let mut check = Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::piped()).spawn().unwrap();
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    assert!(check.wait().unwrap().success(), "{metrics}");
    // Read on, so that the demo does not wait for its own output.
    lines.for_each(drop);
    assert!(demo.wait().unwrap().success());
}

/// The body of an answer to a plain GET, in the text format that promtool reads.
fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\nAccept: text/plain;version=0.0.4\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(" 200 "), "{answer}");
    body.to_owned()
}
