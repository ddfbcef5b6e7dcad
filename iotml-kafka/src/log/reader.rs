//! The reader: opened once, then any number of ranges one after the other.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use iotml_core::batch::RawBatch;
use rdkafka::consumer::BaseConsumer;

use super::ask::Ask;
use super::config::{LogReaderConfig, Settings};
use super::context::LogContext;
use super::error::LogError;
use super::feed::{Feed, Part};
use super::native::Topic;
use super::progress::LogProgress;
use super::range::{LogRange, Select};
use super::reading::Reading;
use crate::client::watermarks;

/// A batch is closed beyond this size, so that a few large messages do not make one huge batch.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Reads exact ranges of one topic, outside any consumer group.
///
/// A bounded read gives the messages of each partition after those of the one before it, in the order of their offsets, and
/// ends; the same range read again gives the same. A followed topic gives messages as they come, in order within each
/// partition. Only committed messages are read. Memory is bounded by librdkafka's queues, one for each partition that is read
/// or fetched ahead, whatever the caller does.
///
/// Every call may block for the time that it says; a reader has no thread of its own beside librdkafka's.
pub struct LogReader {
    // Feeds and topic are dropped before the consumer.
    pub(super) reading: Option<Reading>,
    pub(super) topic: Topic,
    pub(super) consumer: BaseConsumer<LogContext>,
    pub(super) settings: Settings,
}

/// How far to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To the end of the range.
    End,
    /// From the start of the range on, for as long as the caller likes; partitions that are added later are read too.
    Stopped,
}

/// What [`LogReader::next`] found.
#[derive(Debug)]
pub enum LogEvent {
    /// Messages; never empty. Lane is the partition, sequence numbers count from the range's start.
    Batch(Arc<RawBatch>),
    /// Nothing came in time.
    Idle,
    /// Everything was read. Asked again, it is told again.
    End,
}

