//! Who is refused, what they are told, and what a user of few rights may do.

use std::path::Path;
use std::time::Duration;

use iotml_core::batch::{Batch, Coordinate, Lane, Message, Messages, Position, RawBatch, RawMessage};
use iotml_core::error::Reason;
use iotml_core::pipeline::TaskContext;
use iotml_core::secret::Secret;
use iotml_core::sink::{Outgoing, Sink};
use iotml_core::source::{Demand, Source};
use iotml_core::testing::servers;
use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::{ConnectionConfig, MqttSink, MqttSinkConfig, MqttSource, MqttSourceConfig, TlsConfig};

use crate::broker::unique;
use crate::reader::Reader;
use crate::tls::{Secured, connection, refused};

const WRONG: &str = "hunter2";

/// Mosquitto with users: its addresses without and with TLS, and their password.
fn with_users() -> Option<(String, String, String)> {
    let server = |name: &str| servers::server(&format!("IOTML_MOSQUITTO_{name}"));
    Some((server("AUTH")?, server("AUTH_TLS")?, server("PASSWORD")?))
}

fn trusting() -> TlsConfig {
    let folder = servers::server("IOTML_MOSQUITTO_AUTH_CERTIFICATES").expect("beside the addresses");
    TlsConfig { ca: Some(Path::new(&folder).join("ca.pem")), ..TlsConfig::default() }
}

fn log_in(mut connection: ConnectionConfig, user: &str, password: &str) -> ConnectionConfig {
    connection.username = Some(user.into());
    connection.password = Some(Secret::new(password));
    connection
}

/// Every way to be refused, and what a user is told: the rows of the table in docs/security.md.
#[tokio::test]
async fn inv_10_every_refusal_is_one_clear_message_and_documented() {
    let (Some(at), Some((plain, tls, _))) = (Secured::find(), with_users()) else { return };
    let trusted = || at.with(Some("ca"), None);
    let stranger = TlsConfig { ca: trusted().ca, ..at.with(None, Some("stranger")) };
    let mistaken = TlsConfig { key: at.with(None, Some("stranger")).key, ..at.with(Some("ca"), Some("client")) };
    let mut rows = Vec::new();
    for (case, connection) in [
        ("wrong authority", connection(&at.tls, at.with(Some("other-ca"), None))),
        ("authorities of the system only", connection(&at.tls, TlsConfig::default())),
        ("expired certificate", connection(&at.expired, trusted())),
        ("certificate of another host", connection(&at.elsewhere, trusted())),
        ("no client certificate", connection(&at.mutual, trusted())),
        ("client certificate of a wrong authority", connection(&at.mutual, stranger)),
        ("client certificate and key that do not fit", connection(&at.mutual, mistaken)),
        ("TLS on a port without it", connection(&plain, trusted())),
        ("no TLS on a port with it", ConnectionConfig::new(format!("mqtt://{}", at.tls))),
        ("wrong password", log_in(ConnectionConfig::new(format!("mqtt://{plain}")), "iotml", WRONG)),
        ("wrong password over TLS", log_in(self::connection(&tls, trusting()), "iotml", WRONG)),
        ("no password", ConnectionConfig::new(format!("mqtt://{plain}"))),
    ] {
        let mut connection = connection;
        connection.connect_timeout = "5s".parse().unwrap();
        let address = connection.server.split_once("://").expect("a scheme").1.to_owned();
        let message = refused(connection).await;
        assert!(!message.contains(WRONG), "{message}");
        rows.push(row(&format!("MQTT: {case}"), &message, &address));
    }
    documented(&rows);
}

/// Finds the rows in the table of docs/security.md.
fn documented(rows: &[String]) {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md")).unwrap();
    let missing: Vec<&str> =
        rows.iter().map(String::as_str).filter(|row| !docs.lines().any(|line| line == *row)).collect();
    assert!(missing.is_empty(), "docs/security.md lacks\n{}", missing.join("\n"));
}

fn row(case: &str, message: &str, address: &str) -> String {
    // What the client library says stands behind, with times and codes that differ from run to run.
    let ours = [" (TLS: ", " (Mqtt state: ", " (NotAuthorized"].iter().filter_map(|theirs| message.find(theirs)).min();
    format!("| {case} | {} |", message[..ours.unwrap_or(message.len())].replace(address, "HOST:PORT"))
}

