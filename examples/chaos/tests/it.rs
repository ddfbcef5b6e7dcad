//! The fault harness as `make chaos` runs it, but short: one seed a broker, and the proof that it can fail.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use iotml_core::testing::servers;

/// Each run has all the servers; two at once would only be slow.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn chaos(arguments: &[&str]) -> (Output, String) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("the harness starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    println!("{text}");
    (output, text)
}

#[test]
fn inv_1_4_6_11_hold_under_faults_over_mosquitto() {
    if servers::mosquitto().is_some() {
        let (output, text) = chaos(&["--broker", "mosquitto", "--short", "--first", "1"]);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("1 seeds, 0 failed: 9600 messages acknowledged, 0 lost"), "{text}");
    }
}

#[test]
fn inv_1_4_6_11_hold_under_faults_over_hivemq() {
    if servers::hivemq().is_some() {
        let (output, text) = chaos(&["--broker", "hivemq", "--short", "--first", "2"]);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("1 seeds, 0 failed: 4000 messages acknowledged, 0 lost"), "{text}");
    }
}

/// Otherwise the two above would show nothing.
#[test]
fn inv_1_a_bridge_that_acknowledges_early_is_found_out() {
    if servers::mosquitto().is_some() {
        let (output, text) = chaos(&["--broker", "mosquitto", "--short", "--early-ack"]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("acknowledged messages are not in Kafka (invariant 1)"), "{text}");
    }
}
