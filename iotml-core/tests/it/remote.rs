//! A running worker asked and steered: by its subcommands, by REST, and by signals.

use std::net::SocketAddr;
use std::process::Command;

use super::cli::{ENDLESS, Folder, Running, command, text, worker_says};
use super::http::get;
use super::rest::call;

const TOKEN: &str = "hunter4-hunter4-hunter4";

/// A worker, and where it listens.
fn listening(config: &str) -> (Folder, Running, SocketAddr) {
    let folder = Folder::new();
    let mut worker = Running::start(&["run", text(&folder.file("p.toml", config))]);
    let line: serde_json::Value = serde_json::from_str(&worker.wait_for("/metrics")).unwrap();
    let address = line["address"].as_str().unwrap().parse().unwrap();
    (folder, worker, address)
}

fn delivered(address: SocketAddr) {
    while !get(address, "/healthz").contains("delivered 25 ") {}
}

/// Waits until `/healthz` says so; a failure may come before the worker has finished starting.
fn unhealthy(address: SocketAddr, text: &str) {
    let is_unhealthy = || {
        let healthz = get(address, "/healthz");
        healthz.starts_with("HTTP/1.1 503 ") && healthz.contains(text)
    };
    super::pipeline::wait_until(text, is_unhealthy);
}

fn say(address: SocketAddr, arguments: &[&str]) -> (i32, String, String) {
    worker_says(&[arguments, &[&format!("http://{address}")]].concat())
}

#[test]
fn a_running_worker_is_audited_and_steered() {
    let (_folder, mut worker, address) = listening(ENDLESS);
    delivered(address);
    let (code, out, err) = say(address, &["audit"]);
    let expect = "pipeline  task  received  delivered  dead_lettered  filtered  skipped  returned  in_flight\n\
                  p            0        25         25              0         0        0         0          0\n";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expect, ""));

    let state = || call(address, "GET", "/connectors/p/status", "", "").1["connector"]["state"].clone();
    assert_eq!(say(address, &["pause", "p"]), (0, String::new(), String::new()));
    while state() != "PAUSED" {}
    let (code, out, _) = say(address, &["status"]);
    assert!(code == 0 && out.contains("PAUSED"), "{out}");
    assert_eq!(say(address, &["resume", "p"]).0, 0);
    while state() != "RUNNING" {}
    assert_eq!(say(address, &["restart", "p", "--task", "0"]).0, 0);
    assert_eq!(say(address, &["restart", "p", "--only-failed"]).0, 0);
    let (code, _, err) = say(address, &["pause", "q"]);
    assert_eq!((code, err), (1, format!("error: {address}: Connector q not found\n")));
    let (code, _, err) = say(address, &["restart", "p", "--task", "4"]);
    assert_eq!((code, err), (1, format!("error: {address}: Task 4 of connector p not found\n")));

    assert_eq!(call(address, "PUT", "/connectors/p/stop", "", "").0, 204);
    while state() != "STOPPED" {}
    let (code, _, err) = say(address, &["restart", "p"]);
    assert_eq!((code, err.as_str()), (1, "error: p is stopped, and stays so until it is resumed\n"));
    assert_eq!(say(address, &["leave", "p"]).0, 0);
    assert_eq!(worker.code(), Some(0), "{:#?}", worker.seen);
    let (code, _, err) = say(address, &["audit"]);
    assert!(code == 1 && err.starts_with(&format!("error: no worker answers at {address}: ")), "{err}");
}

#[test]
fn inv_10_a_token_is_asked_for_and_never_shown() {
    let config = ENDLESS.replace("[http]\n", &format!("[http]\ntoken = \"{TOKEN}\"\n"));
    let (_folder, mut worker, address) = listening(&config);
    delivered(address);
    let (code, _, err) = say(address, &["audit"]);
    assert_eq!(code, 1);
    assert!(err.contains("a token is needed") && err.ends_with("; set IOTML_TOKEN\n"), "{err}");
    let url = format!("http://{address}");
    let wrong = command(&["status", &url]).env("IOTML_TOKEN", "hunter5-hunter5-hunter5").output().unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("the token is wrong"));
    let right = command(&["status", &url]).env("IOTML_TOKEN", TOKEN).output().unwrap();
    let out = String::from_utf8_lossy(&right.stdout).into_owned();
    assert!(right.status.success() && out.contains("RUNNING"), "{out}");
    let header = format!("Authorization: Bearer {TOKEN}\r\n");
    let (status, shown) = call(address, "GET", "/connectors/p/config", &header, "");
    assert_eq!((status, &shown["http.token"]), (200, &serde_json::json!("***")));
    worker.signal("TERM");
    assert_eq!(worker.code(), Some(0));
    let said = worker.seen.join("\n") + &shown.to_string() + &out;
    assert!(!said.contains("hunter"), "{said}");
}

