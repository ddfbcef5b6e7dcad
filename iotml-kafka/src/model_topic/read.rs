//! Reading a topic to its end, and on.

use std::collections::BTreeMap;
use std::time::Duration;

use iotml_core::batch::RawBatch;
use iotml_core::model::ModelSet;

use super::config::KafkaModelFeedConfig;
use super::error::ModelTopicError;
use super::value::Values;
use super::writer::Writer;
use crate::log::{LogError, LogEvent, LogRange, LogReader, Select, Span, Until};

/// How long one look at the topic may take.
const MAX_ROWS: usize = 256;
const LOOK: Duration = Duration::from_millis(200);

/// For whoever goes on at the end of a topic that seldom changes: it need not ask the broker two hundred times a second, and what is
/// new is answered at once all the same.
pub(super) const FOLLOWS: u16 = 500;
/// For whoever is told that this is the end, and has done.
pub(super) const ONCE: u16 = 10;

/// One record as it stands in the topic.
#[derive(Debug, Clone)]
pub(super) struct Record<'a> {
    pub(super) key: &'a [u8],
    /// `None` for a tombstone.
    pub(super) value: Option<&'a [u8]>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Record<'_> {
    /// The set that it announces; `None` for a tombstone.
    pub(super) fn set(&self, values: &Values<'_>) -> Result<Option<ModelSet>, ModelTopicError> {
        self.value.map(|value| values.read(self.key, value)).transpose()
    }
}

/// A reader at the end of what was there when it was opened.
pub(super) struct Reader {
    log: LogReader,
    range: LogRange,
}

impl Reader {
    /// Opens the topic of announcements, and creates it if that is wanted.
    pub(super) fn open(config: &KafkaModelFeedConfig, wait_ms: u16) -> Result<Self, ModelTopicError> {
        let log = match LogReader::open(config.reads(&config.topic, wait_ms)) {
            Err(LogError::UnknownTopic { .. }) if config.create_topics => {
                drop(Writer::open(config.announces())?);
                LogReader::open(config.reads(&config.topic, wait_ms))?
            }
            opened => opened?,
        };
        Self::of(log)
    }

    /// Opens a topic of reports; `None` if there is none yet.
    pub(super) fn of_reports(config: &KafkaModelFeedConfig, topic: &str) -> Result<Option<Self>, ModelTopicError> {
        match LogReader::open(config.reads(topic, ONCE)) {
            Err(LogError::UnknownTopic { .. }) => Ok(None),
            opened => Ok(Some(Self::of(opened?)?)),
        }
    }

    fn of(log: LogReader) -> Result<Self, ModelTopicError> {
        let range = log.resolve(&Select::All)?;
        Ok(Reader { log, range })
    }

    /// Gives every record that was there when the topic was opened to `see`.
    pub(super) fn read_to_end(&mut self, mut see: impl FnMut(Record<'_>)) -> Result<(), LogError> {
        self.log.begin(&self.range, Until::End)?;
        while let Some(batch) = self.log.next_batch(MAX_ROWS, LOOK)? {
            each(&batch, &mut see);
        }
        let ends = |(partition, span): (&i32, &Span)| Some((*partition, Span::new(span.end, span.end)?));
        let partitions: BTreeMap<i32, Span> = self.range.partitions.iter().filter_map(ends).collect();
        self.range = LogRange { partitions, ..self.range.clone() };
        self.log.begin(&self.range, Until::Stopped)
    }

    /// Gives the records that came since to `see`, waiting a moment for the first.
    pub(super) fn more(&mut self, mut see: impl FnMut(Record<'_>)) -> Result<(), LogError> {
        if let LogEvent::Batch(batch) = self.log.next(MAX_ROWS, LOOK)? {
            each(&batch, &mut see);
        }
        Ok(())
    }
}

fn each(batch: &RawBatch, see: &mut impl FnMut(Record<'_>)) {
    for row in 0..batch.len() {
        let place = batch.coordinate(row);
        see(Record {
            key: batch.messages().key(row).unwrap_or_default(),
            value: batch.messages().payload(row),
            partition: place.partition,
            offset: place.offset,
        });
    }
}
