//! The state of one read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::config::OnGap;
use super::error::LogError;
use super::feed::{Feed, Part};
use super::progress::{LogGap, LogProgress};
use super::range::LogRange;
use super::reader::Until;

/// One read of a range.
pub(super) struct Reading {
    pub range: LogRange,
    pub until: Until,
    /// How many partitions the topic has, where all of them are read.
    pub n_partitions: Option<i32>,
    /// The first is read, the others are fetched ahead.
    pub feeds: VecDeque<Feed>,
    pub waiting: VecDeque<Part>,
    pub progress: LogProgress,
    /// How long nothing has come.
    pub waited: Duration,
    pub n_excuses: u32,
    /// What the broker last said instead of giving messages.
    pub trouble: Option<String>,
    /// The end was reached, and the topic was still the same.
    pub ended: bool,
    pub looked: Instant,
}

impl Reading {
    pub fn new(range: &LogRange, until: Until) -> Self {
        let total = (until == Until::End).then(|| range.n_offsets());
        Self {
            range: range.clone(),
            until,
            n_partitions: None,
            feeds: VecDeque::new(),
            waiting: VecDeque::new(),
            progress: LogProgress { n_offsets_total: total, ..LogProgress::default() },
            waited: Duration::ZERO,
            n_excuses: 0,
            trouble: None,
            ended: false,
            looked: Instant::now(),
        }
    }

    /// Jumps to `low`, where the first message is, if that is what to do.
    pub fn gap(&mut self, part: &mut Part, low: i64, on_gap: OnGap) -> Result<(), LogError> {
        let (partition, from) = (part.partition, part.next);
        let to = part.end.map_or(low, |end| low.min(end));
        if on_gap == OnGap::Error {
            return Err(LogError::Gap { topic: self.range.topic.clone(), partition, from, to: to - 1 });
        }
        tracing::warn!(
            "topic {:?} partition {partition}: offsets {from} to {} were removed before they were read, and are skipped",
            self.range.topic,
            to - 1
        );
        self.progress.n_offsets += part.advance(low);
        self.progress.gaps.push(LogGap { partition, from, to });
        Ok(())
    }
}
