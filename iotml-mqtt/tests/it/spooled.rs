//! The source on the Paho backend, whose messages lie in a spool on disk.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iotml_core::async_trait;
use iotml_core::error::Reason;
use iotml_core::plugin::{ByteSize, HumanDuration};
use iotml_core::secret::Secret;
use iotml_core::source::Source;
use iotml_core::testing::servers;
use iotml_core::testing::source::{SourceHarness, conforms};
use iotml_mqtt::source::{BackendKind, MqttVersion, SpoolConfig, TopicConfig};
use iotml_mqtt::{MqttSource, MqttSourceConfig};
use tempfile::TempDir;

use crate::broker::{Broker, on_every_broker, unique};
use crate::cut::Wire;
use crate::leave::one_of_two_leaves;
use crate::publisher::{Publisher, numbered};
use crate::reader::Reader;

fn config(address: &str, topic: &str, version: MqttVersion) -> (MqttSourceConfig, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = MqttSourceConfig::new(address, TopicConfig::new(format!("{topic}/#")));
    config.client_id = Some(unique("client"));
    config.backend = BackendKind::Paho;
    config.mqtt_version = version;
    config.spool = Some(SpoolConfig { dir: folder.path().into(), max_bytes: ByteSize(1 << 20), fsync: false });
    (config, folder)
}

/// After a drop without close the thread of the old source still needs a moment to give the spool up.
pub async fn reopen(config: &MqttSourceConfig) -> Reader {
    let opening = async {
        loop {
            match Reader::try_open(config.clone()).await {
                Ok(reader) => return reader,
                Err(error) => assert!(error.to_string().contains("in use"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), opening).await.expect("the spool is given up")
}

struct Harness {
    config: MqttSourceConfig,
    topic: String,
    publisher: Publisher,
    _folder: TempDir,
}

#[async_trait]
impl SourceHarness for Harness {
    async fn source(&mut self) -> Box<dyn Source> {
        Box::new(MqttSource::new(self.config.clone()).expect("a valid configuration"))
    }

    async fn publish(&mut self, payloads: &[Vec<u8>]) {
        self.publisher.publish_all(&format!("{}/a", self.topic), payloads.iter().cloned()).await;
    }

    async fn publish_unusable(&mut self) -> Option<Reason> {
        self.publisher.publish(&format!("{}/a", self.topic), vec![b'x'; 1_000]).await;
        Some(Reason::Oversized)
    }
}

async fn conforming(broker: Broker, version: MqttVersion) {
    let topic = unique("spooled");
    let (mut config, folder) = config(&broker.address(), &topic, version);
    config.max_message_bytes = ByteSize(1_000);
    let publisher = Publisher::connect(&broker.address()).await;
    conforms(&mut Harness { config, topic, publisher, _folder: folder }).await;
}

async fn mqtt_5(broker: Broker) {
    conforming(broker, MqttVersion::V5).await;
}

async fn mqtt_3(broker: Broker) {
    conforming(broker, MqttVersion::V3).await;
}

/// What the broker has forgotten and the pipeline has not acknowledged survives a kill.
async fn killed(broker: Broker) {
    let topic = unique("killed");
    let wire = Wire::to(&broker.address()).await;
    let (config, _folder) = config(&wire.address, &topic, MqttVersion::V5);
    let mut reader = Reader::open(config.clone()).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..100)).await;
    reader.read(100).await;
    reader.ack_first(30);
    // Commands are obeyed in order, so once this one shows the acknowledgement has been written.
    publisher.publish(&format!("{topic}/a"), numbered(100..101).remove(0)).await;
    reader.read(101).await;
    // A message is in the spool before it is acknowledged, and what the broker has not read by then comes twice.
    wire.wait_for_acks(101).await;
    drop(reader);
    wire.wait_until_parted().await;
    publisher.publish_all(&format!("{topic}/a"), numbered(101..110)).await;
    let mut reader = reopen(&config).await;
    reader.read(80).await;
    assert_eq!(reader.read_rest().await, 80);
    assert_eq!(reader.payloads(), numbered(30..110), "nothing lost, in order");
    reader.ack_all();
    reader.close().await;
}

/// A full spool stops receiving; acknowledgements let it go on, and nothing is dropped.
async fn full(broker: Broker) {
    let topic = unique("full");
    let (mut config, folder) = config(&broker.address(), &topic, MqttVersion::V5);
    config.spool.as_mut().expect("a spool").max_bytes = ByteSize(8 << 10);
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..500)).await;
    let mut n_seen = reader.read_rest().await;
    assert!(n_seen < 500, "8 KiB hold less than 500 messages");
    // The broker has all 500, since it has acknowledged them, and keeps those that the spool has no room for.
    let n_held = reader.gauge("spool_messages");
    assert_eq!(
        n_held, n_seen as i64,
        "what was read and what lies in the spool are the same as long as nothing is acknowledged"
    );
    assert!(reader.gauge("spool_bytes") <= 8 << 10, "{} bytes", reader.gauge("spool_bytes"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs() as i64;
    let age = now - reader.gauge("spool_oldest_timestamp_seconds");
    assert!((0..60).contains(&age), "the oldest message is {age} s old");
    while n_seen < 500 {
        reader.ack_all();
        reader.read(n_seen + 1).await;
        n_seen = reader.len();
    }
    let n_bytes: u64 = walk(folder.path()).iter().map(|path| path.metadata().map_or(0, |data| data.len())).sum();
    assert!(n_bytes < 10 << 10, "{n_bytes} bytes on disk");
    assert_eq!(reader.payloads(), numbered(0..500));
    reader.ack_all();
    reader.wait_for_gauge("spool_messages", 0).await;
    assert_eq!(reader.gauge("spool_oldest_timestamp_seconds"), 0);
    reader.close().await;
}

/// A source that comes back to a full spool, while the broker has more for it, opens all the same and goes on.
async fn opened_full(broker: Broker) {
    let topic = unique("opened");
    let (mut config, _folder) = config(&broker.address(), &topic, MqttVersion::V5);
    config.spool.as_mut().expect("a spool").max_bytes = ByteSize(8 << 10);
    let mut reader = Reader::open(config.clone()).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..500)).await;
    assert!(reader.read_rest().await < 500, "8 KiB hold less than 500 messages");
    drop(reader);
    let mut reader = reopen(&config).await;
    reader.leave().await;
    reader.read_to_end().await;
    let distinct: BTreeSet<_> = reader.payloads().into_iter().collect();
    assert_eq!(distinct.into_iter().collect::<Vec<_>>(), numbered(0..500));
    reader.close().await;
}

