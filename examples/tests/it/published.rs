//! The commands of docs/models.md against real servers: published into a store, announced on Kafka, and put into force by a worker
//! that follows; signed, and by who is trusted alone; and announced in Avro.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use iotml_core::model::{Announcement, ModelSet, Rollout};
use iotml_core::testing::servers;
use iotml_kafka::{AnnouncementFormat, KafkaModelFeedConfig, ModelTopic, SchemaRegistryConfig};
use rdkafka::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use serde_json::{Value, json};

use crate::exactly_once::{PATIENCE, Topics, Worker};
use crate::models::{Row, configuration, file};
use crate::{command, run};

const N_CARS: usize = 40;
const WORKER: &str = env!("CARGO_BIN_EXE_worker");

struct Plant {
    topics: Topics,
    /// The configuration that worker and commands share.
    config: String,
    worker: Worker,
    n_sent: usize,
}

impl Plant {
    /// Runs a command of `worker model`.
    fn model(&self, arguments: &[&str], expected: i32) -> String {
        run(WORKER, &[&["model"], arguments, &["--config", &self.config]].concat(), expected)
    }

    /// Waits until the worker has said of a version that it is in this state; gives the report.
    fn reported(&mut self, version: &str, state: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.model(&["status", "cars", "--format", "json"], 0);
            let status: Value = serde_json::from_str(&text).unwrap();
            let mut reports = status["reports"].as_array().unwrap().iter();
            if let Some(report) = reports.find(|it| it["version"] == version && it["state"] == state) {
                return report.clone();
            }
            assert!(Instant::now() < deadline, "{version} is not {state}: {text}\n{}", self.worker.tail());
            self.worker.look();
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Sends one row of each car; by which version each was scored.
    fn row_of_each(&mut self) -> BTreeMap<String, String> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            self.topics.client().set("linger.ms", "5").create().unwrap();
        let (first, topic) = (self.n_sent, self.topics.of("in"));
        for car in 0..N_CARS {
            let (key, payload) = (format!("car{car}"), format!("{{\"seq\": {}, \"a\": 2}}", first + car));
            let record = BaseRecord::to(&topic).key(&key).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        self.n_sent += N_CARS;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut versions = BTreeMap::new();
            for message in self.topics.read("out", "read_committed") {
                let row: Row = serde_json::from_slice(message.payload().unwrap()).unwrap();
                if row.seq >= first {
                    versions.insert(String::from_utf8(message.key().unwrap().to_vec()).unwrap(), row.model_version);
                }
            }
            if versions.len() == N_CARS {
                return versions;
            }
            assert!(Instant::now() < deadline, "{versions:?}\n{}", self.worker.tail());
            self.worker.look();
        }
    }

    /// Sends rows until one of each car is scored by a version of its list alone.
    fn scored_by(&mut self, is_right: impl Fn(&BTreeMap<String, String>) -> bool) -> BTreeMap<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let versions = self.row_of_each();
            if is_right(&versions) {
                return versions;
            }
            assert!(Instant::now() < deadline, "{versions:?}\n{}", self.worker.tail());
        }
    }

    fn scored_by_alone(&mut self, version: &str) {
        self.scored_by(|versions| versions.values().all(|found| found == version));
    }
}

fn openssl(arguments: &[&str]) {
    run("openssl", arguments, 0);
}

/// How the bucket at `endpoint` is reached, and whom to trust.
fn store_options(folder: &Path, endpoint: &str) -> String {
    let (cache, public) = (folder.join("cache"), folder.join("publisher.pem"));
    format!(
        r#"
        [score.follow.store_options]
        cache = "{}"
        trusted_keys = ["{}"]
        require_signature = true

        [score.follow.store_options.properties]
        aws_endpoint = "{endpoint}"
        allow_http = true
        aws_access_key_id = "models"
        aws_secret_access_key = "hunter2-{:016x}"
        "#,
        cache.display(),
        public.display(),
        rand::random::<u64>(),
    )
}