impl LogReader {
    /// Connects, and makes sure that the topic exists. Blocks up to the configured time.
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::Connect`], [`LogError::UnknownTopic`] or, where reading is not allowed,
    /// [`LogError::Kafka`].
    pub fn open(config: LogReaderConfig) -> Result<Self, LogError> {
        let settings = Settings::new(config)?;
        let made = settings.client.create_with_context(LogContext::default());
        let consumer: BaseConsumer<LogContext> =
            made.map_err(|error| LogError::kafka("the Kafka client cannot be made", error))?;
        Ask { consumer: &consumer, settings: &settings }.facts()?;
        let topic = Topic::new(&consumer, &settings.config.topic);
        let topic = topic.map_err(|code| LogError::kafka("the topic cannot be opened", code))?;
        Ok(Self { reading: None, topic, consumer, settings })
    }

    /// The offsets that `select` stands for now. Blocks up to the configured time for each question.
    ///
    /// # Errors
    /// [`LogError::Config`] for times in the wrong order, [`LogError::UnknownPartition`] for a partition that is not there, and
    /// the errors of [`open`](Self::open).
    pub fn resolve(&self, select: &Select) -> Result<LogRange, LogError> {
        self.ask().resolve(select)
    }

    /// Begins to read a range, from its start; what was read before is let go.
    ///
    /// # Errors
    /// [`LogError::Gap`] where retention has already removed the start (if that is an error), [`LogError::BeyondEnd`],
    /// [`LogError::Recreated`], and those of [`resolve`](Self::resolve).
    pub fn begin(&mut self, range: &LogRange, until: Until) -> Result<(), LogError> {
        self.stop();
        let (n_partitions, held) = self.ask().check(range)?;
        let mut reading = Reading::new(range, until);
        reading.n_partitions = (range.partitions.len() == n_partitions as usize).then_some(n_partitions);
        for (&partition, span) in &range.partitions {
            let mut part = Part::new(partition, span.start, (until == Until::End).then_some(span.end));
            let low = held.get(&partition).map_or(span.start, |held| held.start);
            if low > part.next && !part.finished {
                reading.gap(&mut part, low, self.settings.config.on_gap)?;
            }
            if !part.finished {
                reading.waiting.push_back(part);
            }
        }
        self.reading = Some(reading);
        self.fetch_ahead()
    }

    /// Lets go of the range that is being read.
    pub fn stop(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.feeds.into_iter().for_each(|feed| feed.stop(&self.topic));
        }
    }

    /// The next messages, at most `max_rows`, waiting up to `timeout` for the first of them.
    ///
    /// # Errors
    /// [`LogError::Gap`], [`LogError::BeyondEnd`], [`LogError::Recreated`], [`LogError::Vanished`], [`LogError::Stalled`] or
    /// [`LogError::Kafka`]. After an error nothing more can be read of this range.
    pub fn next(&mut self, max_rows: usize, timeout: Duration) -> Result<LogEvent, LogError> {
        let (begun, n_before) = (Instant::now(), self.n_offsets());
        let next = self.try_next(max_rows, timeout);
        let next = next.and_then(|event| self.check_stall(begun.elapsed(), n_before).map(|()| event));
        if next.is_err() {
            self.stop();
        }
        next
    }

    /// The next messages of a range that ends, looking every `look` for them; `None` at its end.
    pub(crate) fn next_batch(&mut self, max_rows: usize, look: Duration) -> Result<Option<Arc<RawBatch>>, LogError> {
        loop {
            match self.next(max_rows, look)? {
                LogEvent::Batch(batch) => return Ok(Some(batch)),
                LogEvent::Idle => {}
                LogEvent::End => return Ok(None),
            }
        }
    }

    /// How far the read is.
    pub fn progress(&self) -> LogProgress {
        let Some(reading) = &self.reading else { return LogProgress::default() };
        let topic = &self.settings.config.topic;
        let open = reading.feeds.iter().flat_map(|feed| &feed.parts);
        let behind = open.map(|part| match (part.end, watermarks(&self.consumer, topic, part.partition)) {
            (Some(end), _) => (end - part.next).max(0),
            (None, Some((_, high))) => (high - part.next).max(0),
            (None, None) => 0,
        });
        let lag =
            behind.sum::<i64>() + reading.waiting.iter().filter_map(|part| Some(part.end? - part.next)).sum::<i64>();
        LogProgress { lag: lag.unsigned_abs(), ..reading.progress.clone() }
    }

    fn ask(&self) -> Ask<'_> {
        Ask { consumer: &self.consumer, settings: &self.settings }
    }

    fn try_next(&mut self, max_rows: usize, timeout: Duration) -> Result<LogEvent, LogError> {
        self.serve_events()?;
        self.look_for_partitions()?;
        let mut batch = RawBatch::default();
        let begun = Instant::now();
        loop {
            let Some(reading) = &mut self.reading else { return Ok(LogEvent::End) };
            let Some(feed) = reading.feeds.front_mut() else {
                return if batch.is_empty() { self.end() } else { Ok(LogEvent::Batch(Arc::new(batch))) };
            };
            let patience = if batch.is_empty() { timeout.saturating_sub(begun.elapsed()) } else { Duration::ZERO };
            let n_taken = feed.queue.take_at_most(max_rows.max(1) - batch.len(), patience);
            if n_taken == 0 {
                return Ok(if batch.is_empty() { LogEvent::Idle } else { LogEvent::Batch(Arc::new(batch)) });
            }
            if batch.is_empty() {
                batch = RawBatch::with_capacity(n_taken, n_taken * 64);
            }
            let troubles = feed.fill(&reading.range.topic, &mut batch, &mut reading.progress);
            let finished = feed.is_finished();
            for trouble in troubles {
                self.trouble(trouble)?;
            }
            if finished {
                self.next_partition()?;
            }
            if batch.len() >= max_rows || batch.n_bytes() >= MAX_BATCH_BYTES {
                return Ok(LogEvent::Batch(Arc::new(batch)));
            }
        }
    }

    /// Lets go of the partition that is read to its end.
    pub(super) fn next_partition(&mut self) -> Result<(), LogError> {
        if let Some(feed) = self.reading.as_mut().and_then(|reading| reading.feeds.pop_front()) {
            feed.stop(&self.topic);
        }
        self.fetch_ahead()
    }

    /// Begins to fetch the partition that is to be read, and those after it, as many as configured.
    fn fetch_ahead(&mut self) -> Result<(), LogError> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let start = |parts: Vec<Part>| {
            Feed::start(&self.consumer, &self.topic, parts).map_err(|code| {
                LogError::kafka(format!("topic {:?} cannot be fetched: {code}", self.settings.config.topic), code)
            })
        };
        if reading.until == Until::Stopped {
            if reading.feeds.is_empty() {
                reading.feeds.push_back(start(mem::take(&mut reading.waiting).into())?);
            }
            return Ok(());
        }
        while reading.feeds.len() <= self.settings.config.ahead
            && let Some(part) = reading.waiting.pop_front()
        {
            reading.feeds.push_back(start(vec![part])?);
        }
        Ok(())
    }

    fn n_offsets(&self) -> u64 {
        self.reading.as_ref().map_or(0, |reading| reading.progress.n_offsets)
    }

    /// The end, if the topic is still the one that was read.
    fn end(&mut self) -> Result<LogEvent, LogError> {
        let ask = Ask { consumer: &self.consumer, settings: &self.settings };
        if let Some(reading) = self.reading.as_mut().filter(|reading| !reading.ended) {
            ask.check_id(&reading.range)?;
            reading.ended = true;
        }
        Ok(LogEvent::End)
    }
}

impl Drop for LogReader {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("settings", &self.settings).finish_non_exhaustive()
    }
}
