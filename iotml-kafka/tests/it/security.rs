//! TLS and log-in (SASL) on a real Kafka: the right ones read and write, each wrong one is one clear message, without the password.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use iotml_core::batch::{Message, Messages};
use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::sink::Sink;
use iotml_core::source::Source;
use iotml_core::testing::servers;
use iotml_kafka::{KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig};

use crate::cluster::{Cluster, build_context, collect, outgoing, payloads, unique};

const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Properties of librdkafka beside the address.
type Properties = Vec<(&'static str, String)>;

fn log_in(mechanism: &str, password: &str) -> Option<Properties> {
    let user = servers::server("IOTML_KAFKA_USER")?;
    let named =
        [("sasl.mechanism", mechanism.to_owned()), ("sasl.username", user), ("sasl.password", password.to_owned())];
    Some(named.into())
}

/// A property that names a file of the servers' certificates.
fn certificate(property: &'static str, name: &str) -> (&'static str, String) {
    let folder = PathBuf::from(servers::server("IOTML_KAFKA_CERTIFICATES").unwrap());
    (property, folder.join(name).display().to_string())
}

fn protocol(name: &str) -> (&'static str, String) {
    ("security.protocol", name.to_owned())
}

fn source(address: &str, topic: &str, properties: &Properties) -> KafkaSource {
    let mut config = KafkaSourceConfig::new(address, &[topic]);
    config.connect_timeout = "10s".parse().unwrap();
    config.kafka = config.kafka.set("group.id", unique("group"));
    for (name, value) in properties {
        config.kafka = config.kafka.set(name, value);
    }
    KafkaSource::new(config, &build_context()).unwrap()
}

fn sink(address: &str, topic: &str, properties: &Properties) -> KafkaSink {
    let mut config = KafkaSinkConfig::new(address, Some(topic));
    config.connect_timeout = "10s".parse().unwrap();
    for (name, value) in properties {
        config.kafka = config.kafka.set(name, value);
    }
    KafkaSink::new(config, &build_context()).unwrap()
}

/// Writes and reads one message.
async fn works(address: &str, properties: Properties) {
    let Some(cluster) = Cluster::real() else { return };
    let topic = cluster.topic(1, &[]).await;
    let sink = sink(address, &topic, &properties);
    sink.open(&TaskContext::single("test")).await.unwrap();
    let mut messages = Messages::default();
    messages.push(Message { payload: Some(b"secured"), ..Message::default() });
    sink.write(outgoing(messages)).await.unwrap();
    sink.close().await.unwrap();
    let mut source = source(address, &topic, &properties);
    source.open(&TaskContext::single("test")).await.unwrap();
    assert_eq!(payloads(&collect(&mut source, 1).await), ["secured"]);
    source.close().await.unwrap();
}

/// What source and sink say, each in one line, soon, and without `secret`.
async fn refused(address: &str, properties: Properties, secret: &str) -> [String; 2] {
    let begun = Instant::now();
    let of_source = source(address, "t", &properties).open(&TaskContext::single("test")).await.unwrap_err();
    let of_sink = sink(address, "t", &properties).open(&TaskContext::single("test")).await.unwrap_err();
    assert_eq!((of_source.class(), of_sink.class()), (Class::Fatal, Class::Fatal));
    for shown in [format!("{of_source} {of_source:?}"), format!("{of_sink} {of_sink:?}")] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    let said = [of_source.to_string(), of_sink.to_string()];
    for text in &said {
        println!("{text}");
        assert!(text.contains(address) && text.lines().count() == 1, "{text}");
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_password_reads_and_writes_by_every_mechanism() {
    let (Some(address), Some(password)) =
        (servers::server("IOTML_KAFKA_SASL"), servers::server("IOTML_KAFKA_PASSWORD"))
    else {
        return;
    };
    for mechanism in MECHANISMS {
        let mut properties = log_in(mechanism, &password).unwrap();
        properties.push(protocol("SASL_PLAINTEXT"));
        works(&address, properties).await;
    }
}

/// Every secured listener and what opens it.
struct Secured {
    tls: String,
    mutual: String,
    expired: String,
    elsewhere: String,
    sasl: String,
    both: String,
    password: String,
}

impl Secured {
    fn find() -> Option<Self> {
        let server = |name: &str| servers::server(&format!("IOTML_KAFKA_{name}"));
        Some(Self {
            tls: server("TLS")?,
            mutual: server("MUTUAL_TLS")?,
            expired: server("EXPIRED_TLS")?,
            elsewhere: server("ELSEWHERE_TLS")?,
            sasl: server("SASL")?,
            both: server("SASL_TLS")?,
            password: server("PASSWORD")?,
        })
    }
}

/// TLS that trusts the authority of this name, with whatever more.
fn tls(ca: &str, more: impl IntoIterator<Item = (&'static str, String)>) -> Properties {
    let authority = certificate("ssl.ca.location", &format!("{ca}.pem"));
    [protocol("SSL"), authority].into_iter().chain(more).collect()
}

/// What a client shows of itself.
fn shown(name: &str) -> Properties {
    vec![
        certificate("ssl.certificate.location", &format!("{name}.pem")),
        certificate("ssl.key.location", &format!("{name}.key")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_authority_client_and_password_read_and_write() {
    let Some(at) = Secured::find() else { return };
    works(&at.tls, tls("ca", [])).await;
    works(&at.mutual, tls("ca", shown("client"))).await;
    for mechanism in MECHANISMS {
        let mut properties = tls("ca", log_in(mechanism, &at.password).unwrap());
        properties[0] = protocol("SASL_SSL");
        works(&at.both, properties).await;
    }
}

/// Every way to be refused, and what a user is told: the rows of the table in docs/security.md.
#[tokio::test(flavor = "multi_thread")]
async fn inv_10_every_refusal_is_one_clear_message_and_documented() {
    const WRONG: &str = "hunter2";
    let Some(at) = Secured::find() else { return };
    let mut cases: Vec<(String, &str, Properties)> = vec![
        ("Kafka: wrong authority".into(), &at.tls, tls("other-ca", [])),
        ("Kafka: expired certificate".into(), &at.expired, tls("ca", [])),
        ("Kafka: certificate of another host".into(), &at.elsewhere, tls("ca", [])),
        ("Kafka: no client certificate".into(), &at.mutual, tls("ca", [])),
        ("Kafka: client certificate of a wrong authority".into(), &at.mutual, tls("ca", shown("stranger"))),
        ("Kafka: TLS on a port without it".into(), &at.sasl, tls("ca", [])),
        ("Kafka: no TLS on a port with it".into(), &at.tls, vec![]),
    ];
    for mechanism in MECHANISMS {
        let wrong = log_in(mechanism, WRONG).unwrap();
        let plain = [protocol("SASL_PLAINTEXT")].into_iter().chain(wrong.clone()).collect();
        cases.push((format!("Kafka: wrong password, {mechanism}"), &at.sasl, plain));
        let mut over_tls = tls("ca", wrong);
        over_tls[0] = protocol("SASL_SSL");
        cases.push((format!("Kafka: wrong password, {mechanism} over TLS"), &at.both, over_tls));
    }
    let mut rows = Vec::new();
    for (case, address, properties) in cases {
        rows.extend(refused(address, properties, WRONG).await.map(|message| row(&case, &message, address)));
    }
    documented(&rows);
}

/// Finds the rows in the table of docs/security.md.
fn documented(rows: &[String]) {
    let docs = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md")).unwrap();
    let missing: Vec<&str> =
        rows.iter().map(String::as_str).filter(|row| !docs.lines().any(|line| line == *row)).collect();
    assert!(missing.is_empty(), "docs/security.md lacks\n{}", missing.join("\n"));
}

fn row(case: &str, message: &str, address: &str) -> String {
    format!("| {case} | {} |", message.replace(address, "HOST:PORT"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_name_is_checked_unless_told_otherwise() {
    let Some(at) = Secured::find() else { return };
    let unchecked = ("ssl.endpoint.identification.algorithm", "none".to_owned());
    works(&at.elsewhere, tls("ca", [unchecked])).await;
}
