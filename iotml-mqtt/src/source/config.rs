//! What a user writes about an MQTT source.

use std::path::PathBuf;

use iotml_core::error::ConfigError;
use iotml_core::plugin::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mapping::Mapping;
use crate::connection::ConnectionConfig;
use crate::server::Server;

/// Configuration of the source `mqtt`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSourceConfig {
    /// The broker, and how to log on to it.
    #[serde(flatten)]
    pub connection: ConnectionConfig,
    /// What to subscribe to, and what becomes of the topics.
    pub topics: Vec<TopicConfig>,
    /// Name of a shared-subscription group: its members (connections, tasks, instances) divide the messages among them.
    /// Needed where `connections` or `tasks.max` is above 1.
    #[serde(default)]
    pub group: Option<String>,
    /// Connections per task, each with a window of its own; rate per connection = window / acknowledgement latency.
    #[serde(default = "one")]
    pub connections: usize,
    /// Start of the client ids; the instance, task and connection are appended, so that a restarted process
    /// resumes its own sessions. Default: the pipeline's name.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Unacknowledged messages that the broker may send per connection (MQTT's Receive Maximum). Brokers have limits of their own.
    #[serde(default = "default_window")]
    pub receive_maximum: u16,
    /// How long the broker keeps session and messages while no one is connected.
    #[serde(default = "default_expiry")]
    pub session_expiry: HumanDuration,
    /// A batch closes at this many messages.
    #[serde(default = "default_rows")]
    pub max_batch_rows: usize,
    /// A batch closes this long after its first message; earlier when the window is exhausted or nothing more is coming.
    #[serde(default = "default_delay")]
    pub max_batch_delay: HumanDuration,
    /// Retained messages of the broker.
    #[serde(default)]
    pub retained: Retained,
    /// What an empty payload becomes.
    #[serde(default)]
    pub empty_payload: EmptyPayload,
    /// What is kept as headers.
    #[serde(default)]
    pub headers: KeptHeaders,
    /// Messages of QoS 0 kept in memory until polled, per task; what arrives beyond is dropped and counted, as QoS 0 allows.
    #[serde(default = "default_qos0_rows")]
    pub max_qos0_rows: usize,
    /// Bytes received and not yet taken by the pipeline, per task, at which the source stops reading.
    #[serde(default = "default_buffer")]
    pub max_buffer_bytes: ByteSize,
    /// Most bytes of topic, payload and user properties of one message. A larger one becomes a dead letter with the beginning of its
    /// payload. Until it is all there it is in memory, beside every bound: limit packets at the broker. The default leaves room for the
    /// headers of the dead letter in a Kafka record, which may have a megabyte by default.
    #[serde(default = "default_max_message")]
    pub max_message_bytes: ByteSize,
    /// What receives: `late` acknowledges to the broker only what is durable; `paho` keeps messages in a spool on disk and acknowledges at once.
    #[serde(default)]
    pub backend: BackendKind,
    /// The spool of the `paho` backend.
    #[serde(default)]
    pub spool: Option<SpoolConfig>,
    /// Version of the protocol; `3.1.1` with the `paho` backend only.
    #[serde(default)]
    pub mqtt_version: MqttVersion,
}

/// What receives for a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Acknowledges late; MQTT 5.
    #[default]
    Late,
    /// Acknowledges what is in a spool on disk; MQTT 5 and 3.1.1. Needs the crate's feature `paho`.
    Paho,
}

/// Version of the MQTT protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum MqttVersion {
    /// MQTT 5.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V3,
}

/// A queue on disk between the broker and the pipeline.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpoolConfig {
    /// Folder; each connection has one of its own below it.
    pub dir: PathBuf,
    /// Bytes on disk per connection. A full spool stops receiving.
    #[serde(default = "default_spool")]
    pub max_bytes: ByteSize,
    /// Whether a message is forced to the medium before it is acknowledged, so that it survives a power cut as well as a kill of the
    /// process. Each message then waits for the disk by itself, one after the other.
    #[serde(default)]
    pub fsync: bool,
}

/// One topic filter and what becomes of the topics it matches.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// MQTT topic filter. `{name}` is a `+` whose level is captured, `{name#}` a `#`. The first filter that matches counts.
    pub filter: String,
    /// Key of the message, from captures and `{topic}`. Default: `{topic}`.
    #[serde(default)]
    pub key: Option<String>,
    /// Where the message should go, such as a Kafka topic, from captures and `{topic}`. Default: the sink decides.
    #[serde(default)]
    pub target: Option<String>,
    /// The highest QoS to receive at: 0, 1 or 2.
    #[serde(default = "default_qos")]
    #[schemars(range(max = 2))]
    pub qos: u8,
}

impl TopicConfig {
    /// A filter at QoS 1 whose messages have their topic as key.
    pub fn new(filter: impl Into<String>) -> Self {
        Self { filter: filter.into(), key: None, target: None, qos: 1 }
    }
}

/// When the broker sends its retained messages. Shared subscriptions never get them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retained {
    /// When the subscription is new, so that a reconnect does not repeat them.
    #[default]
    New,
    /// At every connect.
    Always,
    /// Never.
    Never,
}

/// What an empty payload becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmptyPayload {
    /// A payload of no bytes.
    #[default]
    Empty,
    /// No payload at all, which deletes the key in a compacted Kafka topic.
    Tombstone,
}

/// What is kept as headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeptHeaders {
    /// User properties, `content-type`, `mqtt.topic`, `mqtt.qos`, `mqtt.retain`, `mqtt.response.topic` and `mqtt.correlation.data`.
    #[default]
    All,
    /// User properties and `content-type`.
    User,
    /// None.
    None,
}

