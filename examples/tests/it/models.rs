//! Models that change under two workers which are killed meanwhile: every row once, by the version that it names, and whoever
//! comes back has the version that was announced last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use iotml_core::model::{Announcement, ModelSet, ModelState, ModelStatus, Rollout};
use iotml_core::testing::servers;
use iotml_kafka::{KafkaModelFeedConfig, ModelTopic};
use iotml_model::Kind;
use iotml_model::manifest::{Golden, Manifest, embed};
use iotml_model::testing::scaled_copy;
use rdkafka::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde::Deserialize;

use crate::exactly_once::{PARTITIONS, PATIENCE, Topics, Worker};
use crate::run;

const N_CARS: usize = 40;

/// A model whose score is the square of `a` times its version, as a file with its manifest in it.
pub(crate) fn file(version: u32) -> Vec<u8> {
    file_of(&version.to_string(), f64::from(version))
}

/// A model whose score is the square of `a` times `factor`; from 1 on it is an anomaly.
pub(crate) fn file_of(version: &str, factor: f64) -> Vec<u8> {
    let score = factor.powi(2);
    let golden = Golden { input: vec![vec![1.0]], score: Some(vec![Some(score)]), output: None, tolerance: 1e-4 };
    let manifest = Manifest::builder(Kind::Reconstruction, "cars").version(version).feature("a", None);
    let manifest = manifest.golden(golden).fixed_threshold(1.0).build().unwrap();
    embed(&scaled_copy(1, (1.0 - factor) as f32).build(), &manifest).unwrap()
}

fn model(version: u32) -> Announcement {
    Announcement::inline(version.to_string(), file(version))
}

/// What a worker does here: reads, scores with what is announced, and writes, exactly once.
pub(crate) fn configuration(topics: &Topics, worker: usize) -> String {
    let [from, to, group, models, status] = ["in", "out", "group", "models", "status"].map(|what| topics.of(what));
    let servers = &topics.servers;
    format!(
        r#"
        [pipeline]
        name = "{group}"
        instance = "worker-{worker}"
        "delivery.guarantee" = "exactly_once"

        [source]
        type = "kafka"
        topics = ["{from}"]
        max_batch_rows = 200

        [source.kafka]
        "bootstrap.servers" = "{servers}"
        "group.id" = "{group}"
        "session.timeout.ms" = 6000
        "heartbeat.interval.ms" = 500

        [decode]
        type = "json"
        columns = [
            {{ name = "seq", type = "int64", nullable = false }},
            {{ name = "a", type = "float64", nullable = false }},
        ]

        [score]
        type = "onnx"

        [score.follow]
        name = "cars"

        [score.follow.feed]
        type = "kafka"
        topic = "{models}"
        status_topic = "{status}"

        [score.follow.feed.kafka]
        "bootstrap.servers" = "{servers}"

        [[route]]
        name = "out"
        encode = {{ type = "json", columns = ["seq", "a", "score", "model_version"] }}

        [route.sink]
        type = "kafka"
        topic = "{to}"

        [route.sink.kafka]
        "bootstrap.servers" = "{servers}"

        [log]
        level = "info"
        "#
    )
}

#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) seq: usize,
    a: f64,
    score: f64,
    pub(crate) model_version: String,
}

struct World {
    topics: Arc<Topics>,
    models: ModelTopic,
    stop: Arc<AtomicBool>,
    n_sent: Arc<AtomicUsize>,
}

impl World {
    fn new(servers: &str) -> Self {
        let topics = Arc::new(Topics::new(servers, "models"));
        let mut config = KafkaModelFeedConfig::new(servers);
        (config.topic, config.status_topic) = (topics.of("models"), topics.of("status"));
        let models = ModelTopic::new(config).unwrap();
        World { topics, models, stop: Arc::default(), n_sent: Arc::default() }
    }

    /// Sends numbered rows of all cars at a steady pace.
    fn fill(&self) -> thread::JoinHandle<()> {
        let (topics, stop, n_sent) = (self.topics.clone(), self.stop.clone(), self.n_sent.clone());
        thread::spawn(move || {
            let producer: ThreadedProducer<DefaultProducerContext> =
                topics.client().set("enable.idempotence", "true").set("linger.ms", "5").create().unwrap();
            let topic = topics.of("in");
            while !stop.load(Ordering::SeqCst) {
                for _ in 0..50 {
                    let n = n_sent.fetch_add(1, Ordering::SeqCst);
                    let (key, payload) =
                        (format!("car{}", n % N_CARS), format!("{{\"seq\": {n}, \"a\": {}}}", n % 1000));
                    let record = BaseRecord::to(&topic).key(&key).payload(&payload);
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                }
                thread::sleep(Duration::from_millis(10));
            }
            producer.flush(PATIENCE).unwrap();
        })
    }

