//! The command line, run as a process of its own: this test binary, which becomes a worker when the environment says so.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use iotml_core::cli::{self, clap};
use iotml_core::plugin::Registry;

use super::config::{GOOD, registry};

/// Set to the arguments, one a line, in the process that is to be a worker.
const ARGUMENTS: &str = "IOTML_TEST_WORKER";

/// A subcommand as a connector brings it along.
struct Greet;

impl cli::Command for Greet {
    fn name(&self) -> &'static str {
        "greet"
    }

    fn about(&self) -> &'static str {
        "Greet someone"
    }

    fn arguments(&self, command: clap::Command) -> clap::Command {
        command.arg(clap::Arg::new("NAME").required(true))
    }

    fn run(&self, matches: &clap::ArgMatches, registry: &Arc<Registry>) -> ExitCode {
        println!("hello {} from {} sinks", matches.get_one::<String>("NAME").unwrap(), registry.sinks.len());
        ExitCode::SUCCESS
    }
}

#[test]
fn worker() {
    let mut registry = registry();
    registry.command(Greet);
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        let version = cli::main_with(registry, ["worker", "--version"].map(OsString::from));
        assert_eq!(format!("{version:?}"), format!("{:?}", ExitCode::SUCCESS));
        return;
    };
    let arguments = arguments.lines().map(OsString::from).collect::<Vec<_>>();
    let code = cli::main_with(registry, std::iter::once("worker".into()).chain(arguments));
    // An exit code cannot be taken apart, so it is compared.
    let number = (0..=2).find(|number| format!("{:?}", ExitCode::from(*number)) == format!("{code:?}"));
    std::process::exit(number.map_or(99, i32::from));
}

#[test]
fn a_worker_gives_its_own_name_with_the_version() {
    let (code, stdout, _) = worker_says(&["--version"]);
    assert_eq!((code, stdout.trim()), (0, concat!("worker ", env!("CARGO_PKG_VERSION"))));
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "cli::worker", "--nocapture", "--quiet"]).env(ARGUMENTS, arguments.join("\n"));
    command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, stdout without the test harness's own line, stderr.
pub(crate) fn worker_says(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(arguments).output().unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    let own = stdout.split_once("running 1 test\n").map_or(stdout.as_str(), |(_, own)| own);
    (status.code().unwrap(), own.to_owned(), String::from_utf8(stderr).unwrap())
}

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn validate_reports_five_mistakes_and_exits_with_2() {
    let folder = Folder::new();
    let good = folder.file("good.toml", GOOD);
    let wrong = GOOD
        .replacen("\"tasks.max\"", "\"tasks.maxx\"", 1)
        .replacen("\"all\"", "\"al\"", 1)
        .replacen("\"confluent_avro\"", "\"confluent_avor\"", 1)
        .replacen("topic = \"vehicles", "topicc = \"vehicles", 1)
        .replacen("model = \"cars.onnx\"", "model = 5", 1);
    let wrong = folder.file("wrong.toml", &wrong);
    let (code, out, err) = worker_says(&["validate", text(&good), text(&wrong)]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with(&format!("error: {} has 5 mistakes:\n  line 5: ", wrong.display())), "{err}");
    assert_eq!(err.lines().count(), 6, "{err}");

    let (code, out, err) = worker_says(&["validate", text(&good)]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, format!("{}: pipeline \"score-cars\" is valid\n", good.display()));
}

#[test]
fn inv_10_validate_shows_a_configuration_without_secrets() {
    let folder = Folder::new();
    let file = folder.file("cars.toml", GOOD);
    let (code, out, _) = worker_says(&["validate", "--show", text(&file)]);
    assert_eq!(code, 0);
    assert!(out.contains("\"sasl.password\": \"***\"") && out.contains("sensor-data"), "{out}");
    assert!(!out.contains("hunter"), "{out}");
}

#[test]
fn warnings_are_no_mistakes() {
    let folder = Folder::new();
    let file = folder.file("cars.toml", GOOD.split("[dead_letter]").next().unwrap());
    let (code, out, err) = worker_says(&["validate", text(&file)]);
    assert_eq!(code, 0);
    assert!(out.ends_with("is valid with 1 warning\n"), "{out}");
    let expect = "line 6: pipeline.\"errors.tolerance\": rows that fail for good are skipped and only counted";
    assert!(err.starts_with(&format!("warning: {}: {expect}", file.display())), "{err}");
}

