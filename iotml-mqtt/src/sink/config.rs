//! What a user writes about an MQTT sink.

use iotml_core::error::ConfigError;
use iotml_core::plugin::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::connection::ConnectionConfig;
use crate::server::Server;
use crate::source::MqttSourceConfig;
use crate::template::Template;

/// Names that a topic template may use.
pub(super) const PLACES: [&str; 3] = ["key", "topic", "target"];

/// Where the key stands in [`PLACES`].
pub(super) const KEY: usize = 0;

/// Configuration of the sink `mqtt`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttSinkConfig {
    /// The broker, and how to log on to it.
    #[serde(flatten)]
    pub connection: ConnectionConfig,
    /// Topic to publish to, from `{key}`, `{topic}` (where the row came from) and `{target}` (where it should go). Default: `{target}`.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// QoS to publish at: 0, 1 or 2. At 0 a row counts as durable once it is sent.
    #[serde(default = "default_qos")]
    #[schemars(range(max = 2))]
    pub qos: u8,
    /// Whether the broker keeps the last message of each topic.
    #[serde(default)]
    pub retain: bool,
    /// Whether a row's headers become user properties (headers named `mqtt.*` are left out).
    #[serde(default)]
    pub headers: bool,
    /// Start of the client id; instance, task and a random part are appended. Default: the pipeline's name.
    #[serde(default)]
    pub client_id: Option<String>,
    /// How long the broker may take to acknowledge a row before it is written again.
    #[serde(default = "default_delivery_timeout")]
    pub delivery_timeout: HumanDuration,
    /// Rows sent and not yet acknowledged.
    #[serde(default = "default_window")]
    pub max_in_flight: usize,
}

impl MqttSinkConfig {
    /// A configuration of defaults that publishes to `topic`.
    pub fn new(server: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            connection: ConnectionConfig::new(server),
            topic: topic.into(),
            qos: default_qos(),
            retain: false,
            headers: false,
            client_id: None,
            delivery_timeout: default_delivery_timeout(),
            max_in_flight: default_window(),
        }
    }

    /// Publishes every row under its target, with its headers, to the broker that `source` receives from.
    pub(crate) fn back(source: &MqttSourceConfig) -> Self {
        let connection = source.connection.clone();
        Self { connection, headers: true, ..Self::new("", default_topic()) }
    }

    pub(super) fn compile(&self) -> Result<(Server, Template), ConfigError> {
        let server = self.connection.check()?;
        let topic = Template::parse("topic", &self.topic, &PLACES)?;
        if self.topic.is_empty() || self.topic.contains(['+', '#', '\0']) {
            return Err(ConfigError::new(format!("topic {:?} must be a topic without wildcards", self.topic)));
        }
        if self.qos > 2 {
            return Err(ConfigError::new(format!("qos is {}; it must be 0, 1 or 2", self.qos)));
        }
        if self.max_in_flight == 0 || self.max_in_flight > 60_000 {
            return Err(ConfigError::new("max_in_flight must be between 1 and 60000"));
        }
        Ok((server, topic))
    }
}

fn default_topic() -> String {
    "{target}".into()
}

fn default_qos() -> u8 {
    1
}

fn default_delivery_timeout() -> HumanDuration {
    HumanDuration::from_secs(30)
}

fn default_window() -> usize {
    1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_configuration_has_working_defaults() {
        let json = r#"{ "server": "mqtt://localhost", "topic": "vehicles/{key}/alerts" }"#;
        let config: MqttSinkConfig = serde_json::from_str(json).unwrap();
        assert_eq!((config.qos, config.retain, config.max_in_flight), (1, false, 1000));
        assert!(config.compile().is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        type Change = fn(&mut MqttSinkConfig);
        let wrong: [(&str, Change); 4] = [
            ("{car}", |c| c.topic = "a/{car}".into()),
            ("wildcards", |c| c.topic = "a/#".into()),
            ("qos", |c| c.qos = 3),
            ("max_in_flight", |c| c.max_in_flight = 0),
        ];
        for (name, change) in wrong {
            let mut config = MqttSinkConfig::new("mqtt://localhost", "a/{key}");
            change(&mut config);
            let error = config.compile().unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