#[tokio::test]
async fn the_right_password_opens_over_tls() {
    let Some((_, tls, password)) = with_users() else { return };
    let connection = log_in(connection(&tls, trusting()), "iotml", &password);
    Reader::open(MqttSourceConfig { connection, ..MqttSourceConfig::new("", TopicConfig::new(unique("tls"))) })
        .await
        .close()
        .await;
}

fn outgoing(keys: &[&str]) -> Outgoing {
    let (mut raw, mut messages) = (RawBatch::default(), Messages::default());
    for (seq, key) in keys.iter().enumerate() {
        let message = Message { payload: Some(b"x"), key: Some(key.as_bytes()), ..Message::default() };
        let position = Position { lane: Lane(0), seq: seq as u64 };
        raw.push(RawMessage { message, position, coordinate: Coordinate::NONE });
        messages.push(message);
    }
    Outgoing { batch: Batch::undecoded(raw.into()), messages: messages.into() }
}

async fn sink(connection: ConnectionConfig, topic: &str) -> MqttSink {
    let sink =
        MqttSink::new(MqttSinkConfig { connection, ..MqttSinkConfig::new("", topic) }).expect("a valid configuration");
    sink.open(&TaskContext::single("it")).await.expect("open");
    sink
}

/// The rights that docs/security.md names, on a broker that gives no more.
#[tokio::test]
async fn the_documented_rights_are_enough_and_others_reject_their_rows() {
    let (Some((plain, _, password)), Some(user)) = (with_users(), servers::server("IOTML_MOSQUITTO_LIMITED_USER"))
    else {
        return;
    };
    let limited = || log_in(ConnectionConfig::new(format!("mqtt://{plain}")), &user, &password);
    let everything = log_in(ConnectionConfig::new(format!("mqtt://{plain}")), "iotml", &password);
    let car = unique("car");
    let filter = TopicConfig::new(format!("vehicles/sensor/data/{car}"));
    let config = MqttSourceConfig {
        connection: limited(),
        group: Some(unique("group")),
        client_id: Some(unique("client")),
        ..MqttSourceConfig::new("", filter)
    };
    let mut reader = Reader::open(config).await;
    let cars = sink(everything, "vehicles/sensor/data/{key}").await;
    assert_eq!(cars.write(outgoing(&[&car])).await.expect("write").rejected.len(), 0);
    reader.read(1).await;
    reader.ack_all();
    reader.close().await;

    let alerts = sink(limited(), "vehicles/{key}/alerts").await;
    assert_eq!(alerts.write(outgoing(&[&car])).await.expect("write").rejected.len(), 0, "alerts are allowed");
    let elsewhere = sink(limited(), "elsewhere/{key}").await;
    let written = elsewhere.write(outgoing(&[&car])).await.expect("write");
    let [rejected] = &written.rejected[..] else { panic!("{written:?}") };
    println!("{}", rejected.cause);
    assert_eq!(rejected.cause.reason, Reason::Refused);
    assert!(rejected.cause.detail.contains("NotAuthorized"), "{}", rejected.cause);

    // Mosquitto grants a subscription that its access list forbids, and sends nothing on it.
    let topic = unique("forbidden");
    let config = MqttSourceConfig {
        connection: limited(),
        client_id: Some(unique("client")),
        ..MqttSourceConfig::new("", TopicConfig::new(format!("elsewhere/{topic}")))
    };
    let mut source = MqttSource::new(config).expect("a valid configuration");
    source.open(&TaskContext::single("it")).await.expect("open");
    let writer = log_in(ConnectionConfig::new(format!("mqtt://{plain}")), "iotml", &password);
    assert_eq!(
        sink(writer, "elsewhere/{key}").await.write(outgoing(&[&topic])).await.expect("write").rejected.len(),
        0
    );
    let waited = tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            if let iotml_core::source::SourceEvent::Batch(batch) = source.poll(Demand::Batches).await.expect("poll") {
                return batch.len();
            }
        }
    });
    assert!(waited.await.is_err(), "nothing comes");
    source.close().await.expect("close");
}
