//! TLS and client certificates on Mosquitto, for source, sink and the Paho backend: the right ones work, each wrong one is one
//! clear message.

use std::path::PathBuf;

use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::sink::Sink;
use iotml_core::testing::servers;
use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::{ConnectionConfig, MqttSink, MqttSinkConfig, MqttSource, MqttSourceConfig, TlsConfig};

use crate::broker::unique;
use crate::publisher::Publisher;
use crate::reader::Reader;

/// Where Mosquitto speaks TLS, and its certificates.
pub struct Secured {
    /// Every client may come.
    pub tls: String,
    /// A client must show a certificate.
    pub mutual: String,
    /// The broker shows one that has expired,
    pub expired: String,
    /// or one for another host.
    pub elsewhere: String,
    certificates: PathBuf,
}

impl Secured {
    pub fn find() -> Option<Self> {
        let server = |name: &str| servers::server(&format!("IOTML_MOSQUITTO_{name}"));
        let (tls, mutual) = (server("TLS")?, server("MUTUAL_TLS")?);
        let (expired, elsewhere) = (server("EXPIRED_TLS")?, server("ELSEWHERE_TLS")?);
        Some(Self { tls, mutual, expired, elsewhere, certificates: server("CERTIFICATES")?.into() })
    }

    /// The files of the folder, by name; the second and third are the client's.
    pub fn with(&self, ca: Option<&str>, client: Option<&str>) -> TlsConfig {
        let file = |name: String| self.certificates.join(name);
        TlsConfig {
            ca: ca.map(|ca| file(format!("{ca}.pem"))),
            cert: client.map(|client| file(format!("{client}.pem"))),
            key: client.map(|client| file(format!("{client}.key"))),
        }
    }
}

pub fn connection(address: &str, tls: TlsConfig) -> ConnectionConfig {
    ConnectionConfig { tls, ..ConnectionConfig::new(format!("mqtts://{address}")) }
}

pub fn source(connection: ConnectionConfig) -> MqttSourceConfig {
    let topic = TopicConfig::new(unique("tls"));
    let client_id = Some(unique("client"));
    MqttSourceConfig { connection, client_id, ..MqttSourceConfig::new("", topic) }
}

/// What a source and a sink say that cannot connect so; both must say the same.
pub async fn refused(connection: ConnectionConfig) -> String {
    let error = Reader::try_open(source(connection.clone())).await.err().expect("the source must not open");
    assert_eq!(error.class(), Class::Fatal);
    let sink = MqttSinkConfig { connection, ..MqttSinkConfig::new("", "a/{key}") };
    let sink = MqttSink::new(sink).expect("a valid configuration");
    let of_sink = sink.open(&TaskContext::single("it")).await.expect_err("the sink must not open");
    assert_eq!(of_sink.class(), Class::Fatal);
    for text in [error.to_string(), of_sink.to_string()] {
        assert!(!text.contains('\n') && text.contains("mqtt"), "{text}");
    }
    println!("{error}");
    error.to_string()
}

/// Opens a source and a sink, and has a message arrive.
async fn opens(connection: ConnectionConfig) {
    let config = source(connection.clone());
    let topic = config.topics[0].filter.clone();
    let mut reader = Reader::open(config).await;
    let plain = servers::mosquitto().expect("the same broker without TLS");
    Publisher::connect(&plain).await.publish(&topic, b"over tls".to_vec()).await;
    reader.read(1).await;
    reader.ack_all();
    assert_eq!(reader.payloads(), [b"over tls"]);
    reader.close().await;
    let sink = MqttSink::new(MqttSinkConfig { connection, ..MqttSinkConfig::new("", "a/{key}") });
    let sink = sink.expect("a valid configuration");
    sink.open(&TaskContext::single("it")).await.expect("the sink opens");
    sink.close().await.expect("close");
}

#[tokio::test]
async fn the_right_authority_is_trusted_and_the_right_client_let_in() {
    let Some(secured) = Secured::find() else { return };
    opens(connection(&secured.tls, secured.with(Some("ca"), None))).await;
    opens(connection(&secured.mutual, secured.with(Some("ca"), Some("client")))).await;
}

