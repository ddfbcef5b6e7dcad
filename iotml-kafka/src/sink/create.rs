//! Creates topics that do not exist, and asks what size of message they take.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::config::{Settings, TopicCreation};

/// A cluster that can tell does so in milliseconds; the in-memory one never answers this question.
const DESCRIBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Talks to the cluster about topics.
pub(super) struct Topics {
    admin: AdminClient<DefaultClientContext>,
    options: AdminOptions,
}

impl Topics {
    pub fn new(settings: &Settings) -> Result<Self, KafkaError> {
        let timeout = settings.config.connect_timeout.0;
        let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        Ok(Self { admin: settings.client.create()?, options })
    }

    /// Creates `name` unless it exists.
    pub async fn create(&self, name: &str, how: &TopicCreation) -> Result<(), KafkaError> {
        // -1 is the broker's default, for both.
        let partitions = how.partitions.map_or(-1, i32::from);
        let replication = how.replication.map_or(-1, i32::from);
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replication));
        for (name, value) in &how.config {
            topic = topic.set(name, value);
        }
        let results = self.admin.create_topics([&topic], &self.options).await?;
        match results.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => Err(KafkaError::AdminOp(code)),
            _ => Ok(()),
        }
    }

    /// The largest batch of records in bytes that `name` takes; `None` where the cluster does not tell.
    pub async fn max_batch_bytes(&self, name: &str) -> Option<usize> {
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
        let described = self.admin.describe_configs([&ResourceSpecifier::Topic(name)], &options).await;
        let resource = described.ok()?.into_iter().next()?.ok()?;
        resource.get("max.message.bytes")?.value.as_ref()?.parse().ok()
    }
}
