//! `model compare` and `model judge` on files of messages, with figures that were computed by hand.

use std::path::PathBuf;
use std::sync::Arc;

use iotml_core::batch::{Coordinate, Lane, Message, Position, RawBatch, RawMessage};
use iotml_core::error::BoxError;
use iotml_core::model::{Announcement, Digest, ModelSet, Place, Rollout};
use iotml_core::plugin::Registry;
use iotml_core::sink::{ReadBack, Sink, Stretch};
use iotml_core::source::Source;
use iotml_core::testing::{MemoryLog, MemorySink};
use serde_json::{Value, json};

use crate::cli::{FileTable, told, worker};

/// A sink whose messages lie in a file, one JSON object a line: key, time, value and headers.
pub fn register(registry: &mut Registry) {
    registry
        .source("file", "for tests", |_: FileTable, _| Ok(Box::new(MemoryLog::default().source(1)) as Box<dyn Source>));
    registry.sink("file", "for tests", |_: FileTable, _| Ok(MemorySink::new() as Arc<dyn Sink>));
    registry.read_back("file", "for tests", |table: FileTable, _| Ok(Box::new(File(table.file)) as Box<dyn ReadBack>));
}

struct File(PathBuf);

impl ReadBack for File {
    fn open(&self, _: Option<i64>, _: Option<i64>) -> Result<Stretch, BoxError> {
        let text = std::fs::read_to_string(&self.0)?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        // Small batches, so that several sources are read in turn.
        let batches: Vec<Arc<RawBatch>> = lines.chunks(3).map(|lines| Arc::new(batch(lines))).collect();
        Ok(Box::new(batches.into_iter().map(Ok)))
    }
}

fn batch(lines: &[Value]) -> RawBatch {
    let mut raw = RawBatch::default();
    for (seq, line) in (0..).zip(lines) {
        let value = line["value"].to_string();
        let (key, time) = (line["key"].as_str().map(str::as_bytes), line["time"].as_i64());
        raw.push(RawMessage {
            message: Message { payload: Some(value.as_bytes()), key, time, ..Message::default() },
            position: Position { lane: Lane(0), seq },
            coordinate: Coordinate::NONE,
        });
        for (name, value) in line["headers"].as_object().into_iter().flatten() {
            raw.push_header(name, value.as_str().map(str::as_bytes));
        }
    }
    raw
}

/// A pipeline whose predictions are three models' on two cars; the second car is the canary's.
struct World {
    folder: tempfile::TempDir,
}

const KEYS: [&str; 2] = ["car0", "car11"];

