//! Configuration of the Kafka source.

use iotml_core::error::ConfigError;
use iotml_core::plugin::{BuildContext, ByteSize, HumanDuration};
use iotml_core::schemars::{self, JsonSchema};
use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::client::{KafkaProperties, Rule};

/// Configuration of a [`KafkaSource`](super::KafkaSource).
///
/// ```toml
/// [source]
/// type = "kafka"
/// topics = ["sensor-data"]
///
/// [source.kafka]
/// "bootstrap.servers" = "localhost:9092"
/// "group.id" = "scoring"
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSourceConfig {
    /// Topics to read. Each must exist.
    #[serde(default)]
    pub topics: Vec<String>,
    /// Read every topic whose name matches this regular expression, now and later; instead of `topics`.
    #[serde(default, rename = "topics.regex")]
    pub topics_regex: Option<String>,
    /// Where a group begins that has never read a topic before.
    #[serde(default)]
    pub start: Start,
    /// End once everything that was there at the start has been read, instead of waiting for more.
    #[serde(default)]
    pub stop_at_end: bool,
    /// Most messages in one batch.
    #[serde(default = "default_max_batch_rows")]
    pub max_batch_rows: usize,
    /// Bytes of messages fetched ahead of the pipeline, beside librdkafka's own `queued.max.messages.kbytes`.
    #[serde(default = "default_prefetch")]
    pub prefetch: ByteSize,
    /// Most bytes of payload and key of one message; a larger one becomes a dead letter with the beginning of its payload. Without
    /// it the limit is the broker's.
    #[serde(default)]
    pub max_message_bytes: Option<ByteSize>,
    /// How often acknowledged offsets are committed.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: HumanDuration,
    /// How long the pipeline may drain partitions that are about to move to another member of the group.
    #[serde(default = "default_revoke_timeout")]
    pub revoke_timeout: HumanDuration,
    /// How long to wait for a broker at start-up before giving up.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// Properties of librdkafka, in quotes: `"bootstrap.servers"` is needed, `"group.id"` is `iotml-<pipeline>` if absent.
    pub kafka: KafkaProperties,
}

/// Where a group begins that has never read a topic before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the oldest message that is still there.
    #[default]
    Earliest,
    /// Behind the newest message. Partitions added later are still read from their beginning.
    Latest,
}

/// What happens when the offset a group has reached is no longer there: `auto.offset.reset`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OnGap {
    /// The task ends: a known group never jumps over a gap without being told to (invariant 4).
    #[default]
    Error,
    /// Goes on at the oldest message; the gap is counted and logged.
    Earliest,
    /// Goes on behind the newest message; the gap is counted and logged.
    Latest,
}

impl OnGap {
    fn as_str(self) -> &'static str {
        match self {
            OnGap::Error => "error",
            OnGap::Earliest => "earliest",
            OnGap::Latest => "latest",
        }
    }
}

fn default_max_batch_rows() -> usize {
    4096
}

fn default_prefetch() -> ByteSize {
    ByteSize(8 << 20)
}

fn default_commit_interval() -> HumanDuration {
    HumanDuration::from_secs(1)
}

fn default_revoke_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn default_connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

impl KafkaSourceConfig {
    /// Reads `topics` through the brokers at `bootstrap_servers`, with everything else as it is by default.
    pub fn new(bootstrap_servers: &str, topics: &[&str]) -> Self {
        Self {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            topics_regex: None,
            start: Start::default(),
            stop_at_end: false,
            max_batch_rows: default_max_batch_rows(),
            prefetch: default_prefetch(),
            max_message_bytes: None,
            commit_interval: default_commit_interval(),
            revoke_timeout: default_revoke_timeout(),
            connect_timeout: default_connect_timeout(),
            kafka: KafkaProperties::new(bootstrap_servers),
        }
    }
}

/// A checked configuration.
#[derive(Clone)]
pub(super) struct Settings {
    pub client: ClientConfig,
    pub servers: String,
    pub group: String,
    /// Names, or one pattern that begins with `^`.
    pub subscription: Vec<String>,
    pub on_gap: OnGap,
    pub config: KafkaSourceConfig,
}

const RULES: &[Rule] = &[
    Rule {
        name: "enable.auto.commit",
        allowed: &["false"],
        reason: "offsets are committed only behind acknowledgements; use commit_interval for their pace",
    },
    Rule {
        name: "enable.auto.offset.store",
        allowed: &["false"],
        reason: "an offset counts only once its message is durable elsewhere",
    },
    Rule {
        name: "auto.commit.interval.ms",
        allowed: &[],
        reason: "nothing is committed automatically; use commit_interval",
    },
    Rule {
        name: "auto.offset.reset",
        allowed: &["error", "earliest", "latest"],
        reason: "choose error (the default: a lost offset ends the task), earliest or latest (it is counted); \
                 where a new group begins is said by start",
    },
    Rule {
        name: "isolation.level",
        allowed: &["read_committed"],
        reason: "records of aborted transactions would be scored as if they were real",
    },
    Rule { name: "enable.partition.eof", allowed: &["false"], reason: "the source sets it itself; use stop_at_end" },
    Rule {
        name: "group.protocol",
        allowed: &["classic"],
        reason: "hand-over of partitions is built on the classic protocol",
    },
    Rule {
        name: "test.mock.num.brokers",
        allowed: &[],
        reason: "it replaces the cluster by an empty one in memory; use the feature embedded for tests",
    },
];

