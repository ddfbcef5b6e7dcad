//! Configuration of the model topic.

use std::collections::BTreeMap;

use iotml_core::error::ConfigError;
use iotml_core::plugin::HumanDuration;
use iotml_core::schemars::{self, JsonSchema};
use serde::Deserialize;

use super::value::AnnouncementFormat;
use crate::client::KafkaProperties;
use crate::log::LogReaderConfig;
#[cfg(feature = "registry")]
use crate::registry::{SchemaRegistry, SchemaRegistryConfig};
use crate::sink::{KafkaSinkConfig, TopicCreation};
use crate::source::is_topic_name;

/// Configuration of a [`KafkaModelFeed`](super::KafkaModelFeed) and of a [`ModelTopic`](super::ModelTopic).
///
/// ```toml
/// [score.follow.feed]
/// type = "kafka"
/// topic = "models"
///
/// # format = "confluent_avro"
/// # registry.url = "http://localhost:8081"
///
/// [score.follow.feed.kafka]
/// "bootstrap.servers" = "localhost:9092"
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaModelFeedConfig {
    /// The topic on which models are announced.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// The topic on which workers report; empty reports to the log only.
    #[serde(default = "default_status_topic")]
    pub status_topic: String,
    /// The topic on which workers report that rows are no longer like those a model was trained on; empty reports to the log only.
    #[serde(default = "default_drift_topic")]
    pub drift_topic: String,
    /// How models are announced; what is announced in the other format is read all the same.
    #[serde(default)]
    pub format: AnnouncementFormat,
    /// Where the schemas of announcements in Avro are.
    #[cfg(feature = "registry")]
    #[serde(default)]
    pub registry: Option<SchemaRegistryConfig>,
    /// Create the topics if they do not exist: the first compacted, with one partition.
    #[serde(default = "yes")]
    pub create_topics: bool,
    /// Copies of each partition of a topic that is created; the broker's default if absent.
    #[serde(default)]
    pub replication: Option<u16>,
    /// How long to wait for a broker before trying again.
    #[serde(default = "default_timeout")]
    pub connect_timeout: HumanDuration,
    /// Properties of librdkafka, in quotes: `"bootstrap.servers"` is needed.
    pub kafka: KafkaProperties,
}

fn default_topic() -> String {
    "models".to_owned()
}

fn default_status_topic() -> String {
    "model-status".to_owned()
}

fn default_drift_topic() -> String {
    "model-drift".to_owned()
}

fn yes() -> bool {
    true
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

impl KafkaModelFeedConfig {
    /// The topics `models`, `model-status` and `model-drift` at the brokers at `bootstrap_servers`.
    pub fn new(bootstrap_servers: &str) -> Self {
        Self {
            topic: default_topic(),
            status_topic: default_status_topic(),
            drift_topic: default_drift_topic(),
            format: AnnouncementFormat::default(),
            #[cfg(feature = "registry")]
            registry: None,
            create_topics: true,
            replication: None,
            connect_timeout: default_timeout(),
            kafka: KafkaProperties::new(bootstrap_servers),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let topics = [("topic", &self.topic), ("status_topic", &self.status_topic), ("drift_topic", &self.drift_topic)];
        for (key, topic) in topics {
            let is_off = key != "topic" && topic.is_empty();
            if !is_topic_name(topic) && !is_off {
                return Err(ConfigError::new(format!("{topic:?} is not a name a Kafka topic can have")).of_key(key));
            }
        }
        for (key, topic) in &topics[1..] {
            if **topic == self.topic {
                let message = "must differ from `topic`: reports would be read as announcements";
                return Err(ConfigError::new(message).of_key(key));
            }
        }
        if self.drift_topic == self.status_topic && !self.drift_topic.is_empty() {
            return Err(ConfigError::new("must differ from `status_topic`").of_key("drift_topic"));
        }
        #[cfg(feature = "registry")]
        self.check_registry().map_err(|error| error.of_key("registry"))?;
        Ok(())
    }

    #[cfg(feature = "registry")]
    fn check_registry(&self) -> Result<(), ConfigError> {
        match &self.registry {
            Some(registry) => SchemaRegistry::new(registry.clone()).map(drop),
            None if self.format == AnnouncementFormat::ConfluentAvro => Err(ConfigError::new(
                "is missing: `format` is confluent_avro, whose schema is registered; set `registry.url`",
            )),
            None => Ok(()),
        }
    }

    /// How `topic` is read, where a broker may keep who is at the end of it waiting for `wait_ms` milliseconds.
    pub(super) fn reads(&self, topic: &str, wait_ms: u16) -> LogReaderConfig {
        let mut config = LogReaderConfig::new("", topic);
        config.connect_timeout = self.connect_timeout;
        config.kafka = self.kafka.connection().set("fetch.wait.max.ms", wait_ms);
        // What compaction has taken away was replaced by what comes later.
        config.on_gap = crate::log::OnGap::Skip;
        config
    }

    /// How announcements are written.
    pub(super) fn announces(&self) -> KafkaSinkConfig {
        let properties = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")];
        // Announcements are few and to be heard at once.
        let kafka = self.kafka.connection().set("linger.ms", 0);
        KafkaSinkConfig { kafka, ..self.writes(&self.topic, &properties) }
    }

    /// How reports are written to `topic`.
    pub(super) fn reports(&self, topic: &str) -> KafkaSinkConfig {
        self.writes(topic, &[])
    }

    fn writes(&self, topic: &str, properties: &[(&str, &str)]) -> KafkaSinkConfig {
        let config: BTreeMap<String, String> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let creation = TopicCreation { partitions: Some(1), replication: self.replication, config };
        KafkaSinkConfig {
            create_topics: self.create_topics.then_some(creation),
            connect_timeout: self.connect_timeout,
            close_timeout: self.connect_timeout,
            kafka: self.kafka.connection(),
            ..KafkaSinkConfig::new("", Some(topic))
        }
    }
}
