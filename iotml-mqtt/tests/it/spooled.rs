//! The source on the Paho backend, whose messages lie in a spool on disk.

use std::time::Duration;

use iotml_core::async_trait;
use iotml_core::plugin::ByteSize;
use iotml_core::secret::Secret;
use iotml_core::source::Source;
use iotml_core::testing::servers;
use iotml_core::testing::source::{SourceHarness, conforms};
use iotml_mqtt::source::{BackendKind, MqttVersion, SpoolConfig, TopicConfig};
use iotml_mqtt::{MqttSource, MqttSourceConfig};
use tempfile::TempDir;

use crate::broker::{Broker, on_every_broker, unique};
use crate::cut::Wire;
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
async fn reopen(config: &MqttSourceConfig) -> Reader {
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
}

async fn conforming(broker: Broker, version: MqttVersion) {
    let topic = unique("spooled");
    let (config, folder) = config(&broker.address(), &topic, version);
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
    let (config, _folder) = config(&broker.address(), &topic, MqttVersion::V5);
    let mut reader = Reader::open(config.clone()).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..100)).await;
    reader.read(100).await;
    reader.ack_first(30);
    // Commands are obeyed in order, so once this one shows the acknowledgement has been written.
    publisher.publish(&format!("{topic}/a"), numbered(100..101).remove(0)).await;
    reader.read(101).await;
    drop(reader);
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
    while n_seen < 500 {
        reader.ack_all();
        reader.read(n_seen + 1).await;
        n_seen = reader.len();
    }
    let n_bytes: u64 = walk(folder.path()).iter().map(|path| path.metadata().map_or(0, |data| data.len())).sum();
    assert!(n_bytes < 10 << 10, "{n_bytes} bytes on disk");
    assert_eq!(reader.payloads(), numbered(0..500));
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

on_every_broker! {
    spooled_source_conforms => mqtt_5;
    spooled_source_conforms_on_mqtt_3 => mqtt_3;
    inv_1_the_spool_survives_a_kill => killed;
    inv_6_a_full_spool_stops_receiving_and_drops_nothing => full;
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
