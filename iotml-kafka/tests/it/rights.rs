//! The rights that docs/security.md names, on a Kafka that gives a user none without them.

use std::process::Command;

use iotml_core::batch::{Message, Messages};
use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::sink::{Sink, SinkError};
use iotml_core::source::{Source, SourceError, SourceEvent};
use iotml_core::testing::servers;
use iotml_kafka::{
    KafkaProperties, KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig, LogReader, LogReaderConfig, Select,
    TopicCreation,
};

use crate::cluster::{Cluster, blocking, build_context, next, numbered, outgoing, payloads, unique, until};

/// A user without rights, and an administrator who gives it some.
struct Limited {
    cluster: Cluster,
    address: String,
    user: String,
    password: String,
}

/// Kafka's own client for rights is a Java program; the one for Python does the same in less time.
const ALLOW: &str = r#"
import sys
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType
servers, user, *rights = sys.argv[1:]
def binding(right):
    kind, name, operation = right.split()
    return AclBinding(ResourceType[kind], name, ResourcePatternType.LITERAL, f"User:{user}", "*", AclOperation[operation], AclPermissionType.ALLOW)
admin = AdminClient({"bootstrap.servers": servers})
for made in admin.create_acls([binding(right) for right in rights]).values():
    made.result()
"#;

impl Limited {
    fn find() -> Option<Self> {
        let server = |name: &str| servers::server(&format!("IOTML_KAFKA_{name}"));
        let (address, user, password) = (server("SASL")?, server("LIMITED_USER")?, server("LIMITED_PASSWORD")?);
        Some(Self { cluster: Cluster::real()?, address, user, password })
    }

    /// Gives rights: a kind of resource, its name and the operation each.
    async fn allow(&self, rights: &[&str]) {
        let mut python = Command::new(std::env::var("IOTML_PYTHON").expect("the environment of deploy/with-env"));
        python.args(["-c", ALLOW, &self.cluster.servers, &self.user]).args(rights);
        let output = blocking(move || python.output().unwrap()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn log_in(&self, properties: KafkaProperties) -> KafkaProperties {
        let properties = properties.set("bootstrap.servers", &self.address).set("security.protocol", "SASL_PLAINTEXT");
        let properties = properties.set("sasl.mechanism", "SCRAM-SHA-512").set("sasl.username", &self.user);
        properties.set("sasl.password", &self.password)
    }

    async fn source(&self, topic: &str, group: &str) -> Result<KafkaSource, SourceError> {
        let mut config = KafkaSourceConfig::new(&self.address, &[topic]);
        config.kafka = self.log_in(config.kafka).set("group.id", group);
        let mut source = KafkaSource::new(config, &build_context()).unwrap();
        source.open(&TaskContext::single("test")).await.map(|()| source)
    }

    async fn sink(&self, config: KafkaSinkConfig) -> Result<KafkaSink, SinkError> {
        let config = KafkaSinkConfig { kafka: self.log_in(config.kafka.clone()), ..config };
        let sink = KafkaSink::new(config, &build_context()).unwrap();
        sink.open(&TaskContext::single("test")).await.map(|()| sink)
    }

    fn refused(&self, what: &str, error: &(impl std::error::Error + 'static), class: Class) {
        let message = iotml_core::error::report(error);
        println!("{what}: {message}");
        assert_eq!(class, Class::Fatal, "{message}");
        assert!(message.to_lowercase().contains("authori") && message.lines().count() == 1, "{what}: {message}");
        assert!(!message.contains(&self.password));
    }
}

fn one_message() -> Messages {
    let mut messages = Messages::default();
    messages.push(Message { payload: Some(b"allowed"), ..Message::default() });
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_of_a_source_are_enough_and_each_is_needed() {
    let Some(limited) = Limited::find() else { return };
    let (topic, group) = (limited.cluster.topic(1, &[]).await, unique("group"));
    limited.cluster.produce(&topic, numbered(0..1)).await;
    let error = limited.source(&topic, &group).await.expect_err("no right to read");
    limited.refused("source without Read on its topic", &error, error.class());

    limited.allow(&[&format!("TOPIC {topic} READ")]).await;
    until("the topic may be read", async || limited.source(&topic, &group).await.is_ok()).await;
    let mut source = limited.source(&topic, &group).await.unwrap();
    let error = loop {
        if let Err(error) = next(&mut source).await {
            break error;
        }
    };
    limited.refused("source without Read on its group", &error, error.class());
    drop(source);

    limited.allow(&[&format!("GROUP {group} READ")]).await;
    // The right may take a moment to arrive.
    until("the group may be joined", async || {
        let mut source = limited.source(&topic, &group).await.unwrap();
        let mut read = Vec::new();
        while read.is_empty() {
            match next(&mut source).await {
                Ok(SourceEvent::Batch(batch)) => read.push(batch),
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        source.close().await.unwrap();
        payloads(&read) == ["000000"]
    })
    .await;

    let (config, select) = (LogReaderConfig::new(&limited.address, &topic), Select::All);
    let config = LogReaderConfig { kafka: limited.log_in(config.kafka.clone()), ..config };
    blocking(move || LogReader::open(config).unwrap().resolve(&select).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_of_a_sink_are_enough_and_each_is_needed() {
    let Some(limited) = Limited::find() else { return };
    let topic = limited.cluster.topic(1, &[]).await;
    let config = |topic: &str| KafkaSinkConfig::new(&limited.address, Some(topic));
    let error = limited.sink(config(&topic)).await.expect_err("no right to write");
    limited.refused("sink without Write on its topic", &error, error.class());
    limited.allow(&[&format!("TOPIC {topic} WRITE")]).await;
    until("the topic may be written", async || limited.sink(config(&topic)).await.is_ok()).await;
    let sink = limited.sink(config(&topic)).await.unwrap();
    let written = sink.write(outgoing(one_message())).await.unwrap();
    assert!(written.rejected.is_empty() && written.retryable.is_empty(), "{written:?}");
    sink.close().await.unwrap();

    let new = unique("created");
    let creation = || TopicCreation { partitions: Some(1), replication: None, config: Default::default() };
    let creating = || KafkaSinkConfig { create_topics: Some(creation()), ..config(&new) };
    let error = limited.sink(creating()).await.expect_err("no right to create");
    limited.refused("sink without Create", &error, error.class());
    limited.allow(&[&format!("TOPIC {new} CREATE"), &format!("TOPIC {new} WRITE")]).await;
    until("the topic may be created", async || limited.sink(creating()).await.is_ok()).await;
    assert_eq!(limited.cluster.read(&topic, 1).await.len(), 1);
}
