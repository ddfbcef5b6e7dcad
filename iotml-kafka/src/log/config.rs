//! Configuration of the log reader.

use iotml_core::error::ConfigError;
use iotml_core::plugin::HumanDuration;
use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::client::{KafkaProperties, Rule};
use crate::source::is_topic_name;

/// Configuration of a [`LogReader`](super::LogReader).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogReaderConfig {
    /// The topic; it must exist.
    pub topic: String,
    /// What happens where messages of the range are not there any more.
    #[serde(default)]
    pub on_gap: OnGap,
    /// How long to wait for a broker at the start before giving up.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// How long nothing may come, although there is more to read, before the read fails.
    #[serde(default = "default_stall_timeout")]
    pub stall_timeout: HumanDuration,
    /// Partitions fetched ahead of the one that is read, so that going on to the next costs no time. Each takes up to
    /// librdkafka's `queued.max.messages.kbytes` of memory.
    #[serde(default = "default_ahead")]
    pub ahead: usize,
    /// Properties of librdkafka, in quotes: `"bootstrap.servers"` is needed.
    pub kafka: KafkaProperties,
}

/// What happens where messages of the range are not there any more: retention removed them, or someone did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// The read fails.
    #[default]
    Error,
    /// It goes on behind them; the gap is counted and listed.
    Skip,
}

fn default_connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn default_stall_timeout() -> HumanDuration {
    HumanDuration::from_secs(30)
}

fn default_ahead() -> usize {
    1
}

impl LogReaderConfig {
    /// Reads `topic` through the brokers at `bootstrap_servers`, with everything else as it is by default.
    pub fn new(bootstrap_servers: &str, topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            on_gap: OnGap::default(),
            connect_timeout: default_connect_timeout(),
            stall_timeout: default_stall_timeout(),
            ahead: default_ahead(),
            kafka: KafkaProperties::new(bootstrap_servers),
        }
    }
}

const RULES: &[Rule] = &[
    Rule { name: "group.id", allowed: &[], reason: "the log is read outside any consumer group" },
    Rule { name: "group.instance.id", allowed: &[], reason: "the log is read outside any consumer group" },
    Rule {
        name: "enable.auto.commit",
        allowed: &["false"],
        reason: "nothing is committed: a range says what was read",
    },
    Rule {
        name: "enable.auto.offset.store",
        allowed: &["false"],
        reason: "nothing is committed: a range says what was read",
    },
    Rule {
        name: "auto.offset.reset",
        allowed: &["error"],
        reason: "a range begins where it says; what happens to offsets that are gone is said by on_gap",
    },
    Rule {
        name: "isolation.level",
        allowed: &["read_committed"],
        reason: "records of aborted transactions would be read as if they were real",
    },
    Rule { name: "enable.partition.eof", allowed: &["true"], reason: "the reader needs it to find the end" },
    Rule {
        name: "test.mock.num.brokers",
        allowed: &[],
        reason: "it replaces the cluster by an empty one in memory; use the feature embedded for tests",
    },
];

/// Own defaults, which properties may override: small queues and a short pause, as in the source.
///
/// A response of 4 MB of one partition keeps the broker busy while the one before it is unpacked. A broker that is asked for
/// a partition which has no more answers after `fetch.wait.max.ms`, and librdkafka asks it nothing else meanwhile: the half
/// second that is usual would be lost at the end of every partition.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "iotml-log"),
    ("queued.min.messages", "50000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "2"),
    ("fetch.wait.max.ms", "5"),
    ("max.partition.fetch.bytes", "4194304"),
    ("topic.metadata.refresh.interval.ms", "10000"),
    ("statistics.interval.ms", "0"),
];

const FORCED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "true"),
];

/// A checked configuration.
pub(super) struct Settings {
    pub client: ClientConfig,
    pub servers: String,
    pub config: LogReaderConfig,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without `client`, which holds secrets in the clear.
        f.debug_struct("Settings").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Settings {
    pub fn new(config: LogReaderConfig) -> Result<Self, ConfigError> {
        if !is_topic_name(&config.topic) {
            return Err(ConfigError::new(format!("{:?} is not a name a Kafka topic can have", config.topic)));
        }
        let client = config.kafka.client_config(DEFAULTS, FORCED, RULES)?;
        let servers = config.kafka.servers().unwrap_or_default().to_owned();
        Ok(Self { client, servers, config })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_would_change_what_is_read_are_refused_by_name() {
        let names = ["group.id", "enable.auto.commit", "auto.offset.reset", "isolation.level", "enable.partition.eof"];
        let mut config = LogReaderConfig::new("h:1", "t");
        for name in names {
            config.kafka = config.kafka.set(name, "latest");
        }
        let error = Settings::new(config).unwrap_err().to_string();
        for name in names {
            assert!(error.contains(&format!("{name:?} cannot be set")), "{name} in {error}");
        }
        let own = LogReaderConfig::new("h:1", "t");
        let own = LogReaderConfig { kafka: own.kafka.set("fetch.message.max.bytes", 1000), ..own };
        assert_eq!(Settings::new(own).unwrap().client.get("max.partition.fetch.bytes"), Some("1000"));
        let error = Settings::new(LogReaderConfig::new("h:1", "a b")).unwrap_err().to_string();
        assert!(error.contains("\"a b\""), "{error}");
    }
}
