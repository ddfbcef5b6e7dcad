//! How far a topic of dead letters is done: the offsets that a consumer group has committed.

use std::time::Duration;

use iotml_core::error::ConfigError;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::KafkaProperties;
use crate::log::LogRange;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A group, seen from outside: it is not joined.
pub(super) struct Progress<'a> {
    pub kafka: &'a KafkaProperties,
    pub group: &'a str,
}

impl Progress<'_> {
    /// What of `held` is not done yet.
    pub fn rest(&self, held: &LogRange) -> Result<LogRange, String> {
        let mut asked = TopicPartitionList::new();
        for partition in held.partitions.keys() {
            asked.add_partition(&held.topic, *partition);
        }
        let consumer = self.consumer().map_err(|error| error.to_string())?;
        let committed = consumer.committed_offsets(asked, PATIENCE);
        let committed = committed.map_err(|error| self.failed("cannot be asked how far it is", &error))?;
        let mut rest = held.clone();
        for element in committed.elements() {
            if let (Offset::Offset(offset), Some(span)) =
                (element.offset(), rest.partitions.get_mut(&element.partition()))
            {
                span.start = offset.clamp(span.start, span.end);
            }
        }
        Ok(rest)
    }

    /// Sets the group back to the oldest message of each partition.
    pub fn reset(&self, held: &LogRange) -> Result<(), String> {
        let mut oldest = TopicPartitionList::new();
        for (partition, span) in &held.partitions {
            let set = oldest.add_partition_offset(&held.topic, *partition, Offset::Offset(span.start));
            set.map_err(|error| self.failed("cannot be set back", &error))?;
        }
        let consumer = self.consumer().map_err(|error| error.to_string())?;
        consumer.commit(&oldest, CommitMode::Sync).map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::RebalanceInProgress) => format!(
                "group {:?} cannot be set back while another replay is a member of it; end that one first",
                self.group
            ),
            _ => self.failed("cannot be set back", &error),
        })
    }

    fn consumer(&self) -> Result<BaseConsumer, ConfigError> {
        let forced = [("group.id", self.group), ("enable.auto.commit", "false")];
        let client = self.kafka.client_config(&[], &forced, &[])?;
        client.create().map_err(|error| ConfigError::with("the Kafka client cannot be made", error))
    }

    fn failed(&self, what: &str, error: &KafkaError) -> String {
        format!("group {:?} {what}: {error}", self.group)
    }
}