#[tokio::test]
async fn an_authority_that_did_not_sign_the_brokers_certificate_is_named() {
    let Some(secured) = Secured::find() else { return };
    let of_the_system = refused(connection(&secured.tls, TlsConfig::default())).await;
    assert!(of_the_system.contains("set tls.ca"), "{of_the_system}");
    let other = refused(connection(&secured.tls, secured.with(Some("other-ca"), None))).await;
    assert!(other.contains("tls.ca") && other.contains("did not sign"), "{other}");
}

#[tokio::test]
async fn a_port_without_tls_is_named() {
    let (Some(secured), Some(plain)) = (Secured::find(), servers::mosquitto()) else { return };
    let error = refused(connection(&plain, secured.with(Some("ca"), None))).await;
    assert!(error.contains("does the port expect tls"), "{error}");
    let mut config = source(ConnectionConfig::new(format!("mqtt://{}", secured.tls)));
    config.connection.connect_timeout = iotml_core::plugin::HumanDuration::from_secs(5);
    let error = Reader::try_open(config).await.err().expect("refused").to_string();
    assert!(error.contains("tls"), "{error}");
}

#[test]
fn half_of_a_client_certificate_is_refused_before_anything_starts() {
    let tls = TlsConfig { ca: Some("ca.pem".into()), cert: Some("client.pem".into()), key: None };
    let error = MqttSource::new(source(connection("localhost", tls))).expect_err("no key").to_string();
    assert!(error.contains("tls.key"), "{error}");
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_named() {
    let Some(secured) = Secured::find() else { return };
    let mut tls = secured.with(Some("ca"), Some("client"));
    // A key where a certificate belongs, and no file at all.
    tls.cert = tls.key.clone();
    let error = refused(connection(&secured.mutual, tls.clone())).await;
    assert!(error.contains("tls.cert") || error.contains("client certificate"), "{error}");
    tls.key = Some(secured.certificates.join("nowhere.key"));
    let error = Reader::try_open(source(connection(&secured.mutual, tls))).await.err().expect("refused").to_string();
    assert!(error.contains("nowhere.key"), "{error}");
}

#[cfg(feature = "paho")]
mod paho {
    use iotml_core::plugin::ByteSize;
    use iotml_mqtt::source::{BackendKind, SpoolConfig};

    use super::*;
    use crate::cut::Wire;

    async fn tried(connection: ConnectionConfig) -> Result<(), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = SpoolConfig { dir: folder.path().into(), max_bytes: ByteSize(1 << 20), fsync: false };
        let config = MqttSourceConfig { backend: BackendKind::Paho, spool: Some(spool), ..source(connection) };
        match Reader::try_open(config).await {
            Ok(reader) => Ok(reader.close().await),
            Err(error) => {
                println!("{error}");
                assert_eq!(error.class(), Class::Fatal);
                Err(error.to_string())
            }
        }
    }

    #[tokio::test]
    async fn certificates_are_checked_both_ways() {
        let Some(secured) = Secured::find() else { return };
        tried(connection(&secured.tls, secured.with(Some("ca"), None))).await.expect("the right authority");
        let with_client = secured.with(Some("ca"), Some("client"));
        tried(connection(&secured.mutual, with_client)).await.expect("the right client");
        let foreign = Wire::from("127.0.0.2:0", &secured.tls).await;
        for (address, tls, reason) in [
            (&secured.tls, secured.with(Some("other-ca"), None), "did not sign"),
            (&secured.tls, TlsConfig::default(), "did not sign"),
            (&secured.expired, secured.with(Some("ca"), None), "has expired"),
            (&secured.elsewhere, secured.with(Some("ca"), None), "for another host"),
            (&foreign.address, secured.with(Some("ca"), None), "for another host"),
            (&secured.mutual, secured.with(Some("ca"), None), "asks for a client certificate"),
        ] {
            let error = tried(connection(address, tls)).await.expect_err("refused");
            assert!(error.contains(reason) && !error.contains('\n'), "{reason}: {error}");
        }
    }
}
