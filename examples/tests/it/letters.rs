//! Dead letters, from their cause to its cure: the schema of some messages is not registered, then it is, and `replay` feeds
//! them back.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cars::{Fleet, FleetConfig, avro, car_name};
use iotml_core::batch::RawBatch;
use iotml_core::decode::PassThrough;
use iotml_core::encode::{Registration, SchemaRegistrar};
use iotml_core::error::ConfigError;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineSpec, Route, TaskStages, header};
use iotml_core::plugin::BuildContext;
use iotml_core::sink::Sink;
use iotml_core::testing::{MemoryLog, servers};
use iotml_kafka::{
    KafkaSink, KafkaSinkConfig, LogError, LogEvent, LogReader, LogReaderConfig, SchemaRegistry, SchemaRegistryConfig,
    Select, TopicCreation, Until,
};
use iotml_mqtt::{MqttSink, MqttSinkConfig};

use crate::{checkout, command, fresh, run};

const WORKER: &str = env!("CARGO_BIN_EXE_worker");

/// Messages whose schema is missing at first.
const N: usize = 100;

/// How far ahead of the ids that are given out the missing one is, so that no other test gets it meanwhile.
const AHEAD: u32 = 150;

/// A registry that gives ids one after the other, and a schema as often as one likes: in every copy another word is different.
struct Ids {
    registry: SchemaRegistry,
    runtime: tokio::runtime::Runtime,
}

impl Ids {
    fn register(&self) -> u32 {
        let word = fresh("copy");
        let schema = avro::CARDATA_V1.replacen('{', &format!("{{\"doc\": \"{word}\","), 1);
        let registration = Registration { subject: &word, schema: &schema, auto_register: true, compatibility: None };
        self.runtime.block_on(self.registry.register(registration)).unwrap()
    }

    /// Registers copies until one has this id; false if another schema got it.
    fn give_out(&self, wanted: u32) -> bool {
        loop {
            let id = self.register();
            if id >= wanted {
                return id == wanted;
            }
        }
    }
}

/// Writes keyed messages to a sink.
fn write(
    messages: impl IntoIterator<Item = (String, Vec<u8>)>,
    sink: impl Fn(&BuildContext) -> Result<Arc<dyn Sink>, ConfigError> + Send + Sync + 'static,
) {
    let log = MemoryLog::default();
    log.publish_keyed(messages.into_iter().map(|(key, payload)| (Some(key.into_bytes()), Some(payload))));
    log.end();
    let spec = PipelineSpec::new("write", move |context| {
        let route = Route::required("out", None, sink(context)?);
        Ok(TaskStages::new(Box::new(log.source(N)), Box::new(PassThrough), vec![route]))
    });
    let audit = Pipeline::start(spec, Metrics::default()).unwrap().wait().unwrap().audit;
    assert_eq!(audit.delivered, audit.received);
}

fn produce(kafka: &str, topic: &str, schema_id: u32) {
    let mut fleet = Fleet::new(&FleetConfig { n_cars: N as u32, ..FleetConfig::default() });
    let messages = fleet.tick().map(|reading| {
        let mut payload = [&[0][..], &schema_id.to_be_bytes()].concat();
        avro::write_v1(&reading, &mut payload);
        (car_name(reading.car), payload)
    });
    let mut config = KafkaSinkConfig::new(kafka, Some(topic));
    config.create_topics = Some(TopicCreation { partitions: Some(2), replication: None, config: Default::default() });
    write(messages, move |context| Ok(Arc::new(KafkaSink::new(config.clone(), context)?)));
}

/// Everything in a topic; nothing where there is no such topic yet.
fn read(kafka: &str, topic: &str) -> Vec<Arc<RawBatch>> {
    let mut log = match LogReader::open(LogReaderConfig::new(kafka, topic)) {
        Err(LogError::UnknownTopic { .. }) => return Vec::new(),
        log => log.unwrap(),
    };
    let range = log.resolve(&Select::All).unwrap();
    log.begin(&range, Until::End).unwrap();
    let mut batches = Vec::new();
    loop {
        match log.next(N, Duration::from_secs(1)).unwrap() {
            LogEvent::Batch(batch) => batches.push(batch),
            LogEvent::Idle => {}
            LogEvent::End => return batches,
        }
    }
}