    fn announce(&self, versions: Vec<Announcement>) {
        self.models.announce(&ModelSet { versions, ..ModelSet::new("cars") }).unwrap();
    }

    /// Waits for reports that satisfy `is_it`.
    fn reported(&self, workers: &mut [Worker; 2], what: &str, is_it: impl Fn(&[ModelStatus]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reports = self.models.reports().unwrap();
            if is_it(&reports) {
                return;
            }
            assert!(Instant::now() < deadline, "no {what}: {reports:#?}\n{}\n{}", workers[0].tail(), workers[1].tail());
            workers.iter_mut().for_each(Worker::look);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether both workers said that this version is ready, after the first `from` reports.
fn both_ready(reports: &[ModelStatus], version: &str, from: usize) -> bool {
    let ready = reports.iter().skip(from).filter(|it| it.state == ModelState::Ready && it.version == version);
    ready.map(|report| report.instance.as_str()).collect::<BTreeSet<_>>().len() == 2
}

#[test]
fn inv_8_workers_killed_in_the_middle_of_swaps_come_back_with_the_right_version() {
    let Some(servers) = servers::kafka() else { return };
    let (world, folder) = (World::new(&servers), tempfile::tempdir().unwrap());
    world.announce(vec![model(1)]);
    let filler = world.fill();
    let mut workers = [0, 1].map(|number| Worker::start(&configuration(&world.topics, number), folder.path(), number));
    world.reported(&mut workers, "first model", |reports| both_ready(reports, "1", 0));
    let deadline = Instant::now() + PATIENCE;
    while world.topics.committed() == 0 {
        assert!(Instant::now() < deadline, "nothing is ever committed:\n{}", workers[0].tail());
        thread::sleep(Duration::from_millis(50));
    }
    let mut floors: Vec<(usize, u32)> = Vec::new();
    for version in 2..=6u32 {
        world.announce(vec![model(version)]);
        // From at once to when it is in service: wherever in the swap that hits it.
        thread::sleep(Duration::from_millis(u64::from(version - 2) * 15));
        workers[version as usize % 2].kill();
        let word = version.to_string();
        world.reported(&mut workers, "next model", |reports| both_ready(reports, &word, 0));
        // What is sent from now on is scored by it or by a later one, also by the worker that is only coming back.
        floors.push((world.n_sent.load(Ordering::SeqCst), version));
    }
    let from = world.models.reports().unwrap().len();
    world.announce(vec![model(6), model(7).rolled_out(Rollout::Canary { percent: 30.0 })]);
    world.reported(&mut workers, "canary", |reports| both_ready(reports, "7", from));
    let n_before = world.n_sent.load(Ordering::SeqCst);
    workers[0].kill();
    let n_then = n_before + 4000;
    while world.n_sent.load(Ordering::SeqCst) < n_then {
        thread::sleep(Duration::from_millis(20));
    }
    world.stop.store(true, Ordering::SeqCst);
    filler.join().unwrap();
    let n = world.n_sent.load(Ordering::SeqCst);
    world.topics.wait_committed(n, &mut workers);
    workers.iter_mut().for_each(Worker::end);

    let messages = world.topics.read("out", "read_committed");
    let mut by_seq: BTreeMap<usize, String> = BTreeMap::new();
    let mut of_canary: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in &messages {
        let row: Row = serde_json::from_slice(message.payload().unwrap()).unwrap();
        let version: f64 = row.model_version.parse().unwrap();
        let expected = (row.a * version).powi(2);
        assert!((row.score - expected).abs() <= expected * 1e-3, "{row:?} is not scored by the version that it names");
        if row.seq >= n_before {
            let key = String::from_utf8_lossy(message.key().unwrap()).into_owned();
            of_canary.entry(key).or_default().insert(row.model_version.clone());
        }
        let before = by_seq.insert(row.seq, row.model_version);
        assert_eq!(before, None, "row {} comes twice", row.seq);
    }
    assert_eq!(by_seq.len(), n, "no row is missing");
    for (from, oldest) in floors {
        let version = |version: &str| version.parse::<u32>().unwrap();
        let stale = by_seq.range(from..).find(|(_, by)| version(by) < oldest);
        assert_eq!(stale, None, "all have {oldest} since row {from}");
    }
    let seen: BTreeSet<&str> = by_seq.values().map(String::as_str).collect();
    // A version may have been replaced before a worker that came back had any partition to read.
    assert!(["1", "6", "7"].iter().all(|version| seen.contains(version)), "{seen:?}");
    let plan = ModelSet {
        versions: vec![model(6), model(7).rolled_out(Rollout::Canary { percent: 30.0 })],
        ..ModelSet::new("cars")
    }
    .plan();
    for (key, versions) in &of_canary {
        let expected = ["6", "7"][plan.version_of(Some(key.as_bytes()))];
        assert_eq!(versions.iter().collect::<Vec<_>>(), [expected], "{key}, in both workers and after a kill");
    }
    assert_eq!(of_canary.len(), N_CARS);
    println!("models: {n} rows over {PARTITIONS} partitions and 6 kills, each once, by versions {seen:?}");
}

#[test]
fn mistakes_and_secrets_of_a_feed_are_found_where_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("follow.toml");
    let good = r#"
        [pipeline]
        name = "p"
        [source]
        type = "kafka"
        topics = ["t"]
        kafka = { "bootstrap.servers" = "127.0.0.1:1", "group.id" = "g" }
        [decode]
        type = "json"
        columns = [{ name = "a", type = "float64" }]
        [score]
        type = "onnx"
        follow.name = "cars"
        [score.follow.feed]
        type = "kafka"
        kafka = { "bootstrap.servers" = "127.0.0.1:1", "sasl.mechanism" = "PLAIN", "sasl.password" = "hunter2" }
        [[route]]
        name = "out"
        encode = { type = "json" }
        sink = { type = "stdout" }
    "#;
    let validate = |text: &str, expected: i32| {
        std::fs::write(&file, text).unwrap();
        run(env!("CARGO_BIN_EXE_worker"), &["validate", file.to_str().unwrap()], expected)
    };
    validate(good, 0);
    let wrong = validate(
        &good.replace(
            "kafka = { \"bootstrap.servers\" = \"127.0.0.1:1\", \"sasl",
            "tpoic = \"x\"\n        kafka = { \"bootstrap.servers\" = \"127.0.0.1:1\", \"sasl",
        ),
        2,
    );
    assert!(wrong.contains("score.follow.feed.tpoic") && !wrong.contains("hunter2"), "{wrong}");
    let feed = |more: &str| good.replace("[score.follow.feed]", &format!("[score.follow.feed]\n        {more}"));
    let avro = "format = \"confluent_avro\"";
    let registry = "registry = { url = \"http://127.0.0.1:1\", username = \"me\", password = \"hunter3\" }";
    validate(&feed(&format!("{avro}\n{registry}")), 0);
    let wrong = validate(&feed(avro), 2);
    assert!(wrong.contains("score.follow.feed.registry: is missing") && wrong.contains("confluent_avro"), "{wrong}");
    let wrong = validate(&feed(&registry.replace("http", "ftp")), 2);
    assert!(
        wrong.contains("score.follow.feed.registry: the registry's url must") && !wrong.contains("hunter3"),
        "{wrong}"
    );
    let wrong = validate(&feed(&registry.replace("password", "passwort")), 2);
    assert!(wrong.contains("score.follow.feed.registry.passwort") && !wrong.contains("hunter3"), "{wrong}");
    let wrong = validate(&feed("format = \"avro\""), 2);
    assert!(wrong.contains("score.follow.feed.format"), "{wrong}");
    let wrong = validate(&good.replace("follow.name = \"cars\"", "max_keys = 5"), 2);
    assert!(wrong.contains("score.follow") && wrong.contains("name"), "{wrong}");
    let wrong = validate(
        &good.replace(
            "type = \"onnx\"\n        follow.name = \"cars\"\n        [score.follow.feed]",
            "type = \"onnx\"\n        [score.unused]",
        ),
        2,
    );
    assert!(wrong.contains("unused"), "{wrong}");
}
