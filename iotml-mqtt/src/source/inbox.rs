//! Where the connections of a source leave messages and the pipeline's task picks them up.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iotml_core::batch::{RawBatch, RawMessage};
use iotml_core::error::Cause;
use iotml_core::source::{Demand, SourceError, SourceEvent};
use tokio::sync::Notify;

/// No message for this long means that nothing more is waiting: brokers do not say so.
const QUIET: Duration = Duration::from_millis(1);

/// A batch closes at this many bytes, so that large payloads do not pile up in one.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// Batches being filled, and events in the order in which they happened.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
    room: Notify,
    limits: Limits,
}

/// When batches close and when the inbox is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A batch closes at this many messages,
    pub(super) max_rows: usize,
    /// or this long after its first.
    pub(super) max_delay: Duration,
    /// Messages of QoS 0 that may wait.
    pub(super) max_qos0_rows: usize,
    /// Bytes that may wait.
    pub(super) max_bytes: usize,
}

#[derive(Debug)]
struct State {
    events: VecDeque<Queued>,
    filling: RawBatch,
    filling_qos0: usize,
    opened: Instant,
    newest: Instant,
    /// The batch being filled should go out as it is.
    due: bool,
    idle_said: bool,
    n_qos0: usize,
    /// Bytes of closed batches.
    n_bytes: usize,
    failure: Option<SourceError>,
}

#[derive(Debug)]
struct Queued {
    event: SourceEvent,
    n_qos0: usize,
}

/// What to wait for when there is no event.
enum Wait {
    Until(Instant),
    ForChange,
}

impl Inbox {
    /// An empty inbox.
    pub(super) fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let state = State {
            events: VecDeque::new(),
            filling: RawBatch::default(),
            filling_qos0: 0,
            opened: now,
            newest: now,
            due: false,
            idle_said: false,
            n_qos0: 0,
            n_bytes: 0,
            failure: None,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), room: Notify::new(), limits }
    }

    /// Adds one message with its headers and, if it can be no row, its cause.
    pub(super) fn push<'a>(
        &self,
        message: RawMessage<'_>,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        cause: Option<Cause>,
        qos0: bool,
    ) {
        let mut state = self.lock();
        let now = Instant::now();
        let first = state.filling.is_empty();
        if first {
            state.opened = now;
        }
        state.filling.push(message);
        for (name, value) in headers {
            state.filling.push_header(name, Some(value));
        }
        if let Some(cause) = cause {
            state.filling.reject(cause);
        }
        state.newest = now;
        state.idle_said = false;
        if qos0 {
            state.filling_qos0 += 1;
            state.n_qos0 += 1;
        }
        let full = state.filling.len() >= self.limits.max_rows || state.filling.n_bytes() >= MAX_BATCH_BYTES;
        if full {
            state.close();
        }
        drop(state);
        // The poller set its alarm at the first message; only a full batch makes it earlier.
        if first || full {
            self.changed.notify_one();
        }
    }

    /// Whether one more message of QoS 0 finds room.
    pub(super) fn has_room_for_qos0(&self) -> bool {
        self.lock().n_qos0 < self.limits.max_qos0_rows
    }

    /// Whether the connections may go on reading.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.n_bytes + state.filling.n_bytes() < self.limits.max_bytes
    }

    /// Waits until there may be room.
    pub(super) async fn room(&self) {
        let mut left = pin!(self.room.notified());
        // Armed before the look, so that a batch that leaves in between is not missed.
        left.as_mut().enable();
        if !self.has_room() {
            left.await;
        }
    }

    /// Adds an event behind all messages so far.
    pub(super) fn push_event(&self, event: SourceEvent) {
        let mut state = self.lock();
        state.close();
        state.events.push_back(Queued { event, n_qos0: 0 });
        drop(state);
        self.changed.notify_one();
    }

    /// Lets the batch being filled go out now: the window is exhausted, so nothing more can come.
    pub(super) fn flush(&self) {
        self.lock().due = true;
        self.changed.notify_one();
    }

    /// Ends the source with an error, behind all events so far.
    pub(super) fn fail(&self, error: SourceError) {
        self.lock().failure.get_or_insert(error);
        self.changed.notify_one();
    }

    /// Waits for the next event. Cancel-safe: what is returned leaves the inbox at that moment.
    pub(super) async fn poll(&self, demand: Demand) -> Result<SourceEvent, SourceError> {
        loop {
            match self.next(demand)? {
                ControlFlow::Break(event) => return Ok(event),
                ControlFlow::Continue(Wait::Until(at)) => {
                    let alarm = tokio::time::sleep_until(at.into());
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = alarm => {}
                    }
                }
                ControlFlow::Continue(Wait::ForChange) => self.changed.notified().await,
            }
        }
    }

    fn next(&self, demand: Demand) -> Result<ControlFlow<SourceEvent, Wait>, SourceError> {
        let mut state = self.lock();
        if demand == Demand::EventsOnly {
            let batch_first = matches!(state.events.front(), Some(Queued { event: SourceEvent::Batch(_), .. }));
            if batch_first || (state.events.is_empty() && !state.filling.is_empty()) {
                return Ok(ControlFlow::Continue(Wait::ForChange));
            }
        }
        if let Some(queued) = state.events.pop_front() {
            state.n_qos0 -= queued.n_qos0;
            if let SourceEvent::Batch(batch) = &queued.event {
                state.n_bytes -= batch.n_bytes();
                self.room.notify_waiters();
            }
            return Ok(ControlFlow::Break(queued.event));
        }
        if !state.filling.is_empty() {
            let due_at = (state.opened + self.limits.max_delay).min(state.newest + QUIET);
            if !state.due && Instant::now() < due_at && state.failure.is_none() {
                return Ok(ControlFlow::Continue(Wait::Until(due_at)));
            }
            state.due = false;
            state.n_qos0 -= std::mem::take(&mut state.filling_qos0);
            self.room.notify_waiters();
            return Ok(ControlFlow::Break(SourceEvent::Batch(std::mem::take(&mut state.filling))));
        }
        state.due = false;
        if let Some(error) = state.failure.take() {
            return Err(error);
        }
        if !state.idle_said {
            let quiet_at = state.newest + QUIET;
            if Instant::now() < quiet_at {
                return Ok(ControlFlow::Continue(Wait::Until(quiet_at)));
            }
            state.idle_said = true;
            return Ok(ControlFlow::Break(SourceEvent::Idle));
        }
        Ok(ControlFlow::Continue(Wait::ForChange))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        if !self.filling.is_empty() {
            let batch = std::mem::take(&mut self.filling);
            self.n_bytes += batch.n_bytes();
            let event = SourceEvent::Batch(batch);
            self.events.push_back(Queued { event, n_qos0: std::mem::take(&mut self.filling_qos0) });
        }
    }
}

