//! What is in flight, row by row, and how far each lane may be acknowledged (invariants 1 to 4).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::Audit;
use crate::batch::{Ack, Lane, RawBatch};

/// A batch in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BatchId(u64);

/// A line across all lanes: what was received before it is committed as one.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    /// The first batch behind it.
    pub before: BatchId,
    /// The last position before it, of every lane in which there is something new.
    pub acks: Vec<Ack>,
}

/// What became of a row; where its routes differ, the greatest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Filtered,
    Delivered,
    Skipped,
    DeadLettered,
}

impl Audit {
    /// So many rows less in flight.
    fn done(&mut self, outcome: Outcome, n_rows: u64) {
        let count = match outcome {
            Outcome::Filtered => &mut self.filtered,
            Outcome::Delivered => &mut self.delivered,
            Outcome::Skipped => &mut self.skipped,
            Outcome::DeadLettered => &mut self.dead_lettered,
        };
        *count += n_rows;
        self.in_flight -= n_rows;
    }
}

const OUTCOMES: [Outcome; 4] = [Outcome::Filtered, Outcome::Delivered, Outcome::Skipped, Outcome::DeadLettered];

/// Counts, for every row in flight, the required routes still open, and acknowledges the contiguous prefix of each lane.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    batches: HashMap<BatchId, InFlight>,
    /// Receive order, for the age of the oldest; entries of finished batches are dropped lazily.
    order: VecDeque<BatchId>,
    next_id: u64,
    lanes: HashMap<Lane, Progress>,
    n_bytes: usize,
    /// Rows received and not yet done.
    n_rows: usize,
    /// Exactly once: what is done counts only when it is committed. How many rows of each batch that waits for that had each
    /// outcome.
    uncommitted: Option<Vec<(BatchId, [u64; 4])>>,
    audit: Audit,
}

#[derive(Debug)]
struct InFlight {
    raw: Arc<RawBatch>,
    /// Required results still open per message; one token stands in until the stages have decided the routes.
    open: Vec<u16>,
    outcome: Vec<Outcome>,
    n_open: usize,
    n_bytes: usize,
    received: Instant,
}

/// A lane: everything before `next` is done, and of what comes behind, `done[i]` says it of `next + i`.
#[derive(Debug, Default)]
struct Progress {
    next: u64,
    done: VecDeque<bool>,
    received: u64,
    acked: u64,
}

impl Progress {
    fn mark(&mut self, seq: u64) {
        if seq < self.next {
            return;
        }
        if seq == self.next && self.done.is_empty() {
            self.next += 1;
            return;
        }
        let at = (seq - self.next) as usize;
        if at >= self.done.len() {
            self.done.resize(at + 1, false);
        }
        self.done[at] = true;
        while self.done.front() == Some(&true) {
            self.done.pop_front();
            self.next += 1;
        }
    }
}

impl Tracker {
    /// A tracker for rows that are committed in transactions: what became of them counts from then on.
    pub fn exactly_once() -> Self {
        Self { uncommitted: Some(Vec::new()), ..Self::default() }
    }

    /// A lane begins.
    pub fn assign(&mut self, lane: Lane) {
        self.lanes.insert(lane, Progress::default());
    }

    /// A lane is gone: its positions are void, though its rows still count until they are done (invariant 3).
    pub fn drop_lane(&mut self, lane: Lane) {
        self.lanes.remove(&lane);
    }

    /// Takes in received messages; each stays in flight until [`decide`](Tracker::decide) and all that it opened are done.
    ///
    /// Errs if a lane was not announced or its numbers have a hole, which would acknowledge what was never seen.
    pub fn receive(&mut self, raw: Arc<RawBatch>, now: Instant) -> Result<BatchId, String> {
        // Neighbours mostly share a lane, so it is looked up once per run of them.
        let mut current: Option<(Lane, &mut Progress)> = None;
        for position in raw.positions() {
            if current.as_ref().is_none_or(|(lane, _)| *lane != position.lane) {
                current = self.lanes.get_mut(&position.lane).map(|progress| (position.lane, progress));
            }
            let Some((_, lane)) = &mut current else {
                return Err(format!("the source yielded a message of lane {}, which is not assigned", position.lane.0));
            };
            if position.seq != lane.received {
                let (lane_no, seq, want) = (position.lane.0, position.seq, lane.received);
                return Err(format!("the source numbered a message of lane {lane_no} {seq} instead of {want}"));
            }
            lane.received += 1;
        }
        let id = BatchId(self.next_id);
        self.next_id += 1;
        let n_bytes = raw.n_bytes();
        self.n_bytes += n_bytes;
        self.audit.received += raw.len() as u64;
        self.audit.in_flight += raw.len() as u64;
        let rows = raw.len();
        self.n_rows += rows;
        if rows > 0 {
            let open = vec![1; rows];
            let outcome = vec![Outcome::Filtered; rows];
            self.batches.insert(id, InFlight { raw, open, outcome, n_open: rows, n_bytes, received: now });
            self.order.push_back(id);
        } else {
            self.n_bytes -= n_bytes;
        }
        Ok(id)
    }

    /// The batch takes `n_bytes` more until it is done: the columns that were made of it (invariant 6).
    pub fn grow(&mut self, id: BatchId, n_bytes: usize) {
        if let Some(batch) = self.batches.get_mut(&id) {
            batch.n_bytes += n_bytes;
            self.n_bytes += n_bytes;
        }
    }

