//! Which partition is which lane, and which offset is which sequence number.

use std::collections::VecDeque;
use std::sync::Arc;

use iotml_core::batch::{Ack, Lane, LaneInfo};
use iotml_core::source::{Acknowledged, NextOffset};
use serde_json::json;

/// The open lanes of a source. They are few, so a scan finds one fast enough.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    open: Vec<OpenLane>,
    next: u32,
    /// Offsets are committed by the transactions of a sink, and none is ever due here.
    pub transactional: bool,
}

/// One partition in one assignment.
#[derive(Debug)]
pub(super) struct OpenLane {
    pub lane: Lane,
    pub topic: Arc<str>,
    pub partition: i32,
    /// The pipeline drains it: nothing new comes, acknowledgements still count.
    pub leaving: bool,
    /// The offset at which a bounded read ends.
    pub end: Option<i64>,
    /// A bounded read has seen everything.
    pub finished: bool,
    /// The offset the next message will have if none is missing.
    pub next_offset: i64,
    next_seq: u64,
    /// Where it began, if that is known.
    begin: Option<i64>,
    /// Stretches without gaps. Compaction and transaction markers leave holes in offsets, never in numbers.
    runs: VecDeque<Run>,
    /// The offset to commit: one behind the last acknowledged message.
    acked: Option<i64>,
    committed: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    seq: u64,
    offset: i64,
}

impl OpenLane {
    /// Numbers the message at `offset`.
    #[inline]
    pub fn number(&mut self, offset: i64) -> u64 {
        let seq = self.next_seq;
        if offset != self.next_offset || self.runs.is_empty() {
            self.runs.push_back(Run { seq, offset });
        }
        self.next_offset = offset + 1;
        self.next_seq += 1;
        seq
    }

    /// The offset behind the message of number `through`.
    fn offset_behind(&self, through: u64) -> Option<i64> {
        let through = through.min(self.next_seq.checked_sub(1)?);
        let run = self.runs.iter().rev().find(|run| run.seq <= through)?;
        Some(run.offset + (through - run.seq) as i64 + 1)
    }

    fn ack(&mut self, through: u64) {
        // A defect of the caller; committing beyond what was read would lose messages.
        let Some(last) = self.next_seq.checked_sub(1) else { return };
        let through = through.min(last);
        while self.runs.get(1).is_some_and(|next| next.seq <= through) {
            self.runs.pop_front();
        }
        self.acked = self.acked.max(self.offset_behind(through));
    }

    /// The offset to commit, if it has not been committed yet.
    fn uncommitted(&self) -> Option<i64> {
        self.acked.filter(|acked| self.committed != Some(*acked))
    }
}

impl Lanes {
    /// Opens a lane for a partition that begins at `offset` (where that is known).
    pub fn open(&mut self, topic: &str, partition: i32, offset: Option<i64>, end: Option<i64>) -> LaneInfo {
        let lane = Lane(self.next);
        self.next += 1;
        let known = self.open.iter().find(|open| *open.topic == *topic);
        let topic = known.map_or_else(|| topic.into(), |open| open.topic.clone());
        let info = LaneInfo { lane, partition: format!("{topic}-{partition}").into() };
        self.open.push(OpenLane {
            lane,
            topic,
            partition,
            leaving: false,
            end,
            finished: matches!((offset, end), (Some(offset), Some(end)) if offset >= end),
            next_offset: offset.unwrap_or(-1),
            next_seq: 0,
            begin: offset,
            runs: VecDeque::new(),
            acked: None,
            committed: None,
        });
        info
    }

    /// Where the open lane of a partition is, until one is opened or closed.
    pub fn index_of(&self, topic: &str, partition: i32) -> Option<usize> {
        self.open.iter().position(|open| open.partition == partition && *open.topic == *topic)
    }

    /// The open lane at an index.
    #[inline]
    pub fn at(&mut self, index: usize) -> Option<&mut OpenLane> {
        self.open.get_mut(index)
    }

    /// The open lane of a partition.
    pub fn of_partition(&mut self, topic: &str, partition: i32) -> Option<&mut OpenLane> {
        let index = self.index_of(topic, partition)?;
        self.at(index)
    }

    /// All open lanes.
    pub fn iter(&self) -> impl Iterator<Item = &OpenLane> {
        self.open.iter()
    }

    /// Marks a lane as leaving.
    pub fn leave(&mut self, lane: Lane) {
        if let Some(open) = self.find(lane) {
            open.leaving = true;
        }
    }

    /// Takes note of acknowledgements; those of lanes that are gone are void (invariant 3).
    pub fn ack(&mut self, acks: &[Ack]) {
        for ack in acks {
            if let Some(open) = self.find(ack.lane) {
                open.ack(ack.through);
            }
        }
    }

    /// Offsets to commit of the lanes that `pick` picks; taken as committed until [`Lanes::commit_failed`].
    pub fn take_uncommitted(&mut self, pick: impl Fn(Lane) -> bool) -> Vec<(Arc<str>, i32, i64)> {
        let mut offsets = Vec::new();
        for open in self.open.iter_mut().filter(|open| pick(open.lane) && !self.transactional) {
            if let Some(offset) = open.uncommitted() {
                open.committed = Some(offset);
                offsets.push((open.topic.clone(), open.partition, offset));
            }
        }
        offsets
    }