/// Their payloads, as JSON.
fn values(batches: &[Arc<RawBatch>]) -> Vec<serde_json::Value> {
    let of = |batch: &Arc<RawBatch>| -> Vec<serde_json::Value> {
        (0..batch.len()).map(|row| serde_json::from_slice(batch.messages().payload(row).unwrap()).unwrap()).collect()
    };
    batches.iter().flat_map(of).collect()
}

fn configuration(kafka: &str, registry: &str, name: &str) -> String {
    format!(
        r#"
[pipeline]
name = "{name}"
"errors.tolerance" = "all"
[source]
type = "kafka"
topics = ["{name}"]
stop_at_end = true
[source.kafka]
"bootstrap.servers" = "{kafka}"
[decode]
type = "confluent_avro"
registry = {{ url = "{registry}" }}
[score]
type = "onnx"
model = "testdata/cars/cars-autoencoder.onnx"
[[route]]
name = "predictions"
[route.encode]
type = "json"
columns = ["score", "anomaly", "model_version"]
key_field = "car"
[route.sink]
type = "kafka"
topic = "{name}-predictions"
create_topics = {{ partitions = 2 }}
[route.sink.kafka]
"bootstrap.servers" = "{kafka}"
[dead_letter]
type = "kafka"
topic = "{name}-dlq"
create_topics = {{ partitions = 1 }}
[dead_letter.kafka]
"bootstrap.servers" = "{kafka}"
"#
    )
}