    /// These messages wait for one more result each.
    pub fn open(&mut self, id: BatchId, rows: impl IntoIterator<Item = usize>) {
        if let Some(batch) = self.batches.get_mut(&id) {
            rows.into_iter().for_each(|row| batch.open[row] += 1);
        }
    }

    /// One result of each of these messages is durable, or needs not be.
    pub fn done(&mut self, id: BatchId, rows: impl IntoIterator<Item = usize>, outcome: Outcome) {
        let Some(batch) = self.batches.get_mut(&id) else { return };
        let mut current: Option<(Lane, &mut Progress)> = None;
        for row in rows {
            batch.outcome[row] = batch.outcome[row].max(outcome);
            batch.open[row] -= 1;
            if batch.open[row] > 0 {
                continue;
            }
            if self.uncommitted.is_none() {
                self.audit.done(batch.outcome[row], 1);
            }
            self.n_rows -= 1;
            batch.n_open -= 1;
            let position = batch.raw.position(row);
            if current.as_ref().is_none_or(|(lane, _)| *lane != position.lane) {
                current = self.lanes.get_mut(&position.lane).map(|progress| (position.lane, progress));
            }
            if let Some((_, lane)) = &mut current {
                lane.mark(position.seq);
            }
        }
        if batch.n_open == 0
            && let Some(done) = self.batches.remove(&id)
        {
            self.n_bytes -= done.n_bytes;
            if let Some(uncommitted) = &mut self.uncommitted {
                let mut counts = [0; 4];
                done.outcome.iter().for_each(|outcome| counts[*outcome as usize] += 1);
                uncommitted.push((id, counts));
            }
        }
    }

    /// The stages have decided what each message opens, so the token taken at receipt is given back.
    pub fn decide(&mut self, id: BatchId) {
        let rows = self.batches.get(&id).map_or(0, |batch| batch.open.len());
        self.done(id, 0..rows, Outcome::Filtered);
    }

    /// The prefixes that grew since the last call.
    pub fn take_acks(&mut self) -> Vec<Ack> {
        let grown = self.lanes.iter_mut().filter(|(_, lane)| lane.next > lane.acked);
        let acks = grown.map(|(lane, progress)| {
            progress.acked = progress.next;
            Ack { lane: *lane, through: progress.next - 1 }
        });
        acks.collect()
    }

    /// A line behind all that was received, but for the batch `first` and those behind it, which the stages have not seen.
    pub fn cut(&self, first: Option<BatchId>) -> Cut {
        let before = first.unwrap_or(BatchId(self.next_id));
        let mut ends: HashMap<Lane, u64> = self.lanes.iter().map(|(lane, it)| (*lane, it.received)).collect();
        for (_, batch) in self.batches.iter().filter(|(id, _)| **id >= before) {
            for position in batch.raw.positions() {
                ends.entry(position.lane).and_modify(|end| *end = position.seq.min(*end));
            }
        }
        let new = ends.into_iter().filter(|(lane, end)| self.lanes.get(lane).is_some_and(|it| it.acked < *end));
        Cut { before, acks: new.map(|(lane, end)| Ack { lane, through: end - 1 }).collect() }
    }

    /// Whether everything before the cut is done.
    pub fn is_settled(&self, cut: &Cut) -> bool {
        self.batches.keys().all(|id| *id >= cut.before)
    }

    /// Everything before the cut is committed.
    pub fn committed(&mut self, cut: &Cut) {
        for ack in &cut.acks {
            if let Some(lane) = self.lanes.get_mut(&ack.lane) {
                lane.acked = ack.through + 1;
            }
        }
        let audit = &mut self.audit;
        self.uncommitted.iter_mut().for_each(|uncommitted| {
            uncommitted.retain(|(id, counts)| {
                let is_behind = *id >= cut.before;
                if !is_behind {
                    OUTCOMES.iter().for_each(|outcome| audit.done(*outcome, counts[*outcome as usize]));
                }
                is_behind
            });
        });
    }

    /// Whether everything received from these lanes is committed.
    pub fn is_committed(&self, lanes: &[Lane]) -> bool {
        lanes.iter().all(|lane| self.lanes.get(lane).is_none_or(|lane| lane.acked == lane.received))
    }

    /// Forgets everything that is not committed, and all lanes: it will be received again, in others.
    pub fn void(&mut self) {
        self.audit.returned += self.audit.in_flight;
        self.audit.in_flight = 0;
        self.batches.clear();
        self.order.clear();
        self.lanes.clear();
        self.uncommitted.iter_mut().for_each(Vec::clear);
        (self.n_bytes, self.n_rows) = (0, 0);
    }

    /// Whether nothing of these lanes is in flight.
    pub fn is_drained(&self, lanes: &[Lane]) -> bool {
        lanes.iter().all(|lane| self.lanes.get(lane).is_none_or(|lane| lane.next == lane.received))
    }

    /// Bytes of messages in flight and of the columns made of them.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// Rows received and not yet done.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// When the oldest batch in flight was received.
    pub fn oldest(&mut self) -> Option<Instant> {
        while let Some(id) = self.order.front() {
            if let Some(batch) = self.batches.get(id) {
                return Some(batch.received);
            }
            self.order.pop_front();
        }
        None
    }

    /// The counts as of now.
    pub fn audit(&self) -> Audit {
        self.audit
    }
}

#[cfg(test)]
mod tests;
