//! Configuration of the Kafka sink.

use std::collections::BTreeMap;

use iotml_core::error::ConfigError;
use iotml_core::plugin::{BuildContext, HumanDuration};
use iotml_core::schemars::{self, JsonSchema};
use rdkafka::ClientConfig;
use serde::Deserialize;

use super::topic::TopicRule;
use crate::client::{KafkaProperties, Rule};

/// Configuration of a [`KafkaSink`](super::KafkaSink).
///
/// ```toml
/// [[route]]
/// sink.type = "kafka"
/// sink.topic = "model-predictions"
///
/// [route.sink.kafka]
/// "bootstrap.servers" = "localhost:9092"
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSinkConfig {
    /// Where rows go: a topic, or a template with `{topic}` (the topic a row came from), `{target}` (the topic its source or
    /// encoder chose) or `{key}`. Without it every row goes to its target.
    #[serde(default)]
    pub topic: Option<String>,
    /// Create topics that do not exist.
    #[serde(default)]
    pub create_topics: Option<TopicCreation>,
    /// Most writes at once; the order of rows is kept all the same.
    #[serde(default = "default_max_in_flight")]
    pub max_in_flight: usize,
    /// How long to wait for a broker at start-up before giving up.
    #[serde(default = "default_timeout")]
    pub connect_timeout: HumanDuration,
    /// How long a stop waits for rows on their way.
    #[serde(default = "default_timeout")]
    pub close_timeout: HumanDuration,
    /// Properties of librdkafka, in quotes: `"bootstrap.servers"` is needed.
    pub kafka: KafkaProperties,
}

/// How to create a topic that does not exist.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicCreation {
    /// Number of partitions; the broker's default if absent.
    #[serde(default)]
    pub partitions: Option<u16>,
    /// Copies of each partition; the broker's default if absent.
    #[serde(default)]
    pub replication: Option<u16>,
    /// Properties of the topic, such as `"cleanup.policy" = "compact"`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

fn default_max_in_flight() -> usize {
    64
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

impl KafkaSinkConfig {
    /// Writes to `topic` (to each row's target where it is `None`), with everything else as it is by default.
    pub fn new(bootstrap_servers: &str, topic: Option<&str>) -> Self {
        Self {
            topic: topic.map(str::to_owned),
            create_topics: None,
            max_in_flight: default_max_in_flight(),
            connect_timeout: default_timeout(),
            close_timeout: default_timeout(),
            kafka: KafkaProperties::new(bootstrap_servers),
        }
    }
}

/// A checked configuration.
#[derive(Clone)]
pub(super) struct Settings {
    pub client: ClientConfig,
    pub servers: String,
    pub topic: TopicRule,
    pub config: KafkaSinkConfig,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without `client`, which holds secrets in the clear.
        f.debug_struct("Settings").field("config", &self.config).finish_non_exhaustive()
    }
}

const RULES: &[Rule] = &[
    Rule {
        name: "acks",
        allowed: &["all", "-1"],
        reason: "a row counts as delivered only once all in-sync replicas have it",
    },
    Rule {
        name: "enable.idempotence",
        allowed: &["true"],
        reason: "without it a retry may double rows or change their order",
    },
    Rule {
        name: "message.timeout.ms",
        allowed: &["0"],
        reason: "rows would be given up behind the pipeline's back; how long to try is said by errors.retry.timeout",
    },
    Rule { name: "retries", allowed: &["2147483647"], reason: "rows would be given up behind the pipeline's back" },
    Rule { name: "delivery.report.only.error", allowed: &["false"], reason: "every row's delivery is counted" },
    Rule {
        name: "transactional.id",
        allowed: &[],
        reason: "with exactly_once it is made from the names of pipeline, instance and task; without it there are no \
                 transactions",
    },
    Rule {
        name: "test.mock.num.brokers",
        allowed: &[],
        reason: "it replaces the cluster by an empty one in memory; use the feature embedded for tests",
    },
];

/// Own defaults, which properties may override.
const DEFAULTS: &[(&str, &str)] = &[
    ("linger.ms", "5"),
    ("compression.type", "lz4"),
    // As Kafka's own clients, so that a key is found in the same partition whoever wrote it.
    ("partitioner", "murmur2_random"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "65536"),
    ("topic.metadata.propagation.max.ms", "10000"),
    ("statistics.interval.ms", "0"),
];

const FORCED: &[(&str, &str)] = &[
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("message.timeout.ms", "0"),
    ("delivery.report.only.error", "false"),
];

impl Settings {
    pub fn new(config: KafkaSinkConfig, context: &BuildContext) -> Result<Self, ConfigError> {
        let topic = TopicRule::new(config.topic.as_deref())?;
        if config.max_in_flight == 0 {
            return Err(ConfigError::new("max_in_flight must be at least 1"));
        }
        let client_id = format!("iotml-{}-{}", context.pipeline, context.task);
        let mut defaults = DEFAULTS.to_vec();
        defaults.push(("client.id", &client_id));
        let client = config.kafka.client_config(&defaults, FORCED, RULES)?;
        let servers = config.kafka.servers().unwrap_or_default().to_owned();
        Ok(Self { client, servers, topic, config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_would_weaken_a_guarantee_are_refused_by_name() {
        let json = r#"{"topic": "t", "kafka": {"bootstrap.servers": "h:1", "request.required.acks": 1, "retries": 3,
            "enable.idempotence": false, "delivery.timeout.ms": 5000, "transactional.id": "x"}}"#;
        let context = BuildContext { pipeline: "cars".into(), task: 0, n_tasks: 1 };
        let error = Settings::new(serde_json::from_str(json).unwrap(), &context).unwrap_err().to_string();
        for name in
            ["request.required.acks", "retries", "enable.idempotence", "delivery.timeout.ms", "transactional.id"]
        {
            assert!(error.contains(&format!("{name:?} cannot be set")), "{name} in {error}");
        }
    }

    #[test]
    fn a_second_name_overrides_our_default_under_the_first() {
        let json =
            r#"{"topic": "t", "kafka": {"bootstrap.servers": "h:1", "compression.codec": "zstd", "acks": "all"}}"#;
        let context = BuildContext { pipeline: "cars".into(), task: 0, n_tasks: 1 };
        let settings = Settings::new(serde_json::from_str(json).unwrap(), &context).unwrap();
        assert_eq!(settings.client.get("compression.type"), Some("zstd"));
        assert_eq!(settings.client.get("compression.codec"), None);
    }
}