impl MqttSourceConfig {
    /// A configuration of defaults for one filter.
    pub fn new(server: impl Into<String>, topic: TopicConfig) -> Self {
        Self {
            connection: ConnectionConfig::new(server),
            topics: vec![topic],
            group: None,
            connections: 1,
            client_id: None,
            receive_maximum: default_window(),
            session_expiry: default_expiry(),
            max_batch_rows: default_rows(),
            max_batch_delay: default_delay(),
            retained: Retained::default(),
            empty_payload: EmptyPayload::default(),
            headers: KeptHeaders::default(),
            max_qos0_rows: default_qos0_rows(),
            max_buffer_bytes: default_buffer(),
            max_message_bytes: default_max_message(),
            backend: BackendKind::default(),
            spool: None,
            mqtt_version: MqttVersion::default(),
        }
    }

    /// Checks what serde cannot, and compiles the rest.
    pub(super) fn compile(&self, n_tasks: usize) -> Result<(Server, Mapping), ConfigError> {
        let server = self.connection.check()?;
        let mapping = Mapping::compile(&self.topics, self.group.as_deref())?;
        let positive = [
            ("connections", self.connections),
            ("receive_maximum", usize::from(self.receive_maximum)),
            ("max_batch_rows", self.max_batch_rows),
            ("max_qos0_rows", self.max_qos0_rows),
            ("max_buffer_bytes", self.max_buffer_bytes.0),
            ("max_message_bytes", self.max_message_bytes.0),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::new(format!("{name} must be at least 1")));
        }
        if let Some(topic) = self.topics.iter().find(|topic| topic.qos > 2) {
            return Err(ConfigError::new(format!("qos of {:?} is {}; it must be 0, 1 or 2", topic.filter, topic.qos)));
        }
        let members = self.connections.saturating_mul(n_tasks);
        if members > 1
            && let Some(filter) = mapping.filters().iter().find(|filter| !filter.starts_with("$share/"))
        {
            return Err(ConfigError::new(format!(
                "{members} connections would each receive every message of {filter:?}; set `group` to divide them, \
                 or connections = 1 and tasks.max = 1"
            )));
        }
        self.check_backend()?;
        if self.session_expiry.0.as_secs() == 0 {
            return Err(ConfigError::new(
                "session_expiry must be at least 1s: without a session unacknowledged messages would be lost on a reconnect",
            ));
        }
        Ok((server, mapping))
    }

    fn check_backend(&self) -> Result<(), ConfigError> {
        let wrong = match (self.backend, &self.spool) {
            (BackendKind::Paho, _) if !cfg!(feature = "paho") => {
                "backend \"paho\" is not part of this program; build it with feature paho of iotml-mqtt"
            }
            (BackendKind::Paho, None) => "backend \"paho\" needs a spool; set spool.dir",
            (BackendKind::Paho, Some(spool)) if spool.max_bytes.0 == 0 => "spool.max_bytes must be more than 0B",
            (BackendKind::Late, Some(_)) => {
                "spool is set but backend is \"late\", which needs none; set backend = \"paho\""
            }
            (BackendKind::Late, None) if self.mqtt_version == MqttVersion::V3 => {
                "mqtt_version \"3.1.1\" needs backend = \"paho\": late acknowledgement needs MQTT 5"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::new(wrong))
    }
}

fn one() -> usize {
    1
}

fn default_qos() -> u8 {
    1
}

fn default_window() -> u16 {
    1_000
}

fn default_expiry() -> HumanDuration {
    HumanDuration::from_secs(7 * 24 * 3_600)
}

fn default_rows() -> usize {
    1_000
}

fn default_delay() -> HumanDuration {
    HumanDuration::from_millis(5)
}

fn default_spool() -> ByteSize {
    ByteSize(1 << 30)
}

fn default_buffer() -> ByteSize {
    ByteSize(32 << 20)
}

fn default_max_message() -> ByteSize {
    ByteSize(768 << 10)
}

fn default_qos0_rows() -> usize {
    100_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> MqttSourceConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_smallest_configuration_has_working_defaults() {
        let config = parse(r#"{ "server": "mqtt://localhost", "topics": [{ "filter": "a/{b}", "key": "{b}" }] }"#);
        assert_eq!((config.receive_maximum, config.connections, config.topics[0].qos), (1000, 1, 1));
        assert!(config.compile(1).is_ok());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let json = r#"{ "server": "mqtt://localhost", "topics": [], "recieve_maximum": 5 }"#;
        let error = serde_json::from_str::<MqttSourceConfig>(json).unwrap_err().to_string();
        assert!(error.contains("recieve_maximum"), "{error}");
    }

    #[test]
    fn several_connections_need_a_group() {
        let mut config = MqttSourceConfig::new("mqtt://localhost", TopicConfig::new("a/#"));
        assert!(config.compile(2).unwrap_err().to_string().contains("group"));
        config.connections = 4;
        assert!(config.compile(1).unwrap_err().to_string().contains("group"));
        config.group = Some("g".into());
        assert!(config.compile(2).is_ok());
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let base = MqttSourceConfig::new("mqtt://localhost", TopicConfig::new("a/#"));
        type Change = fn(&mut MqttSourceConfig);
        let wrong: [(&str, Change); 4] = [
            ("receive_maximum", |c| c.receive_maximum = 0),
            ("max_batch_rows", |c| c.max_batch_rows = 0),
            ("qos", |c| c.topics[0].qos = 3),
            ("session_expiry", |c| c.session_expiry = HumanDuration::from_millis(10)),
        ];
        for (name, change) in wrong {
            let mut config = base.clone();
            change(&mut config);
            let error = config.compile(1).unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
