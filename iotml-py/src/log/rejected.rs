//! Rows that cannot be used: counted all, listed up to a limit.

use std::collections::BTreeMap;

use iotml_core::error::Cause;

/// Rows that are listed; beyond it they are only counted.
const MAX_LISTED: usize = 1_000;

/// A row that cannot be used.
#[derive(Clone, Debug)]
pub struct BadRow {
    /// Kafka partition, or number of the file.
    pub partition: i32,
    /// Offset, or number of the row in the file.
    pub offset: i64,
    pub cause: Cause,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Rejected {
    pub n: u64,
    /// How many by the word of the reason.
    pub by_reason: BTreeMap<&'static str, u64>,
    /// The first ones.
    pub listed: Vec<BadRow>,
}

impl Rejected {
    pub fn add(&mut self, row: BadRow) {
        self.n += 1;
        *self.by_reason.entry(row.cause.reason.as_str()).or_default() += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(row);
        }
    }
}