#[test]
fn inv_8_publish_canary_promote_roll_back_and_retire_by_commands() {
    let (Some(kafka), Some(s3)) = (servers::kafka(), servers::server("IOTML_S3")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for version in 1..=4 {
        std::fs::write(path(&format!("cars-{version}.onnx")), file(version)).unwrap();
    }
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &path("private.pem")]);
    openssl(&["pkey", "-in", &path("private.pem"), "-pubout", "-out", &path("publisher.pem")]);
    let topics = Topics::new(&kafka, "published");
    let store = format!("name = \"cars\"\nstore = \"s3://models/{:016x}\"\n", rand::random::<u64>());
    let text = configuration(&topics, 0).replacen("name = \"cars\"\n", &store, 1) + &store_options(folder.path(), &s3);
    let worker = Worker::start(&text, folder.path(), 0);
    let mut plant = Plant { topics, config: path("0.toml"), worker, n_sent: 0 };
    let sign = path("private.pem");
    let publish = |plant: &Plant, version: u32, rest: &[&str]| {
        let file = path(&format!("cars-{version}.onnx"));
        plant.model(&[&["publish", &file], rest].concat(), 0)
    };

    let told = publish(&plant, 1, &["--sign", &sign]);
    assert!(told.contains("cars 1 published") && told.contains("  1  all rows  s3://models/"), "{told}");
    plant.reported("1", "READY");
    plant.scored_by_alone("1");

    publish(&plant, 2, &["--sign", &sign, "--rollout", "canary=50"]);
    let shared = plant.scored_by(|versions| versions.values().any(|version| version == "2"));
    assert!(shared.values().any(|version| version == "1"), "half of the cars stay: {shared:?}");
    assert_eq!(plant.row_of_each(), shared, "a car stays with its version");
    plant.worker.kill();
    assert_eq!(plant.row_of_each(), shared, "also when the worker was killed");

    plant.model(&["promote", "cars", "2"], 0);
    plant.scored_by_alone("2");
    let told = plant.model(&["rollback", "cars"], 0);
    assert!(told.contains("  1  all rows") && told.contains("  2  retired"), "{told}");
    plant.scored_by_alone("1");
    publish(&plant, 3, &["--sign", &sign, "--rollout", "canary=100"]);
    plant.scored_by_alone("3");
    plant.model(&["retire", "cars", "3"], 0);
    plant.scored_by_alone("1");

    // Not signed: the worker says so, and goes on.
    publish(&plant, 4, &[]);
    let report = plant.reported("4", "UNAVAILABLE");
    let cause = report["cause"].as_str().unwrap();
    assert!(cause.contains("is not signed, and require_signature is set") && cause.ends_with("goes on"), "{cause}");
    plant.scored_by_alone("1");

    let listed = command(WORKER, &["model", "list", "--store", "nowhere"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "no models\n");
    let status = plant.model(&["status", "cars"], 0);
    assert!(status.contains("  4  all rows  s3://models/"), "{status}");
    assert!(!status.contains("hunter2"), "{status}");
    plant.worker.signal("-TERM");
    assert!(plant.worker.child.wait().unwrap().success(), "{}", plant.worker.tail());
    assert!(!plant.worker.tail().contains("hunter2"), "{}", plant.worker.tail());
}

/// The model with a remark in it that makes it so long.
fn padded(file: &[u8], n_bytes: usize) -> Vec<u8> {
    // Lengths of three bytes each, in the protobuf of ONNX: an entry of the metadata with a key of one letter.
    let length = |n: usize| [n as u8 | 0x80, (n >> 7) as u8 | 0x80, (n >> 14) as u8];
    let n_remark = n_bytes - file.len() - 11;
    let mut padded = file.to_vec();
    padded.push(0x72);
    padded.extend(length(n_remark + 7));
    padded.extend(b"\x0a\x01p\x12");
    padded.extend(length(n_remark));
    padded.extend((0..n_remark).map(|at| b'a' + (at % 26) as u8));
    padded
}

#[test]
fn inv_8_what_is_announced_in_avro_takes_over_and_commands_change_it() {
    let (Some(kafka), Some(registry)) = (servers::kafka(), servers::registry()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let topics = Topics::new(&kafka, "avro");
    let models = topics.of("models");
    let mut config = KafkaModelFeedConfig::new(&kafka);
    config.topic = models.clone();
    config.format = AnnouncementFormat::ConfluentAvro;
    config.registry = Some(SchemaRegistryConfig::new(&registry));
    let announcing = ModelTopic::new(config).unwrap();
    let of = |version: u32| Announcement::inline(version.to_string(), file(version));
    announcing.announce(&ModelSet::single("cars", of(1))).unwrap();

    let format = format!("[score.follow.feed]\nformat = \"confluent_avro\"\nregistry.url = \"{registry}\"\n");
    let text = configuration(&topics, 0).replacen("[score.follow.feed]\n", &format, 1);
    let worker = Worker::start(&text, folder.path(), 0);
    let mut plant =
        Plant { topics, config: folder.path().join("0.toml").to_str().unwrap().to_owned(), worker, n_sent: 0 };
    plant.scored_by_alone("1");
    announcing.change("cars", |set| Ok(set.announce(of(2).rolled_out(Rollout::Canary { percent: 50.0 })))).unwrap();
    let shared = plant.scored_by(|versions| versions.values().any(|version| version == "2"));
    assert!(shared.values().any(|version| version == "1"), "half of the cars stay: {shared:?}");
    // The same topic by a table on the command line, and by the worker's configuration.
    let feed = json!({
        "type": "kafka", "topic": models, "format": "confluent_avro", "registry": { "url": registry },
        "kafka": { "bootstrap.servers": kafka },
    });
    run(WORKER, &["model", "promote", "cars", "2", "--feed", &feed.to_string()], 0);
    plant.scored_by_alone("2");
    plant.model(&["rollback", "cars"], 0);
    plant.scored_by_alone("1");

    let large = Announcement::inline("3", padded(&file(3), 900_000));
    assert_eq!(large.place.describe(), "inline, 900000 bytes");
    announcing.announce(&ModelSet::single("cars", large)).unwrap();
    plant.scored_by_alone("3");
    let written = plant.topics.read_partitions("models", "read_committed", 1);
    assert_eq!(written.len(), 5);
    assert!(written.iter().all(|message| message.payload().unwrap()[0] == 0), "all of it is Avro");
    plant.worker.signal("-TERM");
    assert!(plant.worker.child.wait().unwrap().success(), "{}", plant.worker.tail());
}
