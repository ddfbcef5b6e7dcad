//! What was seen of rows: in a batch, in a window, in a drift.

use std::collections::BTreeMap;
use std::sync::Arc;

use iotml_core::batch::RawBatch;
use iotml_core::model::LogStretch;

use super::bins::Seen;

/// More places than this are not kept; a task has a few.
const MAX_PLACES: usize = 1024;

/// What was seen of some rows.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) extent: Extent,
    /// Rows that were judged.
    pub(super) judged: u64,
    pub(super) anomalies: u64,
    /// By watched feature.
    pub(super) features: Vec<Seen>,
}

impl Tally {
    /// Adds what `other` saw, and empties it.
    pub(super) fn take_from(&mut self, other: &mut Tally) {
        self.extent.add(&other.extent);
        self.judged += other.judged;
        self.anomalies += other.anomalies;
        self.features.iter_mut().zip(&other.features).for_each(|(seen, other)| seen.add(other));
        other.clear();
    }

    pub(super) fn clear(&mut self) {
        self.extent.clear();
        (self.judged, self.anomalies) = (0, 0);
        self.features.iter_mut().for_each(Seen::clear);
    }
}

/// Which rows they are.
#[derive(Debug, Clone, Default)]
pub(super) struct Extent {
    pub(super) rows: u64,
    /// The earliest and the latest event time.
    times: Option<(i64, i64)>,
    places: Vec<Place>,
}

/// A stretch of a partition: its offsets from `start` up to, but not including, `end`.
#[derive(Debug, Clone)]
struct Place {
    topic: Arc<str>,
    partition: i32,
    start: i64,
    end: i64,
}

impl Extent {
    #[cfg(test)]
    pub(super) fn of_rows(rows: u64) -> Self {
        Extent { rows, ..Extent::default() }
    }

    /// Notes where the messages of a batch are. Those of a lane mostly lie one behind the other, so only the ends of such runs are
    /// looked at, but for their times, which are in no order.
    pub(super) fn note(&mut self, raw: &RawBatch) {
        let positions = raw.positions();
        let mut start = 0;
        while start < positions.len() {
            let lane = positions[start].lane;
            let run = positions[start..].iter().position(|position| position.lane != lane);
            let end = run.map_or(positions.len(), |run| start + run);
            self.note_run(raw, start, end - 1);
            start = end;
        }
    }

    fn note_run(&mut self, raw: &RawBatch, first: usize, last: usize) {
        let messages = raw.messages();
        for time in (first..=last).filter_map(|row| messages.time(row)) {
            self.times = Some(self.times.map_or((time, time), |(from, until)| (from.min(time), until.max(time))));
        }
        let (from, to) = (raw.coordinate(first), raw.coordinate(last));
        // A topic of MQTT has levels, and its messages no offsets.
        let topic = messages.topic(first).filter(|topic| !topic.contains('/'));
        if let Some(topic) = topic
            && from.partition >= 0
            && from.offset >= 0
            && to.offset >= from.offset
        {
            let (partition, start, end) = (from.partition, from.offset, to.offset + 1);
            self.add_place(&Place { topic: topic.clone(), partition, start, end });
        }
    }

    fn add_place(&mut self, place: &Place) {
        let same = |known: &&mut Place| known.partition == place.partition && known.topic == place.topic;
        if let Some(known) = self.places.iter_mut().find(same) {
            known.start = known.start.min(place.start);
            known.end = known.end.max(place.end);
        } else if self.places.len() < MAX_PLACES {
            self.places.push(place.clone());
        }
    }

    pub(super) fn add(&mut self, other: &Extent) {
        self.rows += other.rows;
        if let Some((from, until)) = other.times {
            self.times = Some(self.times.map_or((from, until), |(mine, its)| (mine.min(from), its.max(until))));
        }
        other.places.iter().for_each(|place| self.add_place(place));
    }

    pub(super) fn clear(&mut self) {
        self.rows = 0;
        self.times = None;
        self.places.clear();
    }

    pub(super) fn from(&self) -> Option<i64> {
        self.times.map(|(from, _)| from)
    }

    pub(super) fn until(&self) -> Option<i64> {
        self.times.map(|(_, until)| until)
    }

    /// The places by topic, as in a report.
    pub(super) fn log(&self) -> Vec<LogStretch> {
        let mut topics: BTreeMap<&str, BTreeMap<i32, (i64, i64)>> = BTreeMap::new();
        for Place { topic, partition, start, end } in &self.places {
            topics.entry(topic).or_default().insert(*partition, (*start, *end));
        }
        topics.into_iter().map(|(topic, partitions)| LogStretch { topic: topic.to_owned(), partitions }).collect()
    }
}

#[cfg(test)]
mod tests {
    use iotml_core::batch::{Coordinate, Lane, Message, Position, RawMessage};

    use super::*;

    fn raw(messages: &[(u32, &str, i32, i64, i64)]) -> RawBatch {
        let mut raw = RawBatch::default();
        for (seq, (lane, topic, partition, offset, time)) in messages.iter().enumerate() {
            raw.push(RawMessage {
                message: Message { topic: Some(topic), time: Some(*time), ..Message::default() },
                position: Position { lane: Lane(*lane), seq: seq as u64 },
                coordinate: Coordinate { partition: *partition, offset: *offset },
            });
        }
        raw
    }

    #[test]
    fn stretches_grow_by_partition_and_times_to_both_sides() {
        let mut extent = Extent::default();
        extent.note(&raw(&[(0, "t", 0, 10, 500), (0, "t", 0, 14, 700), (1, "t", 1, 3, 400), (0, "t", 0, 15, 750)]));
        let mut other = Extent::default();
        other.note(&raw(&[(1, "t", 1, 4, 900), (2, "u", 0, 7, 300)]));
        extent.add(&other);
        assert_eq!((extent.from(), extent.until()), (Some(300), Some(900)));
        let stretch = |topic: &str, of: &[(i32, (i64, i64))]| LogStretch {
            topic: topic.to_owned(),
            partitions: of.iter().copied().collect(),
        };
        assert_eq!(extent.log(), [stretch("t", &[(0, (10, 16)), (1, (3, 5))]), stretch("u", &[(0, (7, 8))])]);
        extent.clear();
        assert!(extent.log().is_empty() && extent.from().is_none());
    }

    #[test]
    fn the_earliest_and_the_latest_time_may_be_in_the_middle() {
        let mut extent = Extent::default();
        let messages = [(0, 500), (1, 900), (2, 100), (3, 600)];
        extent.note(&raw(&messages.map(|(offset, time)| (0, "t", 0, offset, time))));
        assert_eq!((extent.from(), extent.until()), (Some(100), Some(900)));
    }

    #[test]
    fn messages_of_mqtt_and_of_no_topic_have_no_place() {
        let mut extent = Extent::default();
        extent.note(&raw(&[(0, "cars/7/sensors", 1, 10, 5)]));
        let mut plain = RawBatch::default();
        plain.push(RawMessage {
            message: Message::default(),
            position: Position { lane: Lane(0), seq: 0 },
            coordinate: Coordinate::NONE,
        });
        extent.note(&plain);
        extent.note(&RawBatch::default());
        assert_eq!((extent.log().len(), extent.from()), (0, Some(5)));
    }
}