#[test]
fn levels_of_the_log_change_while_it_runs() {
    let (_folder, mut worker, address) = listening(ENDLESS);
    let ask = |method, path, body| call(address, method, path, "", body);
    assert_eq!(ask("GET", "/admin/loggers", "").1, serde_json::json!({ "root": { "level": "INFO" } }));
    let (status, changed) = ask("PUT", "/admin/loggers/iotml_core::cli", "{\"level\": \"ERROR\"}");
    assert_eq!((status, changed), (200, serde_json::json!(["iotml_core::cli"])));
    assert_eq!(ask("GET", "/admin/loggers/iotml_core::cli", "").1, serde_json::json!({ "level": "ERROR" }));
    assert_eq!(ask("PUT", "/admin/loggers/iotml_core::cli", "{\"level\": \"LOUD\"}").0, 400);
    assert_eq!(ask("PUT", "/admin/loggers/a=b,c", "{\"level\": \"INFO\"}").0, 400);
    worker.signal("TERM");
    assert_eq!(worker.code(), Some(0));
    let said = worker.seen.join("\n");
    assert!(!said.contains("stopping: draining"), "warnings of the command line are off: {said}");
}

#[test]
fn sigusr1_makes_an_instance_leave() {
    let (_folder, mut worker, address) = listening(ENDLESS);
    delivered(address);
    worker.signal("USR1");
    worker.wait_for("leaving: receiving what is still meant for this instance");
    assert_eq!(worker.code(), Some(0), "{:#?}", worker.seen);
}

#[test]
fn a_worker_restarts_a_failed_task_and_ends_with_1_when_nothing_can_go_on() {
    let failing =
        ENDLESS.replace("{ type = \"kafka\", topic = \"hunter2-topic\" }", "{ type = \"flaky\", n_failures = 1 }");
    let quick = failing.replace("name = \"p\"", "name = \"p\"\nrestart_max = 2\nrestart_backoff_max = \"1ms\"");
    let (_folder, mut worker, _) = listening(&quick);
    // Each set of stages has a sink of its own, which fails once.
    worker.wait_for("the task failed and is restarted");
    worker.wait_for("the task failed and is restarted");
    worker.wait_for("the task failed and is not restarted");
    assert_eq!(worker.code(), Some(1));
    let last = worker.seen.last().unwrap();
    assert!(last.contains("pipeline \\\"p\\\" failed: sink \\\"all\\\" failed: the disk is full"), "{last}");
}

#[test]
fn a_worker_that_is_to_stay_shows_the_failure_and_waits() {
    let failing =
        ENDLESS.replace("{ type = \"kafka\", topic = \"hunter2-topic\" }", "{ type = \"flaky\", n_failures = 1 }");
    let staying = failing.replace("name = \"p\"", "name = \"p\"\nrestart_max = 0\non_failure = \"stay\"");
    let (_folder, mut worker, address) = listening(&staying);
    worker.wait_for("the task failed and is not restarted");
    unhealthy(address, "p: FAILED: sink \"all\" failed: the disk is full");
    assert!(get(address, "/metrics").contains("iotml_pipeline_task_failed{pipeline=\"p\",task=\"0\"} 1"));
    let (code, out, _) = say(address, &["status"]);
    assert!(code == 1 && out.contains("FAILED") && out.contains("the disk is full"), "{out}");
    // What was in flight is the source's again, and the sum closes.
    let (code, out, _) = say(address, &["audit"]);
    assert!(code == 0 && out.lines().nth(1).is_some_and(|line| line.ends_with("  0")), "{out}");
    worker.signal("TERM");
    assert_eq!(worker.code(), Some(1), "it ended with a task that had failed");
}

#[test]
fn one_pipeline_that_fails_leaves_the_others_running() {
    let folder = Folder::new();
    let good = folder.file("p.toml", ENDLESS);
    let failing = ENDLESS
        .replace("{ type = \"kafka\", topic = \"hunter2-topic\" }", "{ type = \"flaky\", n_failures = 9 }")
        .replace("name = \"p\"", "name = \"q\"\nrestart_max = 0");
    let failing = folder.file("q.toml", &failing);
    let mut worker = Running::start(&["run", text(&good), text(&failing)]);
    let line: serde_json::Value = serde_json::from_str(&worker.wait_for("/metrics")).unwrap();
    let address: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    worker.wait_for("the task failed and is not restarted");
    delivered(address);
    unhealthy(address, "q: FAILED");
    assert!(worker.child.try_wait().unwrap().is_none(), "p goes on");
    assert!(Command::new("kill").args(["-TERM", &worker.child.id().to_string()]).status().unwrap().success());
    assert_eq!(worker.code(), Some(1));
}