impl World {
    fn new() -> Self {
        let world = World { folder: tempfile::tempdir().unwrap() };
        let version = |name: &str, rollout| {
            Announcement::new(name, Place::Uri("file:///x".to_owned()), Digest::of(b"x")).rolled_out(rollout)
        };
        let versions = vec![
            version("1", Rollout::Full),
            version("2", Rollout::Canary { percent: 10.0 }),
            version("3", Rollout::Shadow),
        ];
        world.announce(&ModelSet { versions, ..ModelSet::new("cars") });
        let file = |name: &str| format!("{{ type = \"file\", file = {:?} }}", world.path(name));
        let text = format!(
            r#"
            [pipeline]
            name = "p"
            [source]
            type = "file"
            file = "none"
            [decode]
            type = "json"
            columns = [{{ name = "a", type = "float64" }}]
            [score]
            type = "onnx"
            follow.name = "cars"
            follow.feed = {}
            [[route]]
            name = "shadow"
            shadow = true
            encode = {{ type = "json" }}
            sink = {}
            [[route]]
            name = "out"
            encode = {{ type = "json", encoded_field = "written" }}
            sink = {}
            [dead_letter]
            type = "file"
            file = {:?}
            "#,
            file("board.json"),
            file("shadow"),
            file("out"),
            world.path("dead"),
        );
        std::fs::write(world.path("p.toml"), text).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn announce(&self, set: &ModelSet) {
        let all = json!({ "cars": serde_json::from_slice::<Value>(&set.to_json()).unwrap() });
        std::fs::write(self.path("board.json"), all.to_string()).unwrap();
    }

    fn write(&self, name: &str, messages: &[Value]) {
        let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
        std::fs::write(self.path(name), lines).unwrap();
    }

    /// `n` rows a car, a second apart: of version 1 one in ten is an anomaly, of 2 `every`th, and the shadow says what 1 says, and
    /// half a point more.
    fn fill(&self, n: i64, every: i64) {
        let (mut out, mut shadow) = (Vec::new(), Vec::new());
        for at in 0..n {
            for (car, key) in KEYS.iter().enumerate() {
                let is_anomaly = if car == 0 { at % 10 == 0 } else { at % every == 0 };
                let (time, score) = (1_000 * at, if is_anomaly { 9.0 } else { (at % 4) as f64 });
                let version = if car == 0 { "1" } else { "2" };
                let prediction = |version: &str, score: f64| {
                    json!({ "key": key, "time": time, "value": {
                        "model": "cars", "model_version": version, "score": score, "anomaly": score >= 9.0, "written": time + 40,
                    }})
                };
                out.push(prediction(version, score));
                shadow.push(prediction("3", score + 0.5));
            }
        }
        self.write("out", &out);
        self.write("shadow", &shadow);
        self.write("dead", &[]);
    }

    fn run(&self, arguments: &[&str], code: i32) -> String {
        let config = self.path("p.toml");
        let arguments = [arguments, &["--config", config.to_str().unwrap()]].concat();
        let output = worker(self.folder.path(), &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{}\n{error}", told(&output));
        if code == 1 || code == 2 { error.into_owned() } else { told(&output) }
    }

    fn announced(&self) -> ModelSet {
        let all: Value = serde_json::from_slice(&std::fs::read(self.path("board.json")).unwrap()).unwrap();
        ModelSet::from_json(all["cars"].to_string().as_bytes()).unwrap()
    }
}

fn version<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["versions"].as_array().unwrap().iter().find(|version| version["version"] == name).unwrap()
}

#[test]
fn a_report_tells_versions_apart_and_joins_the_shadow_and_the_labels() {
    let world = World::new();
    world.fill(40, 5);
    let dead = |stage: &str, pipeline: &str, key: &str| {
        let headers = json!({ "__connect.errors.stage": stage, "__connect.errors.connector.name": pipeline });
        json!({ "key": key, "time": 5, "value": {}, "headers": headers })
    };
    let letters = [dead("score", "p", KEYS[1]), dead("decode", "p", KEYS[1]), dead("score", "q", KEYS[1])];
    world.write("dead", &letters);
    // Of the first car the anomalies of the first 20 seconds are some, and one was not seen.
    let label = |at: i64, is: bool| json!({ "key": KEYS[0], "time": 1_000 * at, "value": { "label": is } });
    let named = json!({ "key": null, "time": 1, "value": { "label": 1, "key": KEYS[0], "time": 10_000 } });
    world.write(
        "labels",
        &[label(0, true), named, label(20, false), label(21, true), label(22, false), label(99, true)],
    );
    let labels = json!({ "type": "file", "file": world.path("labels") }).to_string();
    let report: Value =
        serde_json::from_str(&world.run(&["compare", "cars", "--json", "-", "--labels", &labels], 0)).unwrap();

    let (one, two, three) = (version(&report, "1"), version(&report, "2"), version(&report, "3"));
    assert_eq!((&one["n_rows"], &one["n_anomalies"], &one["rollout"]), (&json!(40), &json!(4), &json!("full")));
    assert_eq!((&two["n_rows"], &two["n_anomalies"], &two["rollout"]), (&json!(40), &json!(8), &json!("canary")));
    assert_eq!((&two["n_failed"], &one["n_failed"]), (&json!(1), &json!(0)));
    assert_eq!((&three["n_rows"], &three["shadow"]), (&json!(80), &json!(true)));
    assert_eq!((&one["anomaly_rate"], &one["latency_ms"]["p99"]), (&json!(0.1), &json!(40.0)));
    assert_eq!((&one["first"], &one["last"]), (&json!(0), &json!(39_000)));
    let arm = &report["arms"][0];
    assert_eq!(
        (&arm["version"], &arm["against"], &arm["anomaly_rate_difference"]),
        (&json!("2"), &json!("1"), &json!(0.1))
    );
    // Version 2 has 9 instead of 0, 1, 2 and 3 one more time each.
    assert!((arm["ks"].as_f64().unwrap() - 0.1).abs() < 1e-9, "{arm}");
    let shadows = report["shadows"].as_array().unwrap();
    assert_eq!(shadows.len(), 2);
    for shadow in shadows {
        assert_eq!((&shadow["n_pairs"], &shadow["agreement"]), (&json!(40), &json!(1.0)), "{shadow}");
        assert_eq!(shadow["score_mean_difference"], json!(0.5));
        assert!((shadow["score_correlation"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
    // Anomalies at 0, 10, 20 and 30: two true, one false, one without a label; the one at 21 was missed.
    let truth = &one["labelled"];
    assert_eq!((&truth["n"], &truth["true_positives"], &truth["false_positives"]), (&json!(5), &json!(2), &json!(1)));
    assert_eq!((&truth["precision"], &truth["recall"]), (&json!(2.0 / 3.0), &json!(2.0 / 3.0)));
    assert_eq!(report["unmatched"]["labels"]["without_row"], 1);
    assert_eq!((&report["unmatched"]["acting"], &report["unmatched"]["shadow"]), (&json!(0), &json!(0)));

    let file = world.path("report.json");
    let range =
        ["compare", "cars", "--from", "10000", "--to", "1970-01-01T00:00:20Z", "--json", file.to_str().unwrap()];
    let table = world.run(&range, 0);
    assert!(table.contains("cars: 40 predictions, 1970-01-01T00:00:10Z to 1970-01-01T00:00:19Z"), "{table}");
    assert!(
        table.contains("2 (canary)") && table.contains("shadow 3 beside 1: 10 rows, same verdict 100.00 %"),
        "{table}"
    );
    let report: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(version(&report, "2")["n_rows"], 10);
}

#[test]
fn what_is_no_prediction_and_what_has_no_counterpart_is_counted() {
    let world = World::new();
    world.fill(10, 10);
    let row = |time: i64, value: Value| json!({ "key": KEYS[0], "time": time, "value": value });
    world.write(
        "out",
        &[
            row(0, json!({ "model": "cars", "model_version": "1", "score": 1.0, "anomaly": false })),
            row(1, json!({ "model": "trucks", "model_version": "1", "score": 1.0 })),
            row(2, json!([1, 2])),
            row(3, json!({ "score": "high" })),
            row(4, json!({ "model": "cars", "model_version": "1", "score": null, "anomaly": null })),
        ],
    );
    let failed = json!({ "model": null, "model_version": null, "score": null, "anomaly": null });
    world.write("shadow", &[row(4, failed), row(9, json!({ "model": "cars", "model_version": "3", "score": 1.0 }))]);
    let report: Value = serde_json::from_str(&world.run(&["compare", "cars", "--json", "-"], 0)).unwrap();
    assert_eq!(
        (&report["n_rows"], &report["n_other_models"], &report["n_unreadable"]),
        (&json!(3), &json!(1), &json!(2))
    );
    assert_eq!((&report["n_shadow_failures"], &version(&report, "3")["n_failed"]), (&json!(1), &json!(1)));
    assert_eq!((&report["unmatched"]["acting"], &report["unmatched"]["shadow"]), (&json!(2), &json!(1)));
    assert_eq!((&version(&report, "1")["n_rows"], &version(&report, "1")["score"]["n"]), (&json!(2), &json!(1)));
    let table = world.run(&["compare", "cars"], 0);
    assert!(table.contains("1 rows of other models, 2 messages that are no predictions"), "{table}");
    assert!(world.run(&["compare", "cars", "--route", "none"], 1).contains("has no route \"none\""));
    assert!(world.run(&["compare", "cars", "--labels", "{"], 1).contains("--labels is no JSON object"));
    assert!(world.run(&["compare", "cars", "--from", "yesterday"], 2).contains("2026-01-31T12:00:00Z"));
    std::fs::remove_file(world.path("shadow")).unwrap();
    assert!(world.run(&["compare", "cars"], 1).contains("No such file"));
}

#[test]
fn a_canary_waits_is_promoted_or_retired_and_the_exit_code_says_so() {
    let world = World::new();
    world.fill(200, 8);
    let judge = |more: &[&str], code| {
        world.run(&[&["judge", "cars", "2", "--from", "0", "--min-rows", "100"], more].concat(), code)
    };
    let told = judge(&["--min-time", "1h"], 3);
    assert!(told.contains("cars 2, canary beside 1: waits"), "{told}");
    assert!(
        told.contains("min_time 3600 is open: 199.0000") && told.contains("max_anomaly_ratio 2 holds: 1.25"),
        "{told}"
    );
    let told = judge(&["--min-time", "1s", "--dry-run", "--format", "json"], 0);
    let line: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&line["outcome"], &line["done"], &line["against"]), (&json!("promote"), &json!(false), &json!("1")));
    assert_eq!(world.announced().version("2").unwrap().rollout, Rollout::Canary { percent: 10.0 });

    // Without a time of its own it counts from when a worker had it ready, which is after all rows here.
    let told = world.run(&["judge", "cars", "2", "--min-rows", "100"], 3);
    assert!(told.contains("rows since 2026-09-21T14:13:20Z") && told.contains("min_rows 100 is open: 0"), "{told}");
    // Nobody has reported the shadow.
    let told = world.run(&["judge", "cars", "3"], 3);
    assert!(told.contains("no worker has reported that it is in service"), "{told}");

    world.fill(200, 2);
    let told = judge(&["--min-time", "1h"], 4);
    assert!(told.contains("retired") && told.contains("max_anomaly_ratio 2 is broken: 5.0000"), "{told}");
    assert!(!world.announced().version("2").unwrap().is_ready());
    assert!(judge(&[], 5).contains("there is no version to judge"));

    let told = world.run(&["judge", "cars", "9"], 1);
    assert!(told.contains("version 9 of cars is not announced"), "{told}");
}

#[test]
fn a_shadow_is_promoted_and_so_is_what_keeps_its_verdicts_right() {
    let world = World::new();
    world.fill(200, 10);
    let label = |at: i64| json!({ "key": KEYS[0], "time": 1_000 * at, "value": { "label": at % 10 == 0 } });
    world.write("labels", &(0..200).map(label).collect::<Vec<_>>());
    let labels = json!({ "type": "file", "file": world.path("labels") }).to_string();
    let rules = ["--from", "0", "--min-rows", "100", "--min-time", "1s", "--labels", &labels, "--min-recall", "0.9"];
    let told = world
        .run(&[&["judge", "cars", "3", "--min-agreement", "0.99", "--show", "--every", "1ms"], &rules[..]].concat(), 0);
    assert!(told.contains("cars 3, shadow beside 1: promoted"), "{told}");
    assert!(
        told.contains("min_recall 0.9 holds: 1.0000") && told.contains("min_agreement 0.99 holds: 1.0000"),
        "{told}"
    );
    assert!(told.contains("labels on 200 of 3 (shadow): precision 1.000"), "{told}");
    let set = world.announced();
    assert_eq!((set.version("3").unwrap().rollout, set.version("1").unwrap().is_ready()), (Rollout::Full, false));
    // It is decided, and is left alone.
    world.run(&[&["judge", "cars", "3", "--every", "1ms"], &rules[..]].concat(), 5);
}

#[test]
fn what_every_worker_refuses_is_retired_with_the_cause_and_keeps_no_judge_waiting() {
    let world = World::new();
    world.fill(200, 10);
    let report = |instance: &str, state: &str, cause: Option<&str>| {
        json!({ "model": "cars", "version": "2", "state": state, "cause": cause, "pipeline": "p", "instance": instance,
            "time": 1_000 })
    };
    let refused = |instance| report(instance, "UNAVAILABLE", Some("its golden rows do not come out"));
    let reported = |reports: &[Value]| std::fs::write(world.path("board.reports"), json!(reports).to_string()).unwrap();
    let rules = ["--min-rows", "100", "--min-time", "1s"];

    // One has it in service, and what another says changes nothing but what is told.
    reported(&[report("a", "READY", None), refused("b")]);
    let told = world.run(&[&["judge", "cars", "2", "--dry-run"], &rules[..]].concat(), 0);
    assert!(told.contains("rows since 1970-01-01T00:00:01Z") && told.contains("would be promoted"), "{told}");
    assert!(told.contains("1 of 2 workers that reported it refuse it: its golden rows do not come out"), "{told}");

    // The reports may be of another announcement, so who looks once does not retire it.
    reported(&[refused("a"), refused("b")]);
    let told = world.run(&[&["judge", "cars", "2", "--from", "0"], &rules[..]].concat(), 3);
    assert!(told.contains("refused 1 is open: 0.0"), "{told}");
    assert!(told.contains("2 of 2 workers that reported it refuse it: its golden rows do not come out"), "{told}");
    let told = world.run(&[&["judge", "cars", "2", "--every", "10ms"], &rules[..]].concat(), 4);
    assert!(told.contains("beside 1: waits") && told.contains("beside 1: retired"), "{told}");
    assert!(told.contains("refused 1 is broken: 1.0"), "{told}");
    assert!(!world.announced().version("2").unwrap().is_ready() && world.announced().version("1").unwrap().is_ready());
}
