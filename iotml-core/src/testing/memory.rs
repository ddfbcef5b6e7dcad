//! Fakes: a source and a sink in memory, with scripted failures.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::batch::{Ack, Coordinate, Lane, LaneInfo, Message, Messages, Position, RawBatch, RawMessage};
use crate::pipeline::TaskContext;
use crate::sink::{Outgoing, Sink, SinkError, Written};
use crate::source::{Demand, Source, SourceError, SourceEvent};

/// The far side of a [`MemorySource`]: a log of one lane that remembers how far it was acknowledged.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    shared: Arc<LogShared>,
}

#[derive(Debug, Default)]
struct LogShared {
    log: Mutex<Log>,
    changed: Notify,
}

/// Key and payload.
type KeyedMessage = (Option<Vec<u8>>, Option<Vec<u8>>);

#[derive(Debug, Default)]
struct Log {
    messages: Vec<KeyedMessage>,
    acked: u64,
    acks: Vec<Ack>,
    script: VecDeque<Scripted>,
    has_ended: bool,
    released: Vec<Lane>,
}

/// What a [`MemorySource`] does at its next poll instead of yielding messages.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a handful in a test")]
pub enum Scripted {
    /// Yield this event.
    Event(SourceEvent),
    /// Fail.
    Error(SourceError),
    /// Lose the lane and begin a new one from the last acknowledged message, as a broker does with a lost session.
    LoseLane,
}

impl MemoryLog {
    /// Appends messages without a key.
    pub fn publish<P: AsRef<[u8]>>(&self, payloads: impl IntoIterator<Item = P>) {
        self.publish_keyed(payloads.into_iter().map(|payload| (None, Some(payload.as_ref().to_vec()))));
    }

    /// Appends messages as key and payload.
    pub fn publish_keyed(&self, messages: impl IntoIterator<Item = KeyedMessage>) {
        self.lock().messages.extend(messages);
        self.shared.changed.notify_one();
    }

    /// Ends the source once it has yielded everything.
    pub fn end(&self) {
        self.lock().has_ended = true;
        self.shared.changed.notify_one();
    }

    /// Puts something in front of the next poll.
    pub fn script(&self, next: Scripted) {
        self.lock().script.push_back(next);
        self.shared.changed.notify_one();
    }

    /// How many messages are acknowledged.
    pub fn acked(&self) -> u64 {
        self.lock().acked
    }

    /// Every acknowledgement in the order it came.
    pub fn acks(&self) -> Vec<Ack> {
        self.lock().acks.clone()
    }

    /// The lanes that were released.
    pub fn released(&self) -> Vec<Lane> {
        self.lock().released.clone()
    }

    /// A source that reads from the first message that is not acknowledged, `batch` messages at a time.
    pub fn source(&self, batch: usize) -> MemorySource {
        MemorySource {
            shared: self.shared.clone(),
            batch,
            lane: 0,
            next: 0,
            base: 0,
            is_announced: false,
            is_idle: false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.shared.lock()
    }
}

impl LogShared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Yields the messages of a [`MemoryLog`].
#[derive(Debug)]
pub struct MemorySource {
    shared: Arc<LogShared>,
    batch: usize,
    lane: u32,
    next: u64,
    /// The log's index of the lane's first message.
    base: u64,
    is_announced: bool,
    is_idle: bool,
}

impl MemorySource {
    fn next_event(&mut self, demand: Demand) -> Option<Result<SourceEvent, SourceError>> {
        let mut log = self.shared.lock();
        match log.script.pop_front() {
            Some(Scripted::Event(event)) => return Some(Ok(event)),
            Some(Scripted::Error(error)) => return Some(Err(error)),
            Some(Scripted::LoseLane) => {
                let lost = Lane(self.lane);
                self.lane += 1;
                (self.base, self.next, self.is_announced) = (log.acked, 0, false);
                return Some(Ok(SourceEvent::Lost { lanes: vec![lost], reason: "as scripted".to_owned() }));
            }
            None => {}
        }
        if !self.is_announced {
            self.is_announced = true;
            let partition = "memory-0".into();
            return Some(Ok(SourceEvent::Assigned(vec![LaneInfo { lane: Lane(self.lane), partition }])));
        }
        let from = (self.base + self.next) as usize;
        let waiting = &log.messages[from..];
        if waiting.is_empty() {
            let is_first = !self.is_idle;
            self.is_idle = true;
            return match (log.has_ended, is_first) {
                (true, _) => Some(Ok(SourceEvent::End)),
                (false, true) => Some(Ok(SourceEvent::Idle)),
                (false, false) => None,
            };
        }
        if demand == Demand::EventsOnly {
            return None;
        }
        self.is_idle = false;
        let mut batch = RawBatch::default();
        for (at, (key, payload)) in waiting.iter().take(self.batch).enumerate() {
            let seq = self.next + at as u64;
            batch.push(RawMessage {
                message: Message {
                    payload: payload.as_deref(),
                    key: key.as_deref(),
                    time: Some(1_700_000_000_000 + seq as i64),
                    topic: Some("memory"),
                    target: None,
                },
                position: Position { lane: Lane(self.lane), seq },
                coordinate: Coordinate { partition: 0, offset: (self.base + seq) as i64 },
            });
        }
        self.next += batch.len() as u64;
        Some(Ok(SourceEvent::Batch(batch)))
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn open(&mut self, _: &TaskContext) -> Result<(), SourceError> {
        self.base = self.shared.lock().acked;
        Ok(())
    }

    async fn poll(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        loop {
            let shared = self.shared.clone();
            let changed = shared.changed.notified();
            if let Some(event) = self.next_event(demand) {
                return event;
            }
            changed.await;
        }
    }

    fn ack(&mut self, acks: &[Ack]) -> Result<(), SourceError> {
        let mut log = self.shared.lock();
        for ack in acks.iter().filter(|ack| ack.lane == Lane(self.lane)) {
            log.acked = log.acked.max(self.base + ack.through + 1);
        }
        log.acks.extend_from_slice(acks);
        Ok(())
    }

    async fn release(&mut self, lanes: &[Lane]) -> Result<(), SourceError> {
        self.shared.lock().released.extend_from_slice(lanes);
        Ok(())
    }
}

/// Keeps what is written, in order; fails as scripted.
#[derive(Debug, Default)]
pub struct MemorySink {
    stored: Mutex<Messages>,
    commits: Mutex<Vec<(usize, Ack)>>,
    script: Mutex<VecDeque<Result<Written, SinkError>>>,
    refused: Mutex<HashMap<Vec<u8>, crate::error::Cause>>,
    delay: Mutex<Option<Duration>>,
    max_in_flight: usize,
    changed: Notify,
}

impl MemorySink {
    /// A sink that takes one write at a time.
    pub fn new() -> Arc<Self> {
        Self::with_max_in_flight(1)
    }

