//! The conformance suite of [`Sink`].

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use futures_util::future::join_all;

use crate::batch::{Batch, Coordinate, Lane, Message, Messages, Position, RawBatch, RawMessage};
use crate::pipeline::TaskContext;
use crate::sink::{Outgoing, Sink};

/// One stored message, as far as every far side can tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// Key; `None` where the far side keeps no keys.
    pub key: Option<Vec<u8>>,
    /// Payload.
    pub payload: Option<Vec<u8>>,
}

/// Makes a sink for the suite and looks at its far side.
#[async_trait]
pub trait SinkHarness: Send {
    /// A sink that is not open yet.
    async fn sink(&mut self) -> Arc<dyn Sink>;

    /// Everything stored so far in the order of one key; waits until there are at least `n` messages.
    async fn stored(&mut self, n: usize) -> Vec<Stored>;

    /// Whether the far side keeps keys.
    fn keeps_keys(&self) -> bool {
        true
    }
}

/// Checks every numbered clause of [`Sink`]'s contract that can be seen from outside; panics on the first breach.
///
/// 1. what `write` resolved to `Ok` is stored, in row order, with its key;
/// 2. as many writes as it allows at once are stored in the order of their first polls;
/// 3. dropping a write's future leaves the sink usable;
/// 4. writing no rows is fine.
pub async fn conforms(harness: &mut dyn SinkHarness) {
    let context = TaskContext::single("conformance");
    let sink = harness.sink().await;
    sink.open(&context).await.expect("open");

    write(&*sink, 0..0).await;
    write(&*sink, 0..50).await;
    check(harness, 50).await;

    let n_writes = sink.max_in_flight().clamp(1, 8) as u32;
    let mut writes = Vec::new();
    for at in 0..n_writes {
        let mut write = Box::pin(write(&*sink, 50 + at * 10..60 + at * 10));
        // The first poll fixes the order; the sink may even be done then.
        let is_done = poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_ready())).await;
        if !is_done {
            writes.push(write);
        }
    }
    // Polled in reverse, so that a sink that sends when polled to the end would be caught.
    writes.reverse();
    join_all(writes).await;
    let n = 50 + n_writes * 10;
    check(harness, n as usize).await;

    let mut dropped = Box::pin(write(&*sink, n..n + 1));
    let _ = poll_fn(|context| Poll::Ready(dropped.as_mut().poll(context).is_ready())).await;
    drop(dropped);
    write(&*sink, n + 1..n + 2).await;
    let last = Some(format!("row {:04}", n + 1).into_bytes());
    let mut stored = harness.stored(n as usize + 1).await;
    if stored.iter().all(|row| row.payload != last) {
        // Then the row of the dropped write was stored all the same, and the last one comes behind it.
        stored = harness.stored(n as usize + 2).await;
    }
    assert!(stored.iter().any(|row| row.payload == last), "the sink is usable after a dropped write");

    sink.close().await.expect("close");
}

async fn write(sink: &dyn Sink, numbers: std::ops::Range<u32>) {
    let written = sink.write(outgoing(numbers)).await.expect("write");
    assert!(written.rejected.is_empty() && written.retryable.is_empty(), "{written:?}");
}

async fn check(harness: &mut dyn SinkHarness, n: usize) {
    let stored = harness.stored(n).await;
    let key = harness.keeps_keys().then(|| b"device-1".to_vec());
    let want = (0..n).map(|row| Stored { key: key.clone(), payload: Some(format!("row {row:04}").into_bytes()) });
    assert_eq!(stored, want.collect::<Vec<_>>(), "rows are stored once, in order, with their key");
}

/// Rows with one key, numbered, as a pipeline would hand them over.
pub fn outgoing(numbers: std::ops::Range<u32>) -> Outgoing {
    let mut raw = RawBatch::default();
    let mut messages = Messages::default();
    for (seq, number) in numbers.enumerate() {
        let payload = format!("row {number:04}");
        let message = Message {
            payload: Some(payload.as_bytes()),
            key: Some(b"device-1"),
            time: Some(1_700_000_000_000),
            ..Message::default()
        };
        messages.push(message);
        let position = Position { lane: Lane(0), seq: seq as u64 };
        raw.push(RawMessage { message, position, coordinate: Coordinate::NONE });
    }
    Outgoing { batch: Batch::undecoded(Arc::new(raw)), messages: Arc::new(messages) }
}
