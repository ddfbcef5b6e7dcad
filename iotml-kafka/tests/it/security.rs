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

fn certificate(name: &str) -> Option<(&'static str, String)> {
    let folder = PathBuf::from(servers::server("IOTML_KAFKA_CERTIFICATES")?);
    Some(("ssl.ca.location", folder.join(name).display().to_string()))
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

#[tokio::test(flavor = "multi_thread")]
async fn the_right_authority_reads_and_writes_with_and_without_a_log_in() {
    let (Some(tls), Some(both), Some(password), Some(ca)) = (
        servers::server("IOTML_KAFKA_TLS"),
        servers::server("IOTML_KAFKA_SASL_TLS"),
        servers::server("IOTML_KAFKA_PASSWORD"),
        certificate("ca.pem"),
    ) else {
        return;
    };
    works(&tls, vec![protocol("SSL"), ca.clone()]).await;
    let mut properties = log_in("SCRAM-SHA-512", &password).unwrap();
    properties.extend([protocol("SASL_SSL"), ca]);
    works(&both, properties).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_10_a_wrong_password_is_one_clear_message_without_the_password() {
    let Some(address) = servers::server("IOTML_KAFKA_SASL") else { return };
    for mechanism in MECHANISMS {
        let mut properties = log_in(mechanism, "hunter2").unwrap();
        properties.push(protocol("SASL_PLAINTEXT"));
        for text in refused(&address, properties, "hunter2").await {
            assert!(text.contains("check the sasl.* and ssl.* properties"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_authority_is_one_clear_message() {
    let (Some(address), Some(other)) = (servers::server("IOTML_KAFKA_TLS"), certificate("other-ca.pem")) else {
        return;
    };
    for text in refused(&address, vec![protocol("SSL"), other], "PRIVATE KEY").await {
        assert!(text.contains("certificate") && text.contains("check the sasl.* and ssl.* properties"), "{text}");
    }
}