#[test]
fn graph_draws_the_pipeline() {
    let folder = Folder::new();
    let file = folder.file("cars.toml", GOOD);
    let (code, out, _) = worker_says(&["graph", text(&file)]);
    let expect = r#"score-cars (2 tasks)
  source      kafka  topics = ["sensor-data"]
  decode      confluent_avro
  preprocess  clamp
  score       onnx  model = "cars.onnx"
  route       predictions (required)
    encode      json
    sink        kafka  topic = "model-predictions"
  route       alerts (best effort, when anomaly)
    encode      json
    sink        mqtt  topic = "vehicles/{key}/alerts"
  dead_letter kafka  topic = "sensor-data-dlq"
"#;
    assert_eq!((code, out.as_str()), (0, expect));

    let (code, out, _) = worker_says(&["graph", "--format", "mermaid", text(&file)]);
    let expect = r#"flowchart LR
  s0["source<br/>kafka"]
  s1["decode<br/>confluent_avro"]
  s0 --> s1
  s2["preprocess<br/>clamp"]
  s1 --> s2
  s3["score<br/>onnx"]
  s2 --> s3
  s3 -->|"predictions"| e0["encode<br/>json"]
  e0 --> r0[("sink<br/>kafka")]
  s3 -.->|"alerts when anomaly"| e1["encode<br/>json"]
  e1 -.-> r1[("sink<br/>mqtt")]
  s3 -. "rejected rows" .-> dead[("dead_letter<br/>kafka")]
"#;
    assert_eq!((code, out.as_str()), (0, expect));
}

