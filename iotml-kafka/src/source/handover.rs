//! From the fetch thread to the pipeline: a queue bounded in bytes, in which events overtake batches.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iotml_core::batch::{Lane, RawBatch};
use iotml_core::error::Class;
use iotml_core::source::{Demand, SourceError, SourceEvent};
use tokio::sync::Notify;

/// The queue. One thread puts in, one task takes out.
#[derive(Debug)]
pub(super) struct Handover {
    max_bytes: usize,
    queue: Mutex<Queue>,
    room: Condvar,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Result<SourceEvent, SourceError>>,
    batches: VecDeque<RawBatch>,
    n_bytes: usize,
    idle: bool,
    end: bool,
}

impl Handover {
    /// Holds batches of `max_bytes` in all; the last one may go beyond it.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, queue: Mutex::default(), room: Condvar::new(), ready: Notify::new() }
    }

    /// Puts in an event, which overtakes batches. A trouble that may pass takes the place of one that stands there last, since
    /// each costs whoever takes it a pause, and nobody takes one while a transaction is aborted.
    pub fn event(&self, event: Result<SourceEvent, SourceError>) {
        let may_pass =
            |event: &Result<_, SourceError>| matches!(event, Err(error) if error.class() == Class::Retryable);
        let mut queue = self.lock();
        if may_pass(&event) && queue.events.back().is_some_and(may_pass) {
            queue.events.pop_back();
        }
        queue.events.push_back(event);
        drop(queue);
        self.ready.notify_one();
    }

    /// Puts in a batch, whether or not there is room.
    pub fn batch(&self, batch: RawBatch) {
        let mut queue = self.lock();
        queue.n_bytes += batch.n_bytes();
        queue.batches.push_back(batch);
        queue.idle = false;
        drop(queue);
        self.ready.notify_one();
    }

    /// Says that nothing more is waiting at the far side; taken back by the next batch.
    pub fn idle(&self) {
        self.lock().idle = true;
        self.ready.notify_one();
    }

    /// Says that nothing will follow, which is told once all batches are taken.
    pub fn end(&self) {
        self.lock().end = true;
        self.ready.notify_one();
    }

    /// Takes back what [`Handover::idle`] and [`Handover::end`] have said: more is to come.
    pub fn more(&self) {
        let mut queue = self.lock();
        (queue.idle, queue.end) = (false, false);
    }

    /// Whether batches are waiting.
    pub fn has_batches(&self) -> bool {
        !self.lock().batches.is_empty()
    }

    /// Waits until there is room for another batch, at most `timeout`; whether there is.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let full = |queue: &mut Queue| queue.n_bytes >= self.max_bytes;
        let waited = self.room.wait_timeout_while(self.lock(), timeout, full);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.n_bytes < self.max_bytes
    }

    /// Waits until all batches are taken, at most `timeout`.
    pub fn wait_for_hunger(&self, timeout: Duration) {
        let busy = |queue: &mut Queue| !queue.batches.is_empty();
        drop(self.room.wait_timeout_while(self.lock(), timeout, busy));
    }

    /// Removes what is waiting of `lanes`: they are about to go, and nobody has seen it.
    pub fn discard(&self, lanes: &[Lane]) {
        let mut queue = self.lock();
        let waiting = std::mem::take(&mut queue.batches);
        let kept = waiting.into_iter().map(|batch| without(batch, lanes)).filter(|batch| !batch.is_empty());
        queue.batches = kept.collect();
        queue.n_bytes = queue.batches.iter().map(RawBatch::n_bytes).sum();
        self.room.notify_all();
    }

    /// Waits for the next event. Cancel-safe: what is not returned stays.
    pub async fn next(&self, demand: Demand) -> Result<SourceEvent, SourceError> {
        loop {
            if let Some(event) = self.try_next(demand) {
                return event;
            }
            self.ready.notified().await;
        }
    }

    fn try_next(&self, demand: Demand) -> Option<Result<SourceEvent, SourceError>> {
        let mut queue = self.lock();
        if let Some(event) = queue.events.pop_front() {
            return Some(event);
        }
        if !queue.batches.is_empty() {
            if demand == Demand::EventsOnly {
                return None;
            }
            let batch = queue.batches.pop_front()?;
            queue.n_bytes -= batch.n_bytes();
            self.room.notify_all();
            return Some(Ok(SourceEvent::Batch(batch)));
        }
        if std::mem::take(&mut queue.idle) {
            return Some(Ok(SourceEvent::Idle));
        }
        queue.end.then_some(Ok(SourceEvent::End))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change is complete before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `batch` without the messages of `lanes`.
fn without(batch: RawBatch, lanes: &[Lane]) -> RawBatch {
    if !batch.positions().iter().any(|position| lanes.contains(&position.lane)) {
        return batch;
    }
    batch.take((0..batch.len()).filter(|row| !lanes.contains(&batch.lane(*row))))
}

#[cfg(test)]
mod tests {
    use iotml_core::batch::{Coordinate, Message, Position, RawMessage};

    use super::*;

    fn batch(lanes: &[u32]) -> RawBatch {
        let mut batch = RawBatch::default();
        for (seq, lane) in lanes.iter().enumerate() {
            let position = Position { lane: Lane(*lane), seq: seq as u64 };
            let message = Message { payload: Some(b"x"), ..Message::default() };
            batch.push(RawMessage { message, position, coordinate: Coordinate::NONE });
        }
        batch
    }

    fn lanes_of(event: Option<Result<SourceEvent, SourceError>>) -> Vec<u32> {
        match event {
            Some(Ok(SourceEvent::Batch(batch))) => batch.positions().iter().map(|position| position.lane.0).collect(),
            other => panic!("not a batch: {other:?}"),
        }
    }

    #[test]
    fn inv_5_events_come_out_while_batches_are_held_back() {
        let handover = Handover::new(1);
        handover.batch(batch(&[1]));
        handover.event(Ok(SourceEvent::Assigned(vec![])));
        handover.end();
        assert!(!handover.wait_for_room(Duration::ZERO), "one batch fills it");
        assert!(matches!(handover.try_next(Demand::EventsOnly), Some(Ok(SourceEvent::Assigned(_)))));
        assert!(handover.try_next(Demand::EventsOnly).is_none(), "neither a batch nor the end before it");
        assert_eq!(lanes_of(handover.try_next(Demand::Batches)), [1]);
        assert!(handover.wait_for_room(Duration::ZERO));
        assert!(matches!(handover.try_next(Demand::EventsOnly), Some(Ok(SourceEvent::End))));
    }

    #[test]
    fn inv_3_messages_of_lanes_that_go_are_not_handed_out_any_more() {
        let handover = Handover::new(1 << 20);
        handover.batch(batch(&[1, 2, 1, 3]));
        handover.batch(batch(&[1]));
        handover.discard(&[Lane(1)]);
        assert_eq!(lanes_of(handover.try_next(Demand::Batches)), [2, 3]);
        assert!(handover.try_next(Demand::Batches).is_none());
        assert!(handover.lock().n_bytes == 0);
    }

    #[test]
    fn idle_is_told_once_and_only_when_nothing_waits() {
        let handover = Handover::new(1 << 20);
        handover.idle();
        handover.batch(batch(&[1]));
        assert_eq!(lanes_of(handover.try_next(Demand::Batches)), [1]);
        assert!(handover.try_next(Demand::Batches).is_none(), "a batch came after the idle");
        handover.idle();
        assert!(matches!(handover.try_next(Demand::Batches), Some(Ok(SourceEvent::Idle))));
        assert!(handover.try_next(Demand::Batches).is_none());
    }
}
