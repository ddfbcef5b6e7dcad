//! Creates topics that do not exist, and asks what size of message they take.

use std::time::Duration;

use iotml_core::batch::Messages;
use iotml_core::error::Reason;
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

    /// What `name` takes, as far as the cluster tells.
    pub async fn limits(&self, name: &str) -> Limits {
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE_TIMEOUT));
        let described = self.admin.describe_configs([&ResourceSpecifier::Topic(name)], &options).await;
        let resource = described.ok().and_then(|described| described.into_iter().next()?.ok());
        let value = |name: &str| resource.as_ref().and_then(|resource| resource.get(name)?.value.clone());
        Limits {
            batch_bytes: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
            needs_key: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        }
    }
}

/// What a topic takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    /// The largest batch of records.
    pub batch_bytes: Option<usize>,
    /// It is compacted, and takes no record without a key.
    pub needs_key: bool,
}

/// What a broker adds to a record at most: the head of its batch, and its own.
const OVERHEAD: usize = 128;

impl Limits {
    /// Why the topic will not take `row`. A batch counts as it is when compressed, so that this may refuse a row that just fits.
    pub fn refuse(&self, messages: &Messages, row: usize) -> Option<Reason> {
        let bytes = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers = messages.headers().of(row).map(|header| header.name.len() + bytes(header.value) + 10);
        let size = || bytes(messages.payload(row)) + bytes(messages.key(row)) + headers.sum::<usize>() + OVERHEAD;
        match self.batch_bytes {
            _ if self.needs_key && messages.key(row).is_none() => Some(Reason::Refused),
            Some(most) if size() > most => Some(Reason::Oversized),
            _ => None,
        }
    }
}