#[test]
fn plugins_are_listed_and_described_with_defaults() {
    let (code, out, _) = worker_says(&["plugins"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("source\n  kafka           Receives from topics\ndecode\n"), "{out}");
    assert!(out.contains("\n  mqtt            Publishes to devices\n"), "{out}");

    let (_, out, _) = worker_says(&["plugins", "describe", "onnx"]);
    let expect = "score onnx: Scores with an ONNX model
  model  string, required
      An ONNX file.
  poll  string such as \"500ms\", default \"10s\"
      How often it is looked at.
";
    assert_eq!(out, expect);

    let (_, out, _) = worker_says(&["plugins", "describe", "source/kafka"]);
    for line in [
        "  topics  array of string, required\n      Topics to receive from.\n",
        "  kafka  table of string, default {}\n",
        "  login  table\n      How to log in.\n",
        "  login.method  \"plain\" | \"ticket\", required\n",
        "  login.password  secret string, required, only with method = \"plain\"\n",
        "  endless  boolean, default false\n",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let (_, out, _) = worker_says(&["plugins", "describe", "kafka"]);
    assert!(out.contains("source kafka: ") && out.contains("\nsink kafka: "), "{out}");
    assert!(out.contains("  compression  whole number 0..9, default 0\n      Between 0 and 9.\n"), "{out}");

    let (code, _, err) = worker_says(&["plugins", "describe", "kafak"]);
    assert_eq!((code, err.as_str()), (2, "error: there is no plug-in \"kafak\"; did you mean `kafka`?\n"));
}

#[test]
fn schema_is_json() {
    let (code, out, _) = worker_says(&["schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["pipeline"]["$ref"], "#/$defs/PipelineTable");
}

#[test]
fn plugins_bring_subcommands() {
    let (code, out, _) = worker_says(&["greet", "you"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("hello you from 5 sinks\n"), "{out}");
    let (code, out, _) = worker_says(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("greet") && out.contains("Greet someone") && out.contains("validate"), "{out}");
}

#[test]
#[should_panic(expected = "a subcommand \"greet\" is registered twice")]
fn a_subcommand_is_registered_once() {
    registry().command(Greet).command(Greet);
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    for arguments in [&["rnu"][..], &["run"], &["graph", "a.toml", "--format", "svg"], &["run", "absent.toml"]] {
        let (code, out, err) = worker_says(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(!err.is_empty() && !err.contains("panicked"), "{err}");
    }
}

/// A worker that runs until it is told to stop.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
    pub(crate) seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// The first line from here on that holds `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("the worker ended without saying {text:?}: {:#?}", self.seen);
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub(crate) fn code(&mut self) -> Option<i32> {
        self.seen.extend(self.lines.by_ref().map(|line| line.unwrap()));
        let mut rest = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) const ENDLESS: &str = "[pipeline]\nname = \"p\"\n[source]\ntype = \"kafka\"\ntopics = []\ncount = 25\nendless = true\n\
                       login = { method = \"plain\", user = \"alice\", password = \"hunter2\" }\n\
                       [[route]]\nname = \"all\"\nsink = { type = \"kafka\", topic = \"hunter2-topic\" }\n\
                       [http]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n";

#[test]
fn run_serves_http_and_drains_on_a_signal() {
    for signal in ["TERM", "INT"] {
        let folder = Folder::new();
        let mut worker = Running::start(&["run", text(&folder.file("p.toml", ENDLESS))]);
        let line = worker.wait_for("/metrics");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = line["address"].as_str().unwrap().parse().unwrap();
        worker.wait_for("the pipeline runs");
        while !super::http::get(address, "/readyz").starts_with("HTTP/1.1 200 ") {}
        assert!(super::http::get(address, "/healthz").starts_with("HTTP/1.1 200 "));
        assert!(super::http::get(address, "/metrics").contains("pipeline=\"p\""));
        while !super::http::get(address, "/healthz").contains("delivered 25 ") {}
        worker.signal(signal);
        assert_eq!(worker.code(), Some(0), "{:#?}", worker.seen);
        let said = worker.seen.join("\n");
        assert!(said.contains("stopping: draining what is in flight"), "{said}");
        assert!(said.contains("received 25 = delivered 25"), "{said}");
        assert!(!said.contains("hunter2"), "inv 10: {said}");
    }
}

#[test]
fn run_ends_when_its_source_ends() {
    let folder = Folder::new();
    let file = folder.file("p.toml", &ENDLESS.replace("endless = true", "endless = false"));
    let (code, _, err) = worker_says(&["run", text(&file)]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("received 25 = delivered 25"), "{err}");
}

#[test]
fn run_starts_nothing_when_the_port_is_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let (code, _, err) = worker_says(&[
        "run",
        text(&folder.file("p.toml", &ENDLESS.replace("127.0.0.1:0", &address).replace("json", "text"))),
    ]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("error: {address} is in use; stop the other process")), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn files_of_one_process_must_agree() {
    let folder = Folder::new();
    let first = folder.file("a.toml", ENDLESS);
    let same = folder.file("b.toml", ENDLESS);
    let other = folder.file("c.toml", &ENDLESS.replace("name = \"p\"", "name = \"q\"").replace("json", "text"));
    let (code, _, err) = worker_says(&["run", text(&first), text(&same)]);
    assert_eq!(code, 2);
    assert!(err.contains("b.toml: pipeline \"p\" is already in") && err.contains("a.toml"), "{err}");
    let (code, _, err) = worker_says(&["run", text(&first), text(&other)]);
    assert_eq!(code, 2);
    assert!(err.contains("differ in [log]; one process has only one"), "{err}");
    let loud = folder.file("d.toml", &ENDLESS.replace("format = \"json\"", "level = \"iotml=loud\""));
    let (code, _, err) = worker_says(&["validate", text(&loud)]);
    assert_eq!(code, 2);
    assert!(err.contains("log.level: \"iotml=loud\" is no level"), "{err}");
}

#[test]
fn a_worker_whose_log_nobody_reads_any_more_still_drains() {
    let folder = Folder::new();
    let mut worker = command(&["run", text(&folder.file("p.toml", ENDLESS))]).spawn().unwrap();
    let mut lines = BufReader::new(worker.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line: serde_json::Value = serde_json::from_str(&lines.find(|line| line.contains("/metrics")).unwrap()).unwrap();
    let address = line["address"].as_str().unwrap().parse().unwrap();
    drop(lines);
    while !super::http::get(address, "/healthz").contains("delivered 25 ") {}
    assert!(Command::new("kill").args(["-TERM", &worker.id().to_string()]).status().unwrap().success());
    let late = Instant::now() + Duration::from_secs(30);
    let status = loop {
        match worker.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < late => std::thread::yield_now(),
            None => {
                worker.kill().unwrap();
                panic!("the worker did not stop");
            }
        }
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_second_signal_ends_a_drain_that_hangs() {
    let folder = Folder::new();
    let hanging = ENDLESS.replace("{ type = \"kafka\", topic = \"hunter2-topic\" }", "{ type = \"hanging\" }");
    let mut worker = Running::start(&["run", text(&folder.file("p.toml", &hanging))]);
    let line: serde_json::Value = serde_json::from_str(&worker.wait_for("/metrics")).unwrap();
    let address = line["address"].as_str().unwrap().parse().unwrap();
    while !super::http::get(address, "/healthz").contains("in flight 25") {}
    worker.signal("TERM");
    worker.wait_for("stopping: draining what is in flight");
    worker.signal("INT");
    worker.wait_for("ended by a second signal");
    assert_eq!(worker.code(), Some(1));
}

#[test]
fn inv_10_a_stage_that_cannot_open_fails_the_worker_without_telling_its_secret() {
    let folder = Folder::new();
    let sink = "{ type = \"refusing\", password = \"hunter7\" }";
    let refusing = ENDLESS.replace("{ type = \"kafka\", topic = \"hunter2-topic\" }", sink);
    let (code, out, err) = worker_says(&["run", text(&folder.file("p.toml", &refusing))]);
    assert_eq!((code, out.as_str()), (1, ""));
    let last = err.lines().last().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    let message = last["message"].as_str().unwrap();
    assert!(message.starts_with("pipeline \"p\" cannot start: sink \"all\" failed: "), "{message}");
    assert!(message.ends_with("the server refused the password \"***\"; check it"), "{message}");
    let (code, _, text_err) = worker_says(&["run", text(&folder.file("t.toml", &refusing.replace("json", "text")))]);
    let last = text_err.lines().last().unwrap();
    assert_eq!((code, last), (1, format!("error: {message}").as_str()));
    assert!(!err.contains("hunter7") && !text_err.contains("hunter7"), "{err}{text_err}");
}
