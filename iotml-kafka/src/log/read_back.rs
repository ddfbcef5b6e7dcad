//! What a sink has written to a topic, read again.

use std::iter;
use std::time::Duration;

use iotml_core::error::{BoxError, ConfigError};
use iotml_core::sink::{ReadBack, Stretch};

use super::{LogError, LogReader, LogReaderConfig, OnGap, Select, Until};
use crate::sink::KafkaSinkConfig;
use crate::source::is_topic_name;

/// How many messages are taken together.
const MAX_ROWS: usize = 8192;

/// How long a look waits for messages before it looks again.
const LOOK: Duration = Duration::from_millis(200);

/// Reads the topic of a sink.
pub(crate) struct TopicReadBack {
    config: LogReaderConfig,
    /// The sink creates the topic when it first opens: until then nothing was written.
    may_be_missing: bool,
}

impl TopicReadBack {
    /// Checks the configuration; connects nothing.
    pub(crate) fn new(sink: &KafkaSinkConfig) -> Result<Self, ConfigError> {
        let Some(topic) = sink.topic.as_deref().filter(|topic| is_topic_name(topic)) else {
            let shown = sink.topic.as_deref().unwrap_or_default();
            let message =
                format!("{shown:?} does not name one topic, so that what the sink has written cannot be read again");
            return Err(ConfigError::new(message).of_key("topic"));
        };
        let mut config = LogReaderConfig::new("", topic);
        config.kafka = sink.kafka.connection();
        config.connect_timeout = sink.connect_timeout;
        // What retention takes away meanwhile was there for a while, and is looked at no more.
        config.on_gap = OnGap::Skip;
        Ok(Self { config, may_be_missing: sink.create_topics.is_some() })
    }
}

impl ReadBack for TopicReadBack {
    fn open(&self, from: Option<i64>, to: Option<i64>) -> Result<Stretch, BoxError> {
        let mut log = match LogReader::open(self.config.clone()) {
            Err(LogError::UnknownTopic { .. }) if self.may_be_missing => return Ok(Box::new(iter::empty())),
            opened => opened?,
        };
        let range =
            log.resolve(&Select::Times { from: from.map(|time| time.max(0)), to: to.map(|time| time.max(0)) })?;
        log.begin(&range, Until::End)?;
        let mut has_ended = false;
        Ok(Box::new(iter::from_fn(move || {
            if has_ended {
                return None;
            }
            let next = log.next_batch(MAX_ROWS, LOOK).transpose();
            has_ended = !matches!(next, Some(Ok(_)));
            next.map(|batch| batch.map_err(BoxError::from))
        })))
    }
}