async fn opened_full_alone(broker: Broker) {
    alone(broker, opened_full).await;
}

/// Set in a process that runs one test alone.
const ALONE: &str = "IOTML_TEST_ALONE";

/// Runs the test in a process of its own, because one thread receives for every Paho client of a process: a spool that is full
/// holds up the others.
async fn alone(broker: Broker, test: impl AsyncFnOnce(Broker)) {
    if std::env::var_os(ALONE).is_some() {
        return test(broker).await;
    }
    let name = std::thread::current().name().expect("tests have names").to_owned();
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", &name, "--nocapture", "--quiet"]).env(ALONE, "1");
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("a child");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    println!("{}", text.lines().filter(|line| line.contains(" fitted; ")).collect::<String>());
}

async fn full_for_long_alone(broker: Broker) {
    alone(broker, full_for_long).await;
}

/// Full for longer than the broker waits for a keep-alive: the connection may go, no message does.
async fn full_for_long(broker: Broker) {
    let topic = unique("long");
    let (mut config, _folder) = config(&broker.address(), &topic, MqttVersion::V5);
    config.spool.as_mut().expect("a spool").max_bytes = ByteSize(8 << 10);
    config.connection.keep_alive = HumanDuration::from_secs(1);
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..300)).await;
    reader.read_rest().await;
    // Nobody acknowledges; four times the keep-alive is more than the broker waits.
    let full_until = tokio::time::Instant::now() + Duration::from_secs(4);
    while tokio::time::Instant::now() < full_until {
        reader.read_rest().await;
    }
    let distinct = |reader: &Reader| reader.payloads().into_iter().collect::<BTreeSet<_>>().len();
    let n_seen = distinct(&reader);
    assert!(n_seen < 300, "8 KiB hold less than 300 messages");
    while distinct(&reader) < 300 {
        reader.ack_all();
        reader.read(reader.len() + 1).await;
    }
    let mut payloads = reader.payloads();
    let n = payloads.len();
    payloads.dedup();
    println!("{n_seen} fitted; {} came twice", n - 300);
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads, numbered(0..300));
    reader.close().await;
}

