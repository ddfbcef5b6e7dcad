//! How far a read is.

/// How far a read is. Counts are of this read, from [`LogReader::begin`](super::LogReader::begin) on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogProgress {
    /// Messages handed out.
    pub n_messages: u64,
    /// Bytes of keys and payloads handed out.
    pub n_bytes: u64,
    /// Offsets of the range that are behind the read: messages, and offsets without one.
    pub n_offsets: u64,
    /// Offsets of the range, where it has an end.
    pub n_offsets_total: Option<u64>,
    /// Offsets without a message: compaction, transaction markers, aborted transactions.
    pub n_holes: u64,
    /// Stretches that retention had removed, jumped over as configured.
    pub gaps: Vec<LogGap>,
    /// Messages between the read and the end of the log, as last heard from the brokers.
    pub lag: u64,
}

/// A stretch `[from, to)` of a partition that was gone before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogGap {
    /// The partition.
    pub partition: i32,
    /// The first offset that is gone.
    pub from: i64,
    /// One behind the last offset that is gone.
    pub to: i64,
}
