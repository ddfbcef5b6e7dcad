//! Why a log cannot be read, or not on.

use std::time::Duration;

use iotml_core::error::{BoxError, ConfigError};

/// Why a log cannot be read, or not on. Every message names the topic, and the partition and offset where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The configuration or the range cannot be used; nothing was read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No broker answered, or it refused.
    #[error("{message}")]
    Connect {
        /// Where, why, and what to check.
        message: String,
        /// The cause.
        #[source]
        source: Option<BoxError>,
    },
    /// There is no such topic.
    #[error("topic {topic:?} does not exist at {servers:?}")]
    UnknownTopic {
        /// The topic.
        topic: String,
        /// The brokers that were asked.
        servers: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}: it has 0 to {last}", last = n_partitions - 1)]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        n_partitions: i32,
    },
    /// Messages of the range were removed before they were read.
    #[error(
        "topic {topic:?} partition {partition}: offsets {from} to {to} of the range were removed by retention before they were \
         read; read a newer range, or choose to skip what is gone"
    )]
    Gap {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The first offset that is gone.
        from: i64,
        /// The last offset that is gone.
        to: i64,
    },
    /// The range ends behind the end of the log.
    #[error(
        "topic {topic:?} partition {partition}: the range ends at offset {end}, but the log at {log_end}; it was shortened, or \
         the topic created anew"
    )]
    BeyondEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Where the range ends.
        end: i64,
        /// Where the log ends.
        log_end: i64,
    },
    /// The topic is not the one the range was taken of.
    #[error("topic {topic:?} was deleted and created anew since the range was taken: its id was {was}, and is {is}")]
    Recreated {
        /// The topic.
        topic: String,
        /// The id in the range.
        was: String,
        /// The id now.
        is: String,
    },
    /// The topic was deleted while it was read.
    #[error("topic {topic:?} does not exist any more: {text}")]
    Vanished {
        /// The topic.
        topic: String,
        /// What the broker says.
        text: String,
    },
    /// Nothing came any more, although there is more to read.
    #[error(
        "topic {topic:?} partition {partition}: nothing came for {waited:?} at offset {offset}, although the range goes on: {why}"
    )]
    Stalled {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The next offset.
        offset: i64,
        /// How long it was waited.
        waited: Duration,
        /// What is known of the reason.
        why: String,
    },
    /// Kafka refuses, or fails in a way that does not pass.
    #[error("{message}")]
    Kafka {
        /// What was asked, of which topic.
        message: String,
        /// The cause.
        #[source]
        source: BoxError,
    },
}

impl LogError {
    pub(super) fn kafka(message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Kafka { message: message.into(), source: source.into() }
    }
}
