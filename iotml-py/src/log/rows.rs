//! Decoded rows on their way from a topic or file, and where each came from.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use iotml_core::batch::{Batch, NO_TIME};
use iotml_core::error::Cause;
use iotml_kafka::LogGap;

use super::failure::Failure;

/// Where rows come from, in their order.
pub trait RowSource: Send {
    /// The next rows, at most `max_rows`, waiting up to `timeout` for the first of them.
    fn next(&mut self, max_rows: usize, timeout: Duration) -> Result<Step, Failure>;

    /// How far the read is.
    fn progress(&self) -> Progress;

    /// The place of a row, for messages.
    fn place(&self, partition: i32, offset: i64) -> String;
}

/// What a source gives.
#[expect(clippy::large_enum_variant, reason = "moved once a batch; a box would cost an allocation")]
pub enum Step {
    Rows(Decoded),
    Idle,
    End,
}

/// Rows as they were decoded.
pub struct Decoded {
    pub columns: RecordBatch,
    pub envelope: Envelope,
    /// Those that were not, in order: the number of each among all that came, and why.
    pub bad: Vec<(Place, Cause)>,
    /// Messages without a payload.
    pub n_tombstones: u64,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its number among the rows that came together, decoded or not.
    pub number: usize,
    pub partition: i32,
    pub offset: i64,
}

/// How far a source is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Messages or rows read.
    pub n_messages: u64,
    /// Offsets behind the read, and of the whole range.
    pub n_offsets: u64,
    pub n_offsets_total: Option<u64>,
    pub n_holes: u64,
    pub gaps: Vec<LogGap>,
    pub lag: u64,
}

/// What a row has beside its columns.
pub enum Envelope {
    /// The messages that the rows came from.
    Messages(Batch),
    /// Rows of a file.
    File {
        number: i32,
        first: i64,
        /// Text.
        keys: Option<ArrayRef>,
    },
}

impl Envelope {
    pub fn place(&self, row: usize) -> Place {
        match self {
            Envelope::Messages(batch) => {
                let number = batch.origin(row);
                let place = batch.raw().coordinate(number);
                Place { number, partition: place.partition, offset: place.offset }
            }
            Envelope::File { number, first, .. } => {
                Place { number: row, partition: *number, offset: first + row as i64 }
            }
        }
    }

    pub fn key(&self, row: usize) -> Option<&[u8]> {
        match self {
            Envelope::Messages(batch) => batch.key(row),
            Envelope::File { keys, .. } => {
                let keys = keys.as_ref()?.as_string_opt::<i32>()?;
                keys.is_valid(row).then(|| keys.value(row).as_bytes())
            }
        }
    }

    /// Milliseconds since the Unix epoch; [`NO_TIME`] where the row has none.
    pub fn time(&self, row: usize) -> i64 {
        match self {
            Envelope::Messages(batch) => batch.time(row).unwrap_or(NO_TIME),
            Envelope::File { .. } => NO_TIME,
        }
    }
}
