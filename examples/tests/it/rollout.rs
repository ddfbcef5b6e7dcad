//! A canary and a shadow beside what scores everything, over two workers on real Kafka, led from publication to promotion by the
//! commands of the worker alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use iotml_core::testing::servers;
use rdkafka::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::{Value, json};

use crate::exactly_once::{PARTITIONS, PATIENCE, Topics, Worker};
use crate::models::file_of;
use crate::run;

const N_CARS: usize = 100;
/// Those of the hundred cars whose keys are a canary's of 10 %, as any build shares them out.
const CANARIES: [usize; 10] = [11, 13, 21, 29, 34, 37, 44, 71, 86, 98];
/// Rows of one car that come one after the other are so many steps apart.
const STEPS: usize = 100;

/// Scores with what is announced, beside a shadow; both routes and the positions are committed as one.
fn configuration(topics: &Topics, folder: &Path, worker: usize) -> String {
    let [from, out, shadow, dead, group, models, status] =
        ["in", "out", "shadow", "dead", "group", "models", "status"].map(|what| topics.of(what));
    let (servers, store) = (&topics.servers, folder.join("store"));
    let kafka = format!("kafka = {{ \"bootstrap.servers\" = \"{servers}\" }}");
    format!(
        r#"
        [pipeline]
        name = "{group}"
        instance = "worker-{worker}"
        "delivery.guarantee" = "exactly_once"
        "errors.tolerance" = "all"

        [source]
        type = "kafka"
        topics = ["{from}"]
        [source.kafka]
        "bootstrap.servers" = "{servers}"
        "group.id" = "{group}"
        "session.timeout.ms" = 6000
        "heartbeat.interval.ms" = 500

        [decode]
        type = "json"
        columns = [{{ name = "seq", type = "int64" }}, {{ name = "a", type = "float64", nullable = false }}]

        [score]
        type = "onnx"
        [score.follow]
        name = "cars"
        store = {store:?}
        [score.follow.feed]
        type = "kafka"
        topic = "{models}"
        status_topic = "{status}"
        {kafka}

        [[route]]
        name = "predictions"
        encode = {{ type = "json", columns = ["seq", "score", "anomaly", "model", "model_version"], encoded_field = "written" }}
        [route.sink]
        type = "kafka"
        topic = "{out}"
        {kafka}

        [[route]]
        name = "shadow"
        shadow = true
        encode = {{ type = "json" }}
        [route.sink]
        type = "kafka"
        topic = "{shadow}"
        create_topics = {{ partitions = {PARTITIONS} }}
        {kafka}

        [dead_letter]
        type = "kafka"
        topic = "{dead}"
        {kafka}
        "#
    )
}

/// The value of row `n`, and whether it is an anomaly: one row in ten is.
fn truth(n: usize) -> (f64, bool) {
    let step = n / N_CARS % STEPS;
    (step as f64 / 90.0, step >= 90)
}

struct World {
    topics: Arc<Topics>,
    folder: tempfile::TempDir,
    stop: Arc<AtomicBool>,
    n_sent: Arc<AtomicUsize>,
}

impl World {
    /// Sends rows of all cars at a steady pace, and what they are to another topic.
    fn fill(&self) -> thread::JoinHandle<()> {
        let (topics, stop, n_sent) = (self.topics.clone(), self.stop.clone(), self.n_sent.clone());
        thread::spawn(move || {
            let producer: ThreadedProducer<DefaultProducerContext> =
                topics.client().set("enable.idempotence", "true").set("linger.ms", "5").create().unwrap();
            let (rows, labels) = (topics.of("in"), topics.of("labels"));
            let send = |topic: &str, key: &str, payload: &Value, time: i64| {
                let payload = payload.to_string();
                let record = BaseRecord::to(topic).key(key).payload(&payload).timestamp(time);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            };
            while !stop.load(Ordering::SeqCst) {
                let time = now();
                for _ in 0..N_CARS {
                    let n = n_sent.fetch_add(1, Ordering::SeqCst);
                    let ((a, is_anomaly), key) = (truth(n), format!("car{}", n % N_CARS));
                    send(&rows, &key, &json!({ "seq": n, "a": a }), time);
                    send(&labels, &key, &json!({ "label": is_anomaly }), time);
                }
                thread::sleep(Duration::from_millis(20));
            }
            producer.flush(PATIENCE).unwrap();
        })
    }