/// Where a killed process is told what to do: server, topic, client id and folder, one a line.
const CHILD: &str = "IOTML_TEST_SPOOL";

/// In the process that is to be killed: receives, writes down what it has, and acknowledges that. Elsewhere nothing.
#[tokio::test]
async fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let told: Vec<&str> = told.lines().collect();
    let mut config = MqttSourceConfig::new(told[0], TopicConfig::new(format!("{}/#", told[1])));
    config.client_id = Some(told[2].into());
    config.backend = BackendKind::Paho;
    let folder = Path::new(told[3]);
    config.spool = Some(SpoolConfig { dir: folder.join("spool"), max_bytes: ByteSize(64 << 10), fsync: false });
    let mut durable = std::fs::File::create(folder.join("durable")).expect("a file");
    let mut reader = Reader::open(config).await;
    loop {
        let before = reader.len();
        reader.read(before + 1).await;
        let lines: Vec<u8> =
            reader.payloads()[before..].iter().flat_map(|payload| [payload, &b"\n"[..]].concat()).collect();
        durable.write_all(&lines).expect("written");
        reader.ack_all();
    }
}

/// kill -9 in the middle of a stream: what the broker has forgotten is in the spool, and the rest comes from the broker.
async fn really_killed(broker: Broker) {
    const N: u32 = 10_000;
    let (topic, client_id) = (unique("sigkill"), unique("client"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "spooled::child", "--nocapture"]);
    command.env(CHILD, [&broker.address(), &topic, &client_id, path].join("\n"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child");
    let durable = folder.path().join("durable");
    let n_durable = || std::fs::read(&durable).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count());
    // The file is made just before the child subscribes; what is published earlier is nobody's.
    let address = broker.address();
    let publishing = tokio::spawn({
        let (topic, durable) = (topic.clone(), durable.clone());
        async move {
            let mut publisher = Publisher::connect(&address).await;
            // The first ones until the child has its subscription.
            let mut n_before = 0;
            for number in 0..N {
                publisher.publish(&format!("{topic}/a"), numbered(number..number + 1).remove(0)).await;
                if !durable.exists() || std::fs::metadata(&durable).map_or(0, |data| data.len()) == 0 {
                    n_before = number;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            n_before
        }
    });
    let began = tokio::time::Instant::now();
    while n_durable() < 2_000 {
        assert!(began.elapsed() < Duration::from_secs(60), "the child has {} messages", n_durable());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    child.kill().expect("kill -9");
    child.wait().expect("it is gone");
    let text = std::fs::read_to_string(folder.path().join("durable")).expect("what it has");
    // A line cut short is not durable.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let by_child: Vec<Vec<u8>> = whole.lines().map(|line| line.as_bytes().to_vec()).collect();

    let mut config = MqttSourceConfig::new(broker.address(), TopicConfig::new(format!("{topic}/#")));
    config.client_id = Some(client_id);
    config.backend = BackendKind::Paho;
    config.spool = Some(SpoolConfig { dir: folder.path().join("spool"), max_bytes: ByteSize(64 << 10), fsync: false });
    let mut reader = reopen(&config).await;
    let n_in_spool = reader.gauge("spool_messages");
    let first = by_child.first().expect("the child read something").clone();
    let number = |payload: &[u8]| -> u32 { String::from_utf8_lossy(&payload[8..]).parse().expect("a number") };
    let (first, last) = (number(&first), numbered(N - 1..N).remove(0));
    while !reader.payloads().contains(&last) {
        reader.read(reader.len() + 1).await;
        reader.ack_all();
    }
    let n_before = publishing.await.expect("all is published");
    assert!(first <= n_before + 1, "nothing is missing between {n_before} and {first}");
    let n_child = by_child.len();
    let mut all: Vec<_> = by_child.into_iter().chain(reader.payloads()).collect();
    let n_all = all.len();
    all.sort();
    all.dedup();
    println!("{n_child} by the killed process, {n_in_spool} in its spool, {} of {n_all} twice", n_all - all.len());
    assert_eq!(all, numbered(first..N), "every message that was acknowledged to the publisher is there");
    reader.close().await;
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// The wire is cut: the client comes back by itself and goes on where it was.
async fn cut(broker: Broker) {
    let topic = unique("cut");
    let wire = Wire::to(&broker.address()).await;
    let (config, _folder) = config(&wire.address, &topic, MqttVersion::V5);
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..10)).await;
    reader.read(10).await;
    wire.cut();
    reader.wait_for_count("reconnects", 1).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(10..20)).await;
    wire.mend();
    let last = numbered(19..20).remove(0);
    while !reader.payloads().contains(&last) {
        reader.read(reader.len() + 1).await;
    }
    // Messages whose acknowledgements were cut off come twice: at least once.
    let mut payloads = reader.payloads();
    payloads.sort();
    payloads.dedup();
    assert_eq!(payloads, numbered(0..20));
    reader.close().await;
}

/// Whoever leaves empties its spool, and then ends the session.
async fn leaves(broker: Broker, version: MqttVersion) {
    let (topic, group) = (unique("leave"), unique("group"));
    let mut folders = Vec::new();
    let configs = [(); 2].map(|()| {
        let (mut config, folder) = config(&broker.address(), &topic, version);
        config.group = Some(group.clone());
        folders.push(folder);
        config
    });
    one_of_two_leaves(&broker, &topic, configs, 0).await;
}

// Not over HiveMQ CE: Paho cannot hold an acknowledgement back to wake the others (docs/operating.md).
#[tokio::test]
async fn inv_1_who_leaves_empties_its_spool_and_ends_the_session() {
    for broker in [Some(Broker::embedded()), Broker::mosquitto()].into_iter().flatten() {
        leaves(broker, MqttVersion::V5).await;
    }
}

#[tokio::test]
async fn inv_1_who_leaves_on_mqtt_3_ends_the_session() {
    for broker in [Some(Broker::embedded()), Broker::mosquitto()].into_iter().flatten() {
        leaves(broker, MqttVersion::V3).await;
    }
}

on_every_broker! {
    spooled_source_conforms => mqtt_5;
    spooled_source_conforms_on_mqtt_3 => mqtt_3;
    inv_1_the_spool_survives_a_drop => killed;
    inv_1_the_spool_survives_kill_9 => really_killed;
    inv_6_a_full_spool_stops_receiving_and_drops_nothing => full;
    inv_6_a_spool_that_is_full_for_long_loses_nothing => full_for_long_alone;
    inv_6_a_source_opens_and_leaves_with_a_full_spool => opened_full_alone;
    a_cut_wire_is_mended => cut;
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_spool_are_clear_errors() {
    let mut config = MqttSourceConfig::new("mqtt://localhost", TopicConfig::new("a/#"));
    config.backend = BackendKind::Paho;
    let error = MqttSource::new(config).expect_err("no spool").to_string();
    assert!(error.contains("spool.dir"), "{error}");

    let Some(address) = servers::server("IOTML_MOSQUITTO_AUTH") else { return };
    let (mut config, _folder) = self::config(&address, "a", MqttVersion::V5);
    config.connection.username = Some("nobody".into());
    config.connection.password = Some(Secret::new("hunter2"));
    let error = Reader::try_open(config).await.err().expect("refused").to_string();
    assert!(error.contains("`password`") && !error.contains("hunter2"), "{error}");
}
