//! A real broker that restarts under a running source.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use iotml_core::testing::servers;
use iotml_mqtt::MqttSourceConfig;
use iotml_mqtt::source::TopicConfig;
use tempfile::TempDir;

use crate::broker::unique;
use crate::cut::Wire;
use crate::publisher::{Publisher, numbered};
use crate::reader::Reader;

/// A Mosquitto of this test, so that restarting it disturbs no other.
struct Mosquitto {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Mosquitto {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let data = folder.path().display();
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             persistence true\npersistence_location {data}/\nuser root\n"
        );
        std::fs::write(folder.path().join("mosquitto.conf"), config).expect("a configuration");
        Self { folder, port, process: None }
    }

    async fn start(&mut self) {
        let program =
            ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("mosquitto"));
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf")).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("mosquitto is installed where its address is given"));
        let listening = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), listening).await.expect("mosquitto listens");
    }

    /// Ends it in good order, which writes its sessions down.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = process.id().to_string();
            let _ = Command::new("kill").arg("-TERM").arg(pid).status();
            let _ = process.wait();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn restarted(group: Option<String>) {
    if servers::mosquitto().is_none() {
        return;
    }
    let mut broker = Mosquitto::new();
    broker.start().await;
    let address = format!("127.0.0.1:{}", broker.port);
    let topic = unique("restart");
    let wire = Wire::to(&address).await;
    let mut config = MqttSourceConfig::new(&wire.address, TopicConfig::new(format!("{topic}/#")));
    config.client_id = Some(unique("client"));
    config.group = group;
    let mut reader = Reader::open(config).await;
    Publisher::connect(&address).await.publish_all(&format!("{topic}/a"), numbered(0..10)).await;
    reader.read(10).await;
    reader.ack_first(4);
    wire.wait_for_acks(4).await;
    broker.stop();
    reader.wait_for_count("reconnects", 1).await;
    broker.start().await;
    let mut publisher = Publisher::connect(&address).await;
    // Redelivered ones prove that the session is back before anything new is published.
    reader.wait_for_count("redelivered_messages", 6).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(10..30)).await;
    reader.read(30).await;
    reader.read_rest().await;
    let (before, mut after) = (reader.payloads(), reader.payloads().split_off(10));
    assert_eq!(before[..10], numbered(0..10));
    // Acknowledgements that had arrived at Mosquitto and that it had not read when it was told to end are lost.
    after.retain(|payload| !numbered(0..4).contains(payload));
    assert_eq!(after, numbered(10..30), "each once and in order over the restart");
    assert!(reader.lost.is_empty());
    reader.ack_all();
    reader.wait_for_count("acknowledged_messages", 30).await;
    reader.close().await;
}

#[tokio::test]
async fn inv_3_a_restarted_mosquitto_resumes_a_plain_session() {
    restarted(None).await;
}

/// Mosquitto 2.0.11 forgets the shared subscription until it is made again.
#[tokio::test]
async fn inv_3_a_restarted_mosquitto_resumes_a_shared_session() {
    restarted(Some(unique("group"))).await;
}

#[cfg(feature = "paho")]
mod paho {
    use std::collections::BTreeSet;

    use iotml_core::plugin::ByteSize;
    use iotml_mqtt::source::{BackendKind, MqttVersion, SpoolConfig};

    use super::*;

    async fn restarted(version: MqttVersion, forgets: bool) {
        if servers::mosquitto().is_none() {
            return;
        }
        let mut broker = Mosquitto::new();
        broker.start().await;
        let address = format!("127.0.0.1:{}", broker.port);
        let (topic, folder) = (unique("restart"), tempfile::tempdir().expect("a folder"));
        let wire = Wire::to(&address).await;
        let mut config = MqttSourceConfig::new(&wire.address, TopicConfig::new(format!("{topic}/#")));
        config.client_id = Some(unique("client"));
        config.backend = BackendKind::Paho;
        config.mqtt_version = version;
        config.spool = Some(SpoolConfig { dir: folder.path().into(), max_bytes: ByteSize(1 << 20), fsync: true });
        let mut reader = Reader::open(config).await;
        Publisher::connect(&address).await.publish_all(&format!("{topic}/a"), numbered(0..10)).await;
        reader.read(10).await;
        wire.wait_for_acks(10).await;
        broker.stop();
        if forgets {
            std::fs::remove_file(broker.folder.path().join("mosquitto.db")).expect("its sessions");
        }
        broker.start().await;
        reader.wait_for_count("lost_sessions", u64::from(forgets)).await;
        Publisher::connect(&address).await.publish_all(&format!("{topic}/a"), numbered(10..20)).await;
        reader.read(20).await;
        reader.read_rest().await;
        // Acknowledgements that Mosquitto had not read when it was told to end are lost, unless the session is.
        let n_twice = reader.len() - 20;
        let distinct: BTreeSet<_> = reader.payloads().into_iter().collect();
        assert_eq!(distinct.into_iter().collect::<Vec<_>>(), numbered(0..20), "{n_twice} came twice");
        assert!(!forgets || n_twice == 0, "{n_twice} came twice");
        assert_eq!((reader.count("reconnects"), reader.count("lost_sessions")), (1, u64::from(forgets)));
        assert!(reader.lost.is_empty(), "what is in the spool is not void");
        reader.ack_all();
        reader.close().await;
    }

    #[tokio::test]
    async fn inv_4_a_session_that_a_restarted_mosquitto_has_forgotten_is_counted_and_begins_anew() {
        restarted(MqttVersion::V5, true).await;
        restarted(MqttVersion::V3, true).await;
    }

    #[tokio::test]
    async fn inv_3_a_session_that_a_restarted_mosquitto_has_kept_goes_on() {
        restarted(MqttVersion::V5, false).await;
        restarted(MqttVersion::V3, false).await;
    }
}