#[cfg(test)]
mod tests {
    use iotml_core::batch::{Coordinate, Lane, Message, Position};

    use super::*;

    fn inbox(max_rows: usize, max_delay: u64, max_qos0_rows: usize) -> Inbox {
        Inbox::new(Limits { max_rows, max_delay: Duration::from_millis(max_delay), max_qos0_rows, max_bytes: 200 })
    }

    fn push(inbox: &Inbox, seq: u64, qos0: bool) {
        let message = Message { payload: Some(b"x"), ..Message::default() };
        let position = Position { lane: Lane(0), seq };
        inbox.push(RawMessage { message, position, coordinate: Coordinate::NONE }, std::iter::empty(), None, qos0);
    }

    async fn rows(inbox: &Inbox) -> usize {
        match inbox.poll(Demand::Batches).await.unwrap() {
            SourceEvent::Batch(batch) => batch.len(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_batch_closes_when_full_when_flushed_and_when_quiet() {
        let inbox = inbox(3, 3_600_000, 10);
        (0..4).for_each(|seq| push(&inbox, seq, false));
        assert_eq!(rows(&inbox).await, 3, "full");
        assert_eq!(rows(&inbox).await, 1, "quiet");
        assert!(matches!(inbox.poll(Demand::Batches).await, Ok(SourceEvent::Idle)));
        push(&inbox, 4, false);
        inbox.flush();
        assert!(matches!(inbox.next(Demand::Batches), Ok(ControlFlow::Break(SourceEvent::Batch(_)))), "flushed");
    }

    #[tokio::test]
    async fn inv_6_no_batch_comes_out_without_demand_and_events_keep_their_order() {
        let inbox = inbox(3, 1, 10);
        push(&inbox, 0, false);
        assert!(matches!(inbox.next(Demand::EventsOnly), Ok(ControlFlow::Continue(Wait::ForChange))));
        inbox.push_event(SourceEvent::Lost { lanes: vec![Lane(0)], reason: "gone".into() });
        assert!(
            matches!(inbox.next(Demand::EventsOnly), Ok(ControlFlow::Continue(Wait::ForChange))),
            "the batch of the lane comes first"
        );
        assert_eq!(rows(&inbox).await, 1);
        assert!(matches!(inbox.next(Demand::EventsOnly), Ok(ControlFlow::Break(SourceEvent::Lost { .. }))));
    }

    #[tokio::test]
    async fn inv_6_room_for_qos0_ends_and_comes_back() {
        let inbox = inbox(2, 1, 3);
        for seq in 0..3 {
            assert!(inbox.has_room_for_qos0());
            push(&inbox, seq, true);
        }
        assert!(!inbox.has_room_for_qos0());
        rows(&inbox).await;
        assert!(inbox.has_room_for_qos0());
    }

    #[tokio::test]
    async fn a_failure_comes_behind_what_was_received() {
        let inbox = inbox(9, 9_000, 3);
        push(&inbox, 0, false);
        inbox.fail(SourceError::fatal("over"));
        assert_eq!(rows(&inbox).await, 1);
        assert!(inbox.poll(Demand::Batches).await.is_err());
    }

    #[tokio::test]
    async fn inv_6_a_full_inbox_has_room_again_when_a_batch_has_left() {
        let inbox = inbox(1, 1, 3);
        let mut seq = 0;
        while inbox.has_room() {
            push(&inbox, seq, false);
            seq += 1;
        }
        let mut waiting = pin!(inbox.room());
        let waits = tokio::time::timeout(Duration::from_millis(20), waiting.as_mut()).await.is_err();
        assert!(waits, "a full inbox has no room");
        rows(&inbox).await;
        waiting.await;
        assert!(inbox.has_room());
        for _ in 1..seq {
            rows(&inbox).await;
        }
        assert_eq!(inbox.lock().n_bytes, 0, "what went in came out");
    }
}