/// Own defaults, which properties may override.
///
/// librdkafka answers a full queue by a pause of a second, hence its fame of needing a deep one. With a short pause a
/// small queue is as fast, and 300 bytes of overhead a message are spared.
const DEFAULTS: &[(&str, &str)] = &[
    ("queued.min.messages", "50000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.queue.backoff.ms", "2"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("statistics.interval.ms", "0"),
];

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without `client`, which holds secrets in the clear.
        f.debug_struct("Settings").field("group", &self.group).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Settings {
    pub fn new(config: KafkaSourceConfig, context: &BuildContext) -> Result<Self, ConfigError> {
        let subscription = match (&config.topics_regex, config.topics.as_slice()) {
            (Some(_), [_, ..]) => return Err(ConfigError::new("set topics or topics.regex, not both")),
            (None, []) => return Err(ConfigError::new("name what to read: set topics or topics.regex")),
            (Some(regex), []) if regex.starts_with('^') => vec![regex.clone()],
            // librdkafka takes a name for a pattern if, and only if, it begins so.
            (Some(regex), []) => vec![format!("^{regex}")],
            (None, topics) => topics.to_vec(),
        };
        if let Some(name) = config.topics.iter().find(|name| !is_topic_name(name)) {
            return Err(ConfigError::new(format!("{name:?} is not a name a Kafka topic can have")));
        }
        let max_message = config.max_message_bytes.map_or(usize::MAX, |max| max.0);
        let at_least_one = [
            ("max_batch_rows", config.max_batch_rows),
            ("prefetch", config.prefetch.0),
            ("max_message_bytes", max_message),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(ConfigError::new(format!("{name} must be at least 1")));
            }
        }
        let properties = config.kafka.clone();
        let group = properties.get("group.id").map_or_else(|| format!("iotml-{}", context.pipeline), str::to_owned);
        let on_gap = match properties.get("auto.offset.reset").map(|word| word.trim().to_lowercase()).as_deref() {
            Some("earliest") => OnGap::Earliest,
            Some("latest") => OnGap::Latest,
            _ => OnGap::Error,
        };
        let client_id = format!("iotml-{}-{}", context.pipeline, context.task);
        let forced = [
            ("group.id", group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", on_gap.as_str()),
            ("isolation.level", "read_committed"),
            ("enable.partition.eof", if config.stop_at_end { "true" } else { "false" }),
        ];
        let mut defaults = DEFAULTS.to_vec();
        defaults.push(("client.id", &client_id));
        let client = properties.client_config(&defaults, &forced, RULES)?;
        let servers = properties.servers().unwrap_or_default().to_owned();
        Ok(Self { client, servers, group, subscription, on_gap, config })
    }
}

/// Whether `name` is one a Kafka topic can have.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> BuildContext {
        BuildContext { pipeline: "cars".into(), task: 1, n_tasks: 2 }
    }

    fn settings(json: &str) -> Result<Settings, ConfigError> {
        Settings::new(serde_json::from_str(json).unwrap(), &context())
    }

    #[test]
    fn properties_that_would_weaken_a_guarantee_are_refused_by_name() {
        let error = settings(
            r#"{"topics": ["t"], "kafka": {"bootstrap.servers": "h:1", "enable.auto.commit": true,
                "enable.auto.offset.store": "true", "auto.offset.reset": "smallest", "isolation.level": "read_uncommitted",
                "enable.partition.eof": true, "test.mock.num.brokers": 3}}"#,
        );
        let error = error.err().unwrap().to_string();
        for name in [
            "enable.auto.commit",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "isolation.level",
            "enable.partition.eof",
            "test.mock.num.brokers",
        ] {
            assert!(error.contains(&format!("{name:?} cannot be set")), "{name} in {error}");
        }
    }

    #[test]
    fn inv_4_a_lost_offset_is_an_error_unless_told_otherwise() {
        let plain = settings(r#"{"topics": ["t"], "kafka": {"bootstrap.servers": "h:1"}}"#).unwrap();
        assert_eq!((plain.on_gap, plain.config.start), (OnGap::Error, Start::Earliest));
        assert_eq!((plain.group.as_str(), plain.client.get("client.id")), ("iotml-cars", Some("iotml-cars-1")));
        let told = r#"{"topics": ["t"], "start": "latest",
            "kafka": {"bootstrap.servers": "h:1", "auto.offset.reset": "earliest", "group.id": "g"}}"#;
        let told = settings(told).unwrap();
        assert_eq!((told.on_gap, told.group.as_str()), (OnGap::Earliest, "g"));
        assert_eq!(told.client.get("auto.offset.reset"), Some("earliest"));
        assert_eq!(plain.client.get("auto.offset.reset"), Some("error"));
    }

    #[test]
    fn topics_and_pattern_exclude_each_other() {
        let kafka = r#""kafka": {"bootstrap.servers": "h:1"}"#;
        for (topics, part) in [
            (r#""topics": ["a"], "topics.regex": "b.*","#, "not both"),
            ("", "name what to read"),
            (r#""topics": ["a b"],"#, "\"a b\""),
        ] {
            let error = settings(&format!("{{{topics} {kafka}}}")).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        let regex = settings(&format!(r#"{{"topics.regex": "cars-.*", {kafka}}}"#)).unwrap();
        assert_eq!(regex.subscription, ["^cars-.*"]);
    }
}
