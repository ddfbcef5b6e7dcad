//! Exact stretches of a topic as a value that can be printed, stored and read again.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Offsets `[start, end)` of partitions of one topic. Two reads of one range give the same messages in the same order, as
/// long as neither retention nor compaction removes any.
///
/// As JSON: `{"topic": "sensor-data", "topic_id": "...", "partitions": {"0": [0, 1500], "1": [20, 1480]}}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRange {
    /// The topic's name.
    pub topic: String,
    /// The topic's id, where the broker told one: a topic that was deleted and created anew has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// The stretch of each partition, by its number.
    pub partitions: BTreeMap<i32, Span>,
}

/// Offsets from `start` up to, but not including, `end`; as JSON `[start, end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(i64, i64)", into = "(i64, i64)")]
pub struct Span {
    /// The first offset.
    pub start: i64,
    /// One behind the last offset.
    pub end: i64,
}

/// Which part of a topic to read; [`LogReader::resolve`](super::LogReader::resolve) makes a [`LogRange`] of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// From the oldest message that is still there to the end as of now.
    #[default]
    All,
    /// The newest `n` offsets of the topic before the end as of now. Every partition gives the same number, as far as it has
    /// so many; what a shorter one lacks the others give. Offsets that compaction or transactions left empty count too.
    Last(u64),
    /// By the messages' times, milliseconds since the Unix epoch: from the first message that is not older than `from` up to,
    /// but not including, the first that is not older than `to`; without one, from the oldest message or to the end as of now.
    Times {
        /// The first time.
        from: Option<i64>,
        /// The first time that is not read any more.
        to: Option<i64>,
    },
    /// These offsets of these partitions, and no other partition.
    Offsets(BTreeMap<i32, Span>),
}

impl Span {
    /// Offsets `[start, end)`. `None` if one is negative or they are in the wrong order.
    pub fn new(start: i64, end: i64) -> Option<Self> {
        (0 <= start && start <= end).then_some(Self { start, end })
    }

    /// Number of offsets.
    pub fn len(self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or_default()
    }

    /// Whether it holds no offset.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl TryFrom<(i64, i64)> for Span {
    type Error = String;

    fn try_from((start, end): (i64, i64)) -> Result<Self, String> {
        Self::new(start, end)
            .ok_or_else(|| format!("[{start}, {end}] are no offsets [start, end) with 0 <= start <= end"))
    }
}

impl From<Span> for (i64, i64) {
    fn from(span: Span) -> Self {
        (span.start, span.end)
    }
}

impl LogRange {
    /// Number of offsets; messages are as many or, where some were removed, fewer.
    pub fn n_offsets(&self) -> u64 {
        self.partitions.values().map(|span| span.len()).sum()
    }

    /// Whether it holds no offset.
    pub fn is_empty(&self) -> bool {
        self.n_offsets() == 0
    }

    /// The same range without the partitions that `keep` does not name.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(i32) -> bool) -> Self {
        self.partitions.retain(|partition, _| keep(*partition));
        self
    }
}

impl fmt::Display for LogRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.topic)?;
        for (n, (partition, span)) in self.partitions.iter().enumerate() {
            write!(f, "{}{partition}:{}..{}", if n == 0 { "[" } else { " " }, span.start, span.end)?;
        }
        write!(f, "{}", if self.partitions.is_empty() { "[]" } else { "]" })
    }
}

/// Splits the newest `n` offsets over partitions: an equal share of each, and what a short one lacks from the others.
pub(super) fn last(n: u64, ends: &BTreeMap<i32, Span>) -> BTreeMap<i32, Span> {
    let mut by_length: Vec<(u64, i32)> = ends.iter().map(|(partition, span)| (span.len(), *partition)).collect();
    // Shortest first, so that what it lacks is shared by all that come after it; of equals the last gives less.
    by_length.sort_by_key(|(length, partition)| (*length, std::cmp::Reverse(*partition)));
    let (mut left, mut n_left) = (n, by_length.len() as u64);
    let mut spans = BTreeMap::new();
    for (length, partition) in by_length {
        let share = (left / n_left).min(length);
        (left, n_left) = (left - share, n_left - 1);
        let end = ends[&partition].end;
        spans.insert(partition, Span { start: end - share as i64, end });
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(list: &[(i64, i64)]) -> BTreeMap<i32, Span> {
        (0..).zip(list.iter().map(|(start, end)| Span::new(*start, *end).unwrap())).collect()
    }

    #[test]
    fn a_range_is_stored_and_read_again() {
        let range = LogRange { topic: "cars".into(), topic_id: None, partitions: spans(&[(0, 5), (7, 7)]) };
        let json = serde_json::to_string(&range).unwrap();
        assert_eq!(json, r#"{"topic":"cars","partitions":{"0":[0,5],"1":[7,7]}}"#);
        assert_eq!(serde_json::from_str::<LogRange>(&json).unwrap(), range);
        assert_eq!((range.to_string().as_str(), range.n_offsets()), ("cars[0:0..5 1:7..7]", 5));
        for wrong in ["[5, 4]", "[-1, 4]", "[1]"] {
            assert!(serde_json::from_str::<Span>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_last_n_are_shared_equally_and_what_a_short_partition_lacks_comes_from_the_others() {
        let ends = spans(&[(0, 100), (90, 100), (0, 0), (0, 1000)]);
        assert_eq!(last(0, &ends), spans(&[(100, 100), (100, 100), (0, 0), (1000, 1000)]));
        assert_eq!(last(9, &ends), spans(&[(97, 100), (97, 100), (0, 0), (997, 1000)]));
        assert_eq!(last(11, &ends), spans(&[(96, 100), (97, 100), (0, 0), (996, 1000)]));
        assert_eq!(last(50, &ends), spans(&[(80, 100), (90, 100), (0, 0), (980, 1000)]));
        assert_eq!(last(400, &ends), spans(&[(0, 100), (90, 100), (0, 0), (710, 1000)]));
        assert_eq!(last(u64::MAX, &ends), ends);
    }
}
