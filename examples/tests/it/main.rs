//! The examples as a user runs them: as processes, most of them against the real servers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod exactly_once;
mod kafka;
mod letters;
mod models;
mod outage;
mod published;
mod quickstart;
mod replay;
mod rollout;
mod secrets;
mod streams;
mod watch;
mod worker;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs a program to its end and returns what it printed; panics with all of it unless it exits as expected.
fn run(program: &str, arguments: &[&str], expected: i32) -> String {
    let output = command(program, arguments).output().expect("the program starts");
    check(program, &output, expected)
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(checkout()).stdin(Stdio::null());
    command
}

fn check(program: &str, output: &Output, expected: i32) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(expected), "{program} printed:\n{text}");
    text
}

/// The root of the repository.
fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A name that no other run has.
fn fresh(name: &str) -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{name}-{}-{nanos}", std::process::id())
}
