//! Fakes: a source and a sink in memory, with scripted failures.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Notify;

use super::MemoryTransaction;
use crate::batch::{Ack, Coordinate, Lane, LaneInfo, Message, Messages, Position, RawBatch, RawMessage};
use crate::error::{Cause, Reason};
use crate::pipeline::{Delivery, TaskContext};
use crate::sink::{Outgoing, Sink, SinkError, Transaction, Written};
use crate::source::{Acknowledged, Demand, NextOffset, Source, SourceError, SourceEvent, SourceOffsets};

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
    n_rewinds: usize,
    /// A sink, and how many rows it had stored at each acknowledgement.
    witness: Option<Arc<MemorySink>>,
    witnessed: Vec<(usize, Ack)>,
    refused: HashMap<Vec<u8>, Cause>,
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

    /// Makes the source reject every message with this payload.
    pub fn refuse(&self, payload: &[u8], cause: Cause) {
        self.lock().refused.insert(payload.to_vec(), cause);
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

    /// From now on takes down how many rows `sink` has stored at each acknowledgement.
    pub fn witness(&self, sink: &Arc<MemorySink>) {
        self.lock().witness = Some(sink.clone());
    }

    /// Every acknowledgement since [`witness`](MemoryLog::witness), with the number of rows that were stored by then.
    pub fn witnessed(&self) -> Vec<(usize, Ack)> {
        self.lock().witnessed.clone()
    }

    /// How often a source went back to what is committed.
    pub fn n_rewinds(&self) -> usize {
        self.lock().n_rewinds
    }

    /// Commits that a restart goes on at `offset`, as a transaction does.
    pub(super) fn commit(&self, offset: u64) {
        self.lock().acked = offset;
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
            delivery: Delivery::AtLeastOnce,
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
    delivery: Delivery,
}

impl MemorySource {
    /// Begins a new lane at `offset`.
    fn begin_again(&mut self, offset: u64) {
        self.lane += 1;
        (self.base, self.next, self.is_announced) = (offset, 0, false);
    }

    fn next_event(&mut self, demand: Demand) -> Option<Result<SourceEvent, SourceError>> {
        let shared = self.shared.clone();
        let mut log = shared.lock();
        match log.script.pop_front() {
            Some(Scripted::Event(event)) => return Some(Ok(event)),
            Some(Scripted::Error(error)) => return Some(Err(error)),
            Some(Scripted::LoseLane) => {
                let lost = Lane(self.lane);
                self.begin_again(log.acked);
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
            if let Some(cause) = payload.as_ref().and_then(|payload| log.refused.get(payload)) {
                batch.reject(cause.clone());
            }
        }
        self.next += batch.len() as u64;
        Some(Ok(SourceEvent::Batch(batch)))
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn open(&mut self, task: &TaskContext) -> Result<(), SourceError> {
        self.delivery = task.delivery;
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
            if self.delivery == Delivery::AtLeastOnce {
                log.acked = log.acked.max(self.base + ack.through + 1);
            }
        }
        log.acks.extend_from_slice(acks);
        if let Some(sink) = log.witness.clone() {
            log.witnessed.extend(acks.iter().map(|ack| (sink.n_stored(), *ack)));
        }
        Ok(())
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn offsets(&mut self, acks: &[Ack]) -> Result<SourceOffsets, SourceError> {
        let next = acks.iter().map(|ack| {
            let offset = (self.base + ack.through + 1) as i64;
            let is_ours = ack.lane == Lane(self.lane);
            is_ours.then(|| NextOffset { topic: "memory".into(), partition: 0, offset })
        });
        let next: Option<Vec<_>> = next.collect();
        let next = next.ok_or_else(|| SourceError::retryable("the lane is gone"))?;
        Ok(SourceOffsets { next, reader: Vec::new() })
    }

    async fn rewind(&mut self) -> Result<(), SourceError> {
        let shared = self.shared.clone();
        let mut log = shared.lock();
        log.n_rewinds += 1;
        self.begin_again(log.acked);
        self.is_idle = false;
        Ok(())
    }

    fn acknowledged(&self) -> Vec<Acknowledged> {
        let acked = self.shared.lock().acked;
        vec![Acknowledged { partition: json!({ "log": "memory" }), offset: json!({ "acknowledged": acked }) }]
    }

    async fn release(&mut self, lanes: &[Lane]) -> Result<(), SourceError> {
        self.shared.lock().released.extend_from_slice(lanes);
        Ok(())
    }
}

/// Keeps what is written, in order; fails as scripted.
#[derive(Debug, Default)]
pub struct MemorySink {
    stored: Arc<Mutex<Messages>>,
    transaction: Option<Arc<MemoryTransaction>>,
    script: Mutex<VecDeque<Result<Written, SinkError>>>,
    refused: Mutex<HashMap<Vec<u8>, Cause>>,
    max_bytes: Mutex<Option<usize>>,
    delay: Mutex<Option<Duration>>,
    max_in_flight: usize,
    changed: Notify,
    let_go: Notify,
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

    /// A sink whose writes are part of `transaction`, when it is opened for exactly once: stored when that is committed.
    pub fn transactional(transaction: &Arc<MemoryTransaction>, max_in_flight: usize) -> Arc<Self> {
        Arc::new(Self { max_in_flight, transaction: Some(transaction.clone()), ..Self::default() })
    }

    /// Answers the next write with this, storing nothing of the rows it names, or nothing at all on an error.
    pub fn script(&self, answer: Result<Written, SinkError>) {
        lock(&self.script).push_back(answer);
    }

    /// Refuses every row with this payload for good.
    pub fn refuse(&self, payload: &[u8], cause: Cause) {
        lock(&self.refused).insert(payload.to_vec(), cause);
    }

    /// Refuses every row of more bytes as too large, headers included, as Kafka does.
    pub fn limit(&self, max_bytes: usize) {
        *lock(&self.max_bytes) = Some(max_bytes);
    }

    /// Makes every write take this long after its rows have got their place; `None` also lets go of those that hang.
    pub fn delay(&self, delay: Option<Duration>) {
        *lock(&self.delay) = delay;
        if delay.is_none() {
            self.let_go.notify_waiters();
        }
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

    /// How many rows are stored.
    pub fn n_stored(&self) -> usize {
        lock(&self.stored).len()
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
    fn is_transactional(&self) -> bool {
        self.transaction.is_some()
    }

    fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        self.transaction.clone().map(|transaction| transaction as Arc<dyn Transaction>)
    }

    fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let answer = lock(&self.script).pop_front();
        let mut written = answer.unwrap_or_else(|| Ok(Written::default()))?;
        {
            let refused = lock(&self.refused);
            let max_bytes = lock(&self.max_bytes).unwrap_or(usize::MAX);
            for row in 0..rows.len() {
                let known = refused.get(rows.messages.payload(row).unwrap_or_default()).cloned();
                let too_large = || Cause::new(Reason::Oversized, format!("the sink takes {max_bytes} bytes"));
                let cause = known.or_else(|| (n_bytes(&rows.messages, row) > max_bytes).then(too_large));
                if let Some(cause) = cause {
                    written.rejected.push(crate::batch::Rejected { row: row as u32, cause });
                }
            }
        }
        let left_out =
            |row: &u32| written.rejected.iter().chain(&written.retryable).any(|rejected| rejected.row == *row);
        let kept: Vec<u32> = (0..rows.len() as u32).filter(|row| !left_out(row)).collect();
        let kept = rows.messages.take(&kept);
        match &self.transaction {
            Some(transaction) => transaction.stage(&self.stored, kept)?,
            None => append(&self.stored, &kept),
        }
        self.changed.notify_waiters();
        let let_go = self.let_go.notified();
        let delay = *lock(&self.delay);
        if let Some(delay) = delay {
            let _ = tokio::time::timeout(delay, let_go).await;
        }
        Ok(written)
    }
}

/// Payload, key and headers of a message.
fn n_bytes(messages: &Messages, row: usize) -> usize {
    let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    let headers = messages.headers().of(row).map(|header| header.name.len() + length(header.value));
    length(messages.payload(row)) + length(messages.key(row)) + headers.sum::<usize>()
}

/// Stores copies of `messages` behind what is stored.
pub(super) fn append(stored: &Mutex<Messages>, messages: &Messages) {
    let mut stored = lock(stored);
    for row in 0..messages.len() {
        stored.push(messages.message(row));
        for header in messages.headers().of(row) {
            stored.push_header(header.name, header.value);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
