//! What can go wrong while a log is read, and what becomes of it.

use std::mem;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use super::ask::Ask;
use super::error::LogError;
use super::feed::{Part, Trouble};
use super::reader::{LogReader, Until};
use super::reading::Reading;
use crate::client::{Verdict, verdict};

/// How often a followed topic is looked at for new partitions.
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(10);

/// How often a broker that answers is given time when nothing comes, before the read fails all the same.
const MAX_EXCUSES: u32 = 2;

impl LogReader {
    /// Errors of connections, which arrive on a queue of their own.
    pub(super) fn serve_events(&mut self) -> Result<(), LogError> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            let Err(error) = event else { continue };
            if let Some(code) = error.rdkafka_error_code()
                && verdict(code) == Verdict::Fatal
            {
                let why = self.consumer.context().reports.refusal().unwrap_or_else(|| code.to_string());
                return Err(LogError::kafka(format!("Kafka refuses the reader: {why}"), code));
            }
        }
        self.consumer.context().reports.revive(self.consumer.client(), &self.settings.servers);
        Ok(())
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) -> Result<(), LogError> {
        let Trouble { code, text, partition } = trouble;
        let topic = self.settings.config.topic.clone();
        match code {
            RDKafkaErrorCode::AutoOffsetReset => self.offset_gone(partition),
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => Err(LogError::Vanished { topic, text }),
            code if verdict(code) == Verdict::Fatal => {
                Err(LogError::kafka(format!("topic {topic:?} partition {partition} cannot be read: {text}"), code))
            }
            _ => {
                tracing::warn!("reading topic {topic:?} partition {partition} is interrupted: {text}");
                if let Some(reading) = &mut self.reading {
                    reading.trouble = Some(text);
                }
                Ok(())
            }
        }
    }

    /// The next offset of a partition is not there any more: goes on behind the gap, or fails.
    fn offset_gone(&mut self, partition: i32) -> Result<(), LogError> {
        let ask = Ask { consumer: &self.consumer, settings: &self.settings };
        let held = ask.held(&[partition])?;
        let Some(reading) = &mut self.reading else { return Ok(()) };
        ask.check_id(&reading.range)?;
        let on_gap = self.settings.config.on_gap;
        let feed = reading.feeds.iter_mut().position(|feed| feed.part(partition).is_some());
        let Some((at, held)) = feed.zip(held.get(&partition)) else { return Ok(()) };
        let Some(part) = reading.feeds[at].part(partition).map(|part| *part) else { return Ok(()) };
        if part.next > held.end || part.end.is_some_and(|end| end > held.end) {
            let (topic, end) = (reading.range.topic.clone(), part.end.unwrap_or(part.next));
            return Err(LogError::BeyondEnd { topic, partition, end, log_end: held.end });
        }
        let mut moved = part;
        // Where the broker holds the offset after all, it is asked for once more: a leader may have been behind.
        if held.start > part.next {
            reading.gap(&mut moved, held.start, on_gap)?;
        }
        self.topic.stop(partition);
        let feed = &mut reading.feeds[at];
        if let Some(part) = feed.part(partition) {
            *part = moved;
        }
        if !moved.finished {
            let started = self.topic.start(partition, moved.next, &feed.queue);
            started.map_err(|code| LogError::kafka(format!("partition {partition} cannot be fetched"), code))?;
        } else if at == 0 && feed.is_finished() {
            self.next_partition()?;
        }
        Ok(())
    }

    /// Fails if nothing has come for too long although there is more to read, or no broker answers any more.
    pub(super) fn check_stall(&mut self, took: Duration, n_before: u64) -> Result<(), LogError> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        if reading.progress.n_offsets != n_before {
            (reading.waited, reading.n_excuses, reading.trouble) = (Duration::ZERO, 0, None);
            return Ok(());
        }
        reading.waited += took;
        let limit = self.settings.config.stall_timeout.0;
        let part = reading.feeds.front().and_then(|feed| feed.parts.iter().find(|part| !part.finished));
        let Some(Part { partition, next: offset, .. }) = part.copied().filter(|_| reading.waited >= limit) else {
            return Ok(());
        };
        let waited = mem::take(&mut reading.waited) + limit * reading.n_excuses;
        let gives_up = reading.until == Until::End && (reading.n_excuses == MAX_EXCUSES || reading.trouble.is_some());
        reading.n_excuses += 1;
        let trouble = reading.trouble.clone();
        let topic = self.settings.config.topic.clone();
        let why = match self.consumer.fetch_watermarks(&topic, partition, Duration::from_secs(5)) {
            Ok(_) if !gives_up => return Ok(()),
            Ok((low, high)) => trouble.unwrap_or_else(|| format!("the broker says that it holds {low}..{high}")),
            Err(error) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownPartition,
                ) => {
                    return Err(LogError::Vanished { topic, text: error.to_string() });
                }
                _ => {
                    let trouble = self.consumer.context().reports.trouble().unwrap_or_else(|| error.to_string());
                    format!("no broker of {:?} answers: {trouble}", self.settings.servers)
                }
            },
        };
        Err(LogError::Stalled { topic, partition, offset, waited, why })
    }

    /// Partitions that were added to a followed topic are read from their beginning.
    pub(super) fn look_for_partitions(&mut self) -> Result<(), LogError> {
        let due =
            |reading: &&mut Reading| reading.until == Until::Stopped && reading.looked.elapsed() >= LOOK_FOR_PARTITIONS;
        let Some(reading) = self.reading.as_mut().filter(due) else { return Ok(()) };
        reading.looked = Instant::now();
        let topic = &self.settings.config.topic;
        // A broker that is away is noticed elsewhere.
        let Ok(metadata) = self.consumer.fetch_metadata(Some(topic), Duration::from_millis(500)) else { return Ok(()) };
        let n_now = metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>() as i32;
        let (Some(feed), Some(n_known)) = (reading.feeds.front_mut(), reading.n_partitions) else { return Ok(()) };
        for partition in n_known..n_now {
            tracing::info!("topic {topic:?} has a new partition {partition}, which is read from its beginning");
            let part = Part::new(partition, 0, None);
            let started = self.topic.start(partition, 0, &feed.queue);
            started.map_err(|code| LogError::kafka(format!("partition {partition} cannot be fetched"), code))?;
            feed.parts.push(part);
            reading.n_partitions = Some(partition + 1);
        }
        Ok(())
    }
}