    /// A sink that takes several writes at a time.
    pub fn with_max_in_flight(max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self { max_in_flight, ..Self::default() })
    }

    /// Answers the next write with this, storing nothing of the rows it names, or nothing at all on an error.
    pub fn script(&self, answer: Result<Written, SinkError>) {
        lock(&self.script).push_back(answer);
    }

    /// Refuses every row with this payload for good.
    pub fn refuse(&self, payload: &[u8], cause: crate::error::Cause) {
        lock(&self.refused).insert(payload.to_vec(), cause);
    }

    /// Makes every write take this long after its rows have got their place; `None` hangs no more.
    pub fn delay(&self, delay: Option<Duration>) {
        *lock(&self.delay) = delay;
    }

    /// What is stored.
    pub fn stored(&self) -> Messages {
        lock(&self.stored).clone()
    }

    /// Payloads as text, in the order they were stored.
    pub fn texts(&self) -> Vec<String> {
        let stored = lock(&self.stored);
        let text = |row| String::from_utf8_lossy(stored.payload(row).unwrap_or_default()).into_owned();
        (0..stored.len()).map(text).collect()
    }

    /// Every committed position with the number of rows that were stored by then.
    pub fn commits(&self) -> Vec<(usize, Ack)> {
        lock(&self.commits).clone()
    }

    /// Waits until at least `n` rows are stored.
    pub async fn wait_for(&self, n: usize) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.stored).len() >= n {
                return;
            }
            changed.await;
        }
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let answer = lock(&self.script).pop_front();
        let mut written = answer.unwrap_or_else(|| Ok(Written::default()))?;
        {
            let refused = lock(&self.refused);
            for row in 0..rows.len() {
                if let Some(cause) = refused.get(rows.messages.payload(row).unwrap_or_default()) {
                    written.rejected.push(crate::batch::Rejected { row: row as u32, cause: cause.clone() });
                }
            }
        }
        let left_out =
            |row: &u32| written.rejected.iter().chain(&written.retryable).any(|rejected| rejected.row == *row);
        let kept: Vec<u32> = (0..rows.len() as u32).filter(|row| !left_out(row)).collect();
        {
            let mut stored = lock(&self.stored);
            for row in kept {
                stored.push(rows.messages.message(row as usize));
                for header in rows.messages.headers().of(row as usize) {
                    stored.push_header(header.name, header.value);
                }
            }
        }
        self.changed.notify_waiters();
        let delay = *lock(&self.delay);
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        Ok(written)
    }

    async fn commit(&self, positions: &[Ack]) -> Result<(), SinkError> {
        let n_stored = lock(&self.stored).len();
        lock(&self.commits).extend(positions.iter().map(|ack| (n_stored, *ack)));
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