    /// What a transaction commits for these acknowledgements; `None` if one of the lanes is gone (invariant 3).
    pub fn offsets(&self, acks: &[Ack]) -> Option<Vec<NextOffset>> {
        let next = |ack: &Ack| {
            let open = self.open.iter().find(|open| open.lane == ack.lane)?;
            let offset = open.offset_behind(ack.through)?;
            Some(NextOffset { topic: open.topic.clone(), partition: open.partition, offset })
        };
        acks.iter().map(next).collect()
    }

    /// How far each lane is acknowledged: the offset of its next message after a restart.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        let known = self.open.iter().filter_map(|open| Some((open, open.acked.or(open.begin)?)));
        let offsets = known.map(|(open, offset)| Acknowledged {
            partition: json!({ "kafka_topic": &*open.topic, "kafka_partition": open.partition }),
            offset: json!({ "kafka_offset": offset }),
        });
        offsets.collect()
    }

    /// Makes the offsets of a failed commit due again.
    pub fn commit_failed(&mut self) {
        self.open.iter_mut().for_each(|open| open.committed = None);
    }

    /// Closes lanes: their positions are void from now on.
    pub fn close(&mut self, lanes: &[Lane]) {
        self.open.retain(|open| !lanes.contains(&open.lane));
    }

    fn find(&mut self, lane: Lane) -> Option<&mut OpenLane> {
        self.open.iter_mut().find(|open| open.lane == lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lanes: &mut Lanes, topic: &str, partition: i32, offsets: &[i64]) -> Vec<u64> {
        let lane = lanes.of_partition(topic, partition).unwrap();
        offsets.iter().map(|offset| lane.number(*offset)).collect()
    }

    fn due(lanes: &mut Lanes) -> Vec<i64> {
        lanes.take_uncommitted(|_| true).into_iter().map(|(_, _, offset)| offset).collect()
    }

    #[test]
    fn inv_2_numbers_are_dense_over_holes_in_the_offsets_and_map_back_to_them() {
        let mut lanes = Lanes::default();
        let lane = lanes.open("t", 0, Some(10), None).lane;
        assert_eq!(read(&mut lanes, "t", 0, &[10, 11, 15, 16, 20]), [0, 1, 2, 3, 4]);
        for (through, offset) in [(0, 11), (1, 12), (2, 16), (3, 17), (4, 21)] {
            lanes.ack(&[Ack { lane, through }]);
            assert_eq!(due(&mut lanes), [offset], "through {through}");
        }
        assert_eq!(lanes.find(lane).unwrap().runs.len(), 1, "what is acknowledged is forgotten");
    }

    #[test]
    fn inv_1_nothing_is_due_before_it_is_acknowledged_and_a_failed_commit_is_due_again() {
        let mut lanes = Lanes::default();
        let lane = lanes.open("t", 0, Some(0), None).lane;
        read(&mut lanes, "t", 0, &[0, 1, 2]);
        assert!(due(&mut lanes).is_empty());
        lanes.ack(&[Ack { lane, through: 1 }]);
        assert_eq!(due(&mut lanes), [2]);
        assert!(due(&mut lanes).is_empty(), "committed once");
        lanes.commit_failed();
        assert_eq!(due(&mut lanes), [2]);
        lanes.ack(&[Ack { lane, through: 99 }]);
        assert_eq!(due(&mut lanes), [3], "never beyond what was read");
    }

    #[test]
    fn inv_9_a_transaction_is_told_offsets_and_nothing_else_is_committed() {
        let mut lanes = Lanes { transactional: true, ..Lanes::default() };
        let lane = lanes.open("t", 0, Some(10), None).lane;
        read(&mut lanes, "t", 0, &[10, 11, 15, 16, 20]);
        let ack = |through| [Ack { lane, through }];
        let offset = |lanes: &Lanes, through| lanes.offsets(&ack(through)).map(|next| next[0].offset);
        assert_eq!([1, 2, 4].map(|through| offset(&lanes, through)), [Some(12), Some(16), Some(21)]);
        lanes.ack(&ack(2));
        assert!(due(&mut lanes).is_empty());
        assert_eq!(offset(&lanes, 3), Some(17), "what was acknowledged before is forgotten, what comes is not");
        lanes.close(&[lane]);
        assert_eq!(offset(&lanes, 3), None);
    }

    #[test]
    fn what_is_acknowledged_is_told_as_kafka_connect_does() {
        let mut lanes = Lanes::default();
        let lane = lanes.open("t", 1, Some(5), None).lane;
        lanes.open("t", 2, None, None);
        let told = |offset: i64| Acknowledged {
            partition: json!({ "kafka_topic": "t", "kafka_partition": 1 }),
            offset: json!({ "kafka_offset": offset }),
        };
        assert_eq!(lanes.acknowledged(), [told(5)], "where it began; of the other nothing is known yet");
        read(&mut lanes, "t", 1, &[5, 9]);
        lanes.ack(&[Ack { lane, through: 1 }]);
        assert_eq!(lanes.acknowledged(), [told(10)]);
    }

    #[test]
    fn inv_3_acks_of_a_lane_that_is_gone_do_not_reach_its_successor() {
        let mut lanes = Lanes::default();
        let old = lanes.open("t", 0, Some(0), None).lane;
        read(&mut lanes, "t", 0, &[0, 1, 2]);
        lanes.close(&[old]);
        let new = lanes.open("t", 0, Some(0), None).lane;
        assert_ne!(old, new);
        read(&mut lanes, "t", 0, &[0]);
        lanes.ack(&[Ack { lane: old, through: 2 }]);
        assert!(due(&mut lanes).is_empty());
    }
}
