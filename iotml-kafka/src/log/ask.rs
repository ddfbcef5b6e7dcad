//! Questions to the broker: which partitions there are, and which offsets they hold.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use iotml_core::error::{BoxError, ConfigError};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::LogError;
use super::config::Settings;
use super::context::LogContext;
use super::range::{LogRange, Select, Span, last};
use crate::client::{ConnectError, reach, serve};

/// Between two questions to a partition that has no leader yet.
const PAUSE: Duration = Duration::from_millis(100);

/// One client and the topic it asks about.
pub(super) struct Ask<'a> {
    pub consumer: &'a BaseConsumer<LogContext>,
    pub settings: &'a Settings,
}

/// What is known of the topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub n_partitions: i32,
    /// The leader of one of its partitions.
    leader: Option<i32>,
}

impl Ask<'_> {
    /// What the broker says of the topic. Waits for a broker, at most the configured time.
    pub fn facts(&self) -> Result<Facts, LogError> {
        let Settings { config, .. } = self.settings;
        let serve = || serve(self.consumer);
        let (client, reports) = (self.consumer.client(), &self.consumer.context().reports);
        let metadata = reach(client, reports, serve, (&config.kafka, Some(&config.topic), config.connect_timeout.0));
        let metadata = metadata.map_err(|error| {
            let message = error.to_string();
            let source = match error {
                ConnectError::Unreachable { source, .. } => Some(source as BoxError),
                ConnectError::Refused { .. } => None,
            };
            LogError::Connect { message, source }
        })?;
        self.found(&metadata)
    }

    fn found(&self, metadata: &Metadata) -> Result<Facts, LogError> {
        let (topic, servers) = (self.settings.config.topic.clone(), self.settings.servers.clone());
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Err(LogError::UnknownTopic { topic, servers });
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None if found.partitions().is_empty() => Err(LogError::UnknownTopic { topic, servers }),
            None => Ok(Facts {
                n_partitions: i32::try_from(found.partitions().len()).unwrap_or(i32::MAX),
                leader: found.partitions().iter().map(|partition| partition.leader()).find(|leader| *leader >= 0),
            }),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Err(LogError::UnknownTopic { topic, servers })
            }
            Some(code) => Err(LogError::kafka(format!("topic {topic:?} at {servers:?} cannot be read: {code}"), code)),
        }
    }

    /// The id of the topic, as one of its leaders tells it.
    fn topic_id(&self, facts: Facts) -> Option<String> {
        let config = &self.settings.config;
        super::native::topic_id(self.consumer, &config.topic, facts.leader?, config.connect_timeout.0)
    }

    /// What partitions hold now: from the oldest message to one behind the newest that is committed.
    pub fn held(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Span>, LogError> {
        let starts = self.offsets(partitions, Offset::Beginning)?;
        let ends = self.offsets(partitions, Offset::End)?;
        let held = partitions.iter().filter_map(|partition| {
            let (start, end) = (*starts.get(partition)?, *ends.get(partition)?);
            Some((*partition, Span { start: start.min(end), end }))
        });
        Ok(held.collect())
    }

    /// The first offset whose message is not older than `time`, where there is one.
    fn at_time(&self, partitions: &[i32], time: i64) -> Result<BTreeMap<i32, i64>, LogError> {
        if time < 0 {
            return Err(ConfigError::new(format!("{time} is no time in milliseconds since 1970")).into());
        }
        self.offsets(partitions, Offset::Offset(time))
    }

    /// The offsets that stand for a time, or for the beginning or the end, which the protocol writes as special times. Waits for
    /// leaders, which partitions lack for a moment when their topic was just created, or while they move; at most the configured time.
    fn offsets(&self, partitions: &[i32], time: Offset) -> Result<BTreeMap<i32, i64>, LogError> {
        let Settings { config, .. } = self.settings;
        let deadline = Instant::now() + config.connect_timeout.0;
        let error = loop {
            match self.offsets_now(partitions, time) {
                Ok(offsets) => return Ok(offsets),
                Err(error) if has_no_leader(&error) && Instant::now() < deadline => std::thread::sleep(PAUSE),
                Err(error) => break error,
            }
        };
        let trouble = self.consumer.context().reports.trouble();
        let why = trouble.unwrap_or_else(|| error.to_string());
        Err(LogError::kafka(format!("the offsets of topic {:?} cannot be asked for: {why}", config.topic), error))
    }

    fn offsets_now(&self, partitions: &[i32], time: Offset) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let Settings { config, .. } = self.settings;
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(&config.topic, *partition, time)?;
        }
        let found = self.consumer.offsets_for_times(list, config.connect_timeout.0)?;
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }

    /// The offsets that `select` stands for now.
    pub fn resolve(&self, select: &Select) -> Result<LogRange, LogError> {
        let facts = self.facts()?;
        let all: Vec<i32> = (0..facts.n_partitions).collect();
        let partitions = match select {
            Select::All => self.held(&all)?,
            Select::Last(n) => last(*n, &self.held(&all)?),
            Select::Times { from, to } => {
                if let (Some(from), Some(to)) = (from, to)
                    && from > to
                {
                    return Err(ConfigError::new(format!("the time {from} lies behind {to}")).into());
                }
                self.between(&all, (*from, *to))?
            }
            Select::Offsets(spans) => {
                self.check_known(spans, facts)?;
                spans.clone()
            }
        };
        let topic = self.settings.config.topic.clone();
        Ok(LogRange { topic_id: self.topic_id(facts), topic, partitions })
    }

    fn between(
        &self,
        partitions: &[i32],
        (from, to): (Option<i64>, Option<i64>),
    ) -> Result<BTreeMap<i32, Span>, LogError> {
        // The ends first: what is written meanwhile is then behind the range, not torn in two by it.
        let held = self.held(partitions)?;
        let found = |time: Option<i64>| time.map(|time| self.at_time(partitions, time)).transpose();
        let (starts, ends) = (found(from)?, found(to)?);
        let span = |(partition, held): (i32, Span)| {
            let place = |offsets: &Option<BTreeMap<i32, i64>>, otherwise: i64| match offsets {
                // No message is that young.
                Some(offsets) => offsets.get(&partition).map_or(held.end, |offset| (*offset).min(held.end)),
                None => otherwise,
            };
            let end = place(&ends, held.end);
            (partition, Span { start: place(&starts, held.start).min(end), end })
        };
        Ok(held.into_iter().map(span).collect())
    }

    /// Whether a range can be read: its partitions exist and hold its offsets. What retention has removed is no matter here.
    /// Gives the number of partitions there are, and what those of the range hold.
    pub fn check(&self, range: &LogRange) -> Result<(i32, BTreeMap<i32, Span>), LogError> {
        let topic = &self.settings.config.topic;
        if range.topic != *topic {
            let other = &range.topic;
            return Err(ConfigError::new(format!("the range is of topic {other:?}, but {topic:?} is read")).into());
        }
        let facts = self.facts()?;
        self.check_known(&range.partitions, facts)?;
        self.same_id(range, facts)?;
        let partitions: Vec<i32> = range.partitions.keys().copied().collect();
        let held = self.held(&partitions)?;
        for (&partition, span) in range.partitions.iter().filter(|(_, span)| !span.is_empty()) {
            let log_end = held.get(&partition).map_or(0, |held| held.end);
            if span.end > log_end {
                return Err(LogError::BeyondEnd { topic: topic.clone(), partition, end: span.end, log_end });
            }
        }
        Ok((facts.n_partitions, held))
    }

    fn check_known(&self, spans: &BTreeMap<i32, Span>, Facts { n_partitions, .. }: Facts) -> Result<(), LogError> {
        match spans.keys().find(|partition| !(0..n_partitions).contains(partition)) {
            Some(&partition) => {
                let topic = self.settings.config.topic.clone();
                Err(LogError::UnknownPartition { topic, partition, n_partitions })
            }
            None => Ok(()),
        }
    }

    /// Whether the topic is still the one that the range was taken of.
    pub fn check_id(&self, range: &LogRange) -> Result<(), LogError> {
        if range.topic_id.is_none() { Ok(()) } else { self.same_id(range, self.facts()?) }
    }

    fn same_id(&self, range: &LogRange, facts: Facts) -> Result<(), LogError> {
        match (&range.topic_id, self.topic_id(facts)) {
            (Some(was), Some(is)) if *was != is => {
                Err(LogError::Recreated { topic: range.topic.clone(), was: was.clone(), is })
            }
            _ => Ok(()),
        }
    }
}

/// Whether a partition's leader is not there, or not where it was: both pass.
fn has_no_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
    )
}