#[test]
fn inv_4_7_a_hundred_dead_letters_are_scored_once_their_schema_is_registered() {
    let (Some(kafka), Some(url)) = (servers::kafka(), servers::registry()) else { return };
    let registry = SchemaRegistry::new(SchemaRegistryConfig::new(&url)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ids = Ids { registry, runtime };
    // Another schema may get the id after all; then everything begins again.
    for _ in 0..3 {
        if cured(&kafka, &url, &ids) {
            return;
        }
    }
    panic!("the registry gives out no ids one after the other");
}

/// The whole story; false if the id went to another schema.
fn cured(kafka: &str, url: &str, ids: &Ids) -> bool {
    let name = fresh("cured");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cured.toml");
    std::fs::write(&file, configuration(kafka, url, &name)).unwrap();
    let file = file.to_str().unwrap();
    assert!(checkout().join("testdata/cars/cars-autoencoder.onnx").exists());

    let schema_id = ids.register() + AHEAD;
    produce(kafka, &name, schema_id);
    let text = run(WORKER, &["run", file], 0);
    assert!(text.contains("dead-lettered 100"), "{text}");
    let list = run(WORKER, &["replay", file, "--list"], 0);
    assert_eq!(list.matches("unknown_schema_id").count(), N, "{list}");
    let table: String = list.lines().take(3).map(|line| format!("{line}\n")).collect();
    println!("{table}");

    if !ids.give_out(schema_id) {
        return false;
    }
    let text = run(WORKER, &["replay", file, "--reason", "unknown_schema_id"], 0);
    println!("{text}");
    assert!(text.contains("read 100, matched 100, replayed 100,"), "{text}");
    let text = run(WORKER, &["run", file], 0);
    assert!(text.contains("delivered 100") && text.contains("dead-lettered 0"), "{text}");

    let predictions = values(&read(kafka, &format!("{name}-predictions")));
    let cars: std::collections::BTreeSet<_> = predictions.iter().map(|it| it["car"].to_string()).collect();
    assert_eq!((predictions.len(), cars.len()), (N, N), "each once");
    assert!(predictions.iter().all(|prediction| prediction["score"].as_f64().is_some_and(f64::is_finite)));
    let text = run(WORKER, &["replay", file, "--reason", "unknown_schema_id"], 0);
    assert!(text.contains("read 0, matched 0, replayed 0,"), "{text}");
    true
}

fn bridge(mqtt: &str, kafka: &str, name: &str) -> String {
    format!(
        r#"
[pipeline]
name = "{name}"
instance = "it"
"errors.tolerance" = "all"
[source]
type = "mqtt"
server = "mqtt://{mqtt}"
topics = [{{ filter = "{name}/{{car}}", key = "{{car}}" }}]
[decode]
type = "json"
columns = [{{ name = "speed", type = "float32", nullable = false }}]
[[route]]
name = "out"
encode = {{ type = "json" }}
[route.sink]
type = "kafka"
topic = "{name}-out"
create_topics = {{ partitions = 1 }}
[route.sink.kafka]
"bootstrap.servers" = "{kafka}"
[dead_letter]
type = "kafka"
topic = "{name}-dlq"
create_topics = {{ partitions = 1 }}
[dead_letter.kafka]
"bootstrap.servers" = "{kafka}"
"#
    )
}

/// A worker that runs until it is told to stop.
struct Worker(Child);

impl Worker {
    /// Starts it, and waits until it receives.
    fn start(file: &str) -> Self {
        let mut child = command(WORKER, &["run", file]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut seen = Vec::new();
        while let Some(line) = lines.next() {
            if line.contains("the pipeline runs") {
                // Read on, so that it is not held up by a full pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Self(child);
            }
            seen.push(line);
        }
        panic!("the worker does not run but ends with {:?}:\n{}", child.wait(), seen.join("\n"));
    }

    /// Stops it as an operator does.
    fn stop(mut self) {
        run("kill", &["-TERM", &self.0.id().to_string()], 0);
        assert!(self.0.wait().unwrap().success());
    }
}

/// Waits until a topic has `n` messages.
fn wait_for(kafka: &str, topic: &str, n: usize) -> Vec<Arc<RawBatch>> {
    let began = Instant::now();
    loop {
        let batches = read(kafka, topic);
        let n_there = batches.iter().map(|batch| batch.len()).sum::<usize>();
        if n_there >= n {
            return batches;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{n_there} of {n} messages in {topic}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn inv_7_what_came_over_mqtt_goes_back_over_mqtt() {
    let Some(kafka) = servers::kafka() else { return };
    for mqtt in [servers::mosquitto(), servers::hivemq()] {
        let Some(mqtt) = mqtt else { return };
        let name = fresh("back");
        let (letters, folder) = (format!("{name}-dlq"), tempfile::tempdir().unwrap());
        let file = folder.path().join("bridge.toml");
        std::fs::write(&file, bridge(&mqtt, &kafka, &name)).unwrap();
        let file = file.to_str().unwrap();
        // The session is there from now on, and with it everything that is published.
        let worker = Worker::start(file);
        let config = MqttSinkConfig::new(&mqtt, format!("{name}/{{key}}"));
        let bad = (0..5).map(|n| (format!("car-{n}"), format!("no json {n}").into_bytes()));
        // Kafka takes neither this one nor a dead letter with all of it.
        let bad = bad.chain([("huge".to_owned(), vec![b'x'; 3 << 20])]);
        write(bad, move |_| Ok(Arc::new(MqttSink::new(config.clone())?)));
        wait_for(&kafka, &letters, 6);
        let text = run(WORKER, &["replay", file], 0);
        assert!(
            text.contains("read 6, matched 6, replayed 5,") && text.contains("cut short when received 1"),
            "{text}"
        );
        // They fail again, and the letters say that it was not for the first time.
        let batches = wait_for(&kafka, &letters, 11);
        worker.stop();
        let rows = batches.iter().flat_map(|batch| (0..batch.len()).map(move |row| (batch.messages(), row)));
        let again = rows.skip(6).map(|(messages, row)| {
            let value = |name: &str| messages.headers().last(row, name).and_then(|header| header.value);
            assert_eq!(value(header::REPLAYS), Some(&b"1"[..]));
            let car = String::from_utf8(messages.key(row).unwrap().to_vec()).unwrap();
            assert_eq!(value(header::TOPIC), Some(format!("{name}/{car}").as_bytes()));
            (car, String::from_utf8(messages.payload(row).unwrap().to_vec()).unwrap())
        });
        let mut again: Vec<_> = again.collect();
        again.sort();
        assert_eq!(again, (0..5).map(|n| (format!("car-{n}"), format!("no json {n}"))).collect::<Vec<_>>());
    }
}
