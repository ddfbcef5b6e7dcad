//! What became of the rows of a read.

use std::collections::BTreeMap;

use pyo3::prelude::*;

use super::rejected::{BadRow, Rejected};
use super::rows::Progress;

/// What became of the rows up to some point of a read.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub progress: Progress,
    pub n_rows: u64,
    pub n_filtered: u64,
    pub n_tombstones: u64,
    pub rejected: Rejected,
    /// Of the rows of `x`, once the read is complete.
    pub digest: Option<String>,
    pub is_complete: bool,
}

/// What became of the rows of a read, as of the batch that was handed out last.
///
/// `messages == rows + filtered + rejected + tombstones`, where `rows` are those that were used: each is a row of `x`, or
/// belongs to the windows.
#[pyclass(frozen, module = "iotml", get_all)]
#[derive(Debug)]
pub struct LogStats {
    /// Messages, or rows of files, that were read.
    messages: u64,
    /// Rows that were used.
    rows: u64,
    /// Rows that the filter left out.
    filtered: u64,
    /// Rows that cannot be used: undecodable, or a feature or label missing.
    rejected: u64,
    /// How many of them by reason.
    reasons: BTreeMap<String, u64>,
    /// The first thousand of them, in order.
    rejections: Vec<Rejection>,
    /// Messages without a payload, as compacted topics have them.
    tombstones: u64,
    /// Offsets without a message: compaction, transaction markers.
    holes: u64,
    /// Offsets `(partition, first, end)` that retention had removed, skipped as asked for.
    gaps: Vec<(i32, i64, i64)>,
    /// Offsets that are behind the read.
    offsets: u64,
    /// Offsets of the range; `None` where the log is followed.
    offsets_total: Option<u64>,
    /// Offsets between the read and the end of the range or, where it is followed, of the log.
    lag: u64,
    /// Whether everything was read.
    complete: bool,
    /// `sha256:...` of the rows of `x` in order, as float32 in little-endian bytes, once everything was read.
    digest: Option<String>,
}

/// A row that cannot be used.
#[pyclass(frozen, module = "iotml", get_all)]
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Kafka partition, or number of the file.
    partition: i32,
    /// Offset, or number of the row in its file.
    offset: i64,
    /// One word, to count by.
    reason: String,
    /// What a person needs to know.
    detail: String,
}

impl From<&Snapshot> for LogStats {
    fn from(snapshot: &Snapshot) -> Self {
        let Snapshot { progress, n_rows, n_filtered, n_tombstones, rejected, digest, is_complete } = snapshot;
        Self {
            messages: progress.n_messages,
            rows: *n_rows,
            filtered: *n_filtered,
            rejected: rejected.n,
            reasons: rejected.by_reason.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect(),
            rejections: rejected.listed.iter().map(Rejection::from).collect(),
            tombstones: *n_tombstones,
            holes: progress.n_holes,
            gaps: progress.gaps.iter().map(|gap| (gap.partition, gap.from, gap.to)).collect(),
            offsets: progress.n_offsets,
            offsets_total: progress.n_offsets_total,
            lag: progress.lag,
            complete: *is_complete,
            digest: digest.clone(),
        }
    }
}

impl From<&BadRow> for Rejection {
    fn from(row: &BadRow) -> Self {
        let BadRow { partition, offset, cause } = row;
        let (reason, detail) = (cause.reason.as_str().to_owned(), cause.detail.clone());
        Self { partition: *partition, offset: *offset, reason, detail }
    }
}

#[pymethods]
impl LogStats {
    fn __repr__(&self) -> String {
        let Self { messages, rows, filtered, rejected, tombstones, .. } = self;
        let state = if self.complete { "complete" } else { "reading" };
        format!(
            "LogStats({state}: messages {messages} = rows {rows} + filtered {filtered} + rejected {rejected} + tombstones \
             {tombstones}; holes {}, gaps {})",
            self.holes,
            self.gaps.len()
        )
    }
}

#[pymethods]
impl Rejection {
    fn __repr__(&self) -> String {
        let Self { partition, offset, reason, detail } = self;
        format!("Rejection(partition {partition} offset {offset}: {reason}: {detail})")
    }
}