    /// `worker model`, as a user calls it.
    fn model(&self, arguments: &[&str], code: i32) -> String {
        let config = self.folder.path().join("0.toml");
        let all = [&["model"], arguments, &["--config", config.to_str().unwrap()]].concat();
        run(env!("CARGO_BIN_EXE_worker"), &all, code)
    }

    fn publish(&self, version: &str, factor: f64, rollout: &str) {
        let file = self.folder.path().join(format!("{version}.onnx"));
        std::fs::write(&file, file_of(version, factor)).unwrap();
        self.model(&["publish", file.to_str().unwrap(), "--rollout", rollout], 0);
    }

    /// Waits until both workers have these versions ready.
    fn both_ready(&self, workers: &mut [Worker; 2], versions: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told: Value = serde_json::from_str(&self.model(&["status", "cars", "--format", "json"], 0)).unwrap();
            let is_ready = |version: &str| {
                let reports = told["reports"].as_array().unwrap().iter();
                reports.filter(|it| it["version"] == version && it["state"] == "READY").count() == 2
            };
            if versions.iter().all(|version| is_ready(version)) {
                return;
            }
            assert!(Instant::now() < deadline, "{versions:?}: {told}\n{}\n{}", workers[0].tail(), workers[1].tail());
            workers.iter_mut().for_each(Worker::look);
        }
    }

    /// Ends what [`fill`](World::fill) began, and waits until all of it is scored.
    fn drain(&self, filler: thread::JoinHandle<()>, workers: &mut [Worker; 2]) {
        self.stop.store(true, Ordering::SeqCst);
        filler.join().unwrap();
        self.stop.store(false, Ordering::SeqCst);
        self.topics.wait_committed(self.n_sent.load(Ordering::SeqCst), workers);
    }

    /// Waits until so many more rows are sent.
    fn sent(&self, n: usize) {
        let n = self.n_sent.load(Ordering::SeqCst) + n;
        while self.n_sent.load(Ordering::SeqCst) < n {
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn report(&self, from: i64) -> Value {
        let (from, labels) = (from.to_string(), self.topics.of("labels"));
        let told = self.model(&["compare", "cars", "--from", &from, "--labels", &labels, "--json", "-"], 0);
        serde_json::from_str(&told).unwrap()
    }

    /// The versions that scored the rows of each car with times from `from` on, and how many rows there are.
    fn by_car(&self, from: i64) -> (BTreeMap<usize, BTreeSet<String>>, u64) {
        let (mut cars, mut n) = (BTreeMap::<usize, BTreeSet<String>>::new(), 0);
        for message in self.topics.read("out", "read_committed") {
            let time = message.timestamp().to_millis().unwrap();
            if time >= from {
                let row: Value = serde_json::from_slice(message.payload().unwrap()).unwrap();
                let car = String::from_utf8_lossy(message.key().unwrap())[3..].parse().unwrap();
                cars.entry(car).or_default().insert(row["model_version"].as_str().unwrap().to_owned());
                n += 1;
            }
        }
        (cars, n)
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn version<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["versions"].as_array().unwrap().iter().find(|it| it["version"] == name).unwrap_or(&Value::Null)
}

fn between(value: &Value, low: f64, high: f64) -> bool {
    value.as_f64().is_some_and(|value| (low..=high).contains(&value))
}

fn start(world: &World, folder: &Path) -> [Worker; 2] {
    [0, 1].map(|number| Worker::start(&configuration(&world.topics, folder, number), folder, number))
}

#[test]
fn a_canary_and_a_shadow_are_compared_and_judged_over_two_workers_by_the_commands_alone() {
    let Some(servers) = servers::kafka() else { return };
    let topics = Arc::new(Topics::new(&servers, "rollout"));
    topics.create(&["labels"]);
    let world = World { topics, folder: tempfile::tempdir().unwrap(), stop: Arc::default(), n_sent: Arc::default() };
    let folder = world.folder.path();
    std::fs::write(folder.join("0.toml"), configuration(&world.topics, folder, 0)).unwrap();
    world.publish("1", 1.0, "full");
    let filler = world.fill();
    let mut workers = start(&world, folder);
    world.both_ready(&mut workers, &["1"]);
    world.publish("2", 1.0, "canary=10");
    world.publish("3", 1.1, "shadow");
    world.both_ready(&mut workers, &["2", "3"]);

    // A worker is killed in the middle, and its cars are the other's for a while.
    let from = now();
    world.sent(STEPS * N_CARS);
    workers[0].kill();
    world.sent(2 * STEPS * N_CARS);
    world.drain(filler, &mut workers);
    let (cars, n) = world.by_car(from);
    for (car, versions) in &cars {
        let expected = if CANARIES.contains(car) { "2" } else { "1" };
        assert_eq!(versions.iter().collect::<Vec<_>>(), [expected], "car {car}, in both workers and over a kill");
    }
    assert_eq!(cars.len(), N_CARS);
    let begun = Instant::now();
    let report = world.report(from);
    println!("rollout: {n} rows compared in {:?}", begun.elapsed());
    println!("{}", world.model(&["compare", "cars", "--from", &from.to_string()], 0));
    let (one, two, three) = (version(&report, "1"), version(&report, "2"), version(&report, "3"));
    let rows = |version: &Value| version["n_rows"].as_u64().unwrap();
    assert_eq!((rows(one) + rows(two), rows(three)), (n, n), "{report}");
    assert_eq!(rows(two) * 10, n, "ten of a hundred cars");
    assert!(one["latency_ms"]["p50"].as_f64().unwrap() >= 0.0, "{one}");
    // The same model on both sides, and every row has a label.
    for version in [one, two] {
        assert!(between(&version["anomaly_rate"], 0.08, 0.12), "{version}");
        assert_eq!((&version["labelled"]["precision"], &version["labelled"]["recall"]), (&json!(1.0), &json!(1.0)));
        assert_eq!(version["labelled"]["n"], version["n_rows"]);
    }
    assert!(between(&report["arms"][0]["ks"], 0.0, 0.01), "{}", report["arms"]);
    let n_pairs: u64 = report["shadows"].as_array().unwrap().iter().map(|it| it["n_pairs"].as_u64().unwrap()).sum();
    assert_eq!((n_pairs, &report["unmatched"]["acting"], &report["unmatched"]["shadow"]), (n, &json!(0), &json!(0)));
    for shadow in report["shadows"].as_array().unwrap() {
        // From 1/1.1 on it sees an anomaly, and the others from 1 on; what it sees beyond them is false.
        assert_eq!(shadow["n_only_acting"], 0, "{shadow}");
        assert!(between(&shadow["score_correlation"], 0.999, 1.0), "{shadow}");
    }
    assert!(between(&three["labelled"]["precision"], 0.45, 0.65), "{three}");
    assert_eq!(three["labelled"]["recall"], 1.0);

    let filler = world.fill();
    // The canary is promoted once it has shown enough, and the shadow is not touched meanwhile.
    let rules = ["--min-rows", "200", "--min-time", "2s", "--every", "200ms"];
    let told = world.model(&[&["judge", "cars", "2"], &rules[..]].concat(), 0);
    assert!(told.contains("cars 2, canary beside 1: promoted"), "{told}");
    let told = world.model(&["status", "cars"], 0);
    assert!(told.contains("  2  all rows") && told.contains("  1  retired") && told.contains("  3  shadow"), "{told}");
    let told =
        world.model(&["judge", "cars", "3", "--min-agreement", "0.999", "--min-rows", "200", "--every", "200ms"], 4);
    assert!(
        told.contains("cars 3, shadow beside 2: retired") && told.contains("min_agreement 0.999 is broken"),
        "{told}"
    );

    // One that sees too many anomalies goes before its time is up, and a way back is left.
    world.publish("4", 3.0, "canary=10");
    let told = world.model(&["judge", "cars", "4", "--min-rows", "200", "--min-time", "1h", "--every", "200ms"], 4);
    assert!(
        told.contains("cars 4, canary beside 2: retired") && told.contains("max_anomaly_ratio 2 is broken"),
        "{told}"
    );
    let told = world.model(&["rollback", "cars"], 0);
    assert!(told.contains("  1  all rows") && told.contains("  2  retired"), "{told}");

    world.drain(filler, &mut workers);
    workers.iter_mut().for_each(Worker::end);
}
