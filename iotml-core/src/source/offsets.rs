//! Positions of a source, in the form in which another's transaction commits them.

use std::sync::Arc;

/// How far a source was read, to be committed together with what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOffsets {
    /// Where a restart goes on.
    pub next: Vec<NextOffset>,
    /// Who has read it, as source and sink of one far side write it down for each other: there it proves that the
    /// partitions are still the reader's. Without meaning to anybody else.
    pub reader: Vec<u8>,
}

/// Where a restart goes on in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextOffset {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// One behind the last message that is done.
    pub offset: i64,
}
