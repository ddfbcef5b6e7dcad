//! The conformance suite of [`Source`].

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;

use crate::batch::{Ack, Lane, Message};
use crate::error::Reason;
use crate::pipeline::TaskContext;
use crate::source::{Demand, Farewell, Source, SourceEvent};

/// How long the far side may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes sources for the suite, all reading the same far side under the same identity.
#[async_trait]
pub trait SourceHarness: Send {
    /// A source that is not open yet. Called again after the last one was closed: it goes on where that one's
    /// acknowledgements ended.
    async fn source(&mut self) -> Box<dyn Source>;

    /// Makes messages arrive, each payload once, in this order within a lane.
    async fn publish(&mut self, payloads: &[Vec<u8>]);

    /// Makes one message arrive that the source must reject, between what was published before and what is published later, and
    /// says for which reason; `None` for a source that rejects nothing.
    async fn publish_unusable(&mut self) -> Option<Reason> {
        None
    }

    /// Called once, after the first source was opened and polled; for a far side that delivers only to those who are there.
    async fn ready(&mut self) {}

    /// Whether new messages come while redelivered ones are unacknowledged; HiveMQ CE sends them only after an acknowledgement.
    fn sends_ahead(&self) -> bool {
        true
    }
}

/// Checks every numbered clause of [`Source`]'s contract that can be seen from outside; panics on the first breach.
///
/// 1. everything published arrives, lanes are announced first, numbers are dense;
/// 2. dropping the future of `poll` loses nothing;
/// 3. with [`Demand::EventsOnly`] no batch comes out;
/// 4. what was not acknowledged comes again after a restart, what was acknowledged does not (invariant 1);
/// 5. acknowledgements of unknown lanes are ignored (invariant 3);
/// 6. a message that can be no row is yielded in its place with its cause, and is acknowledged as any other (invariant 7);
/// 7. a source that takes leave with everything acknowledged has nothing more to say, or ends.
pub async fn conforms(harness: &mut dyn SourceHarness) {
    let context = TaskContext::single("conformance");
    let mut source = harness.source().await;
    source.open(&context).await.expect("open");
    let mut seen = Seen::default();
    seen.settle(&mut *source).await;
    harness.ready().await;

    let first = payloads(0..40);
    harness.publish(&first).await;
    seen.collect(&mut *source, 40).await;
    assert_eq!(seen.sorted(), first, "everything published arrives once");
    source.ack(&[Ack { lane: Lane(u32::MAX), through: 7 }]).expect("an unknown lane is ignored");
    source.ack(&seen.all_acks()).expect("ack");

    harness.publish(&payloads(40..60)).await;
    let held_back = tokio::time::timeout(Duration::from_millis(300), async {
        loop {
            if let SourceEvent::Batch(_) = source.poll(Demand::EventsOnly).await.expect("poll") {
                return;
            }
        }
    });
    assert!(held_back.await.is_err(), "no batch comes out while only events are wanted");
    seen.collect(&mut *source, 60).await;
    source.close().await.expect("close");
    drop(source);

    // 40 to 59 were never acknowledged.
    let mut source = harness.source().await;
    source.open(&context).await.expect("open again");
    let mut again = Seen::default();
    again.collect(&mut *source, 20).await;
    if !harness.sends_ahead() {
        source.ack(&again.all_acks()).expect("ack");
    }
    harness.publish(&payloads(60..65)).await;
    again.collect(&mut *source, 25).await;
    assert_eq!(again.sorted(), payloads(40..65), "exactly what was not acknowledged comes again, then what is new");
    source.ack(&again.all_acks()).expect("ack");
    assert_eq!(again.rejected, [], "good messages are not rejected");

    let mut n_seen = 25;
    if let Some(reason) = harness.publish_unusable().await {
        if !harness.sends_ahead() {
            again.collect(&mut *source, n_seen + 1).await;
            source.ack(&again.all_acks()).expect("ack");
        }
        harness.publish(&payloads(65..66)).await;
        n_seen += 2;
        again.collect(&mut *source, n_seen).await;
        assert_eq!(again.rejected, [reason], "what can be no row is yielded with its cause, and only that");
        source.ack(&again.all_acks()).expect("ack");
    }
    source.close().await.expect("close");
    drop(source);

    // Whatever was acknowledged, with or without a cause, does not come again.
    let mut source = harness.source().await;
    source.open(&context).await.expect("open a third time");
    let mut last = Seen::default();
    harness.publish(&payloads(66..67)).await;
    last.collect(&mut *source, 1).await;
    assert_eq!(last.sorted(), payloads(66..67), "nothing that was acknowledged comes again");
    source.ack(&last.all_acks()).expect("ack");
    if source.leave().await.expect("leave") == Farewell::UntilEnd {
        let ended = tokio::time::timeout(PATIENCE, async {
            while !matches!(source.poll(Demand::Batches).await.expect("poll"), SourceEvent::End) {}
        });
        assert!(ended.await.is_ok(), "a source that takes leave ends once everything is acknowledged");
    }
    source.close().await.expect("close");
}

fn payloads(numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    numbers.map(|number| format!("message {number:04}").into_bytes()).collect()
}

/// What came out of a source.
#[derive(Default)]
struct Seen {
    next: HashMap<Lane, u64>,
    payloads: Vec<Vec<u8>>,
    rejected: Vec<Reason>,
}

impl Seen {
    /// Polls until the source is idle, so that it is surely connected.
    async fn settle(&mut self, source: &mut dyn Source) {
        let idle = async {
            loop {
                let event = source.poll(Demand::Batches).await.expect("poll");
                let is_idle = matches!(event, SourceEvent::Idle);
                self.note(event);
                if is_idle {
                    return;
                }
            }
        };
        // A source that blocks while idle instead of saying so is conforming too.
        let _ = tokio::time::timeout(Duration::from_secs(3), idle).await;
    }

    async fn collect(&mut self, source: &mut dyn Source, n: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut n_polls = 0u32;
        while self.payloads.len() < n {
            n_polls += 1;
            // Every other poll is dropped almost at once: that must lose nothing.
            let patience =
                if n_polls.is_multiple_of(2) { Duration::from_micros(200) } else { Duration::from_millis(50) };
            if let Ok(event) = tokio::time::timeout(patience, source.poll(Demand::Batches)).await {
                self.note(event.expect("poll"));
            }
            let missing = n - self.payloads.len().min(n);
            assert!(tokio::time::Instant::now() < deadline, "{missing} of {n} messages did not arrive");
        }
    }

    fn note(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(lanes) => {
                for info in lanes {
                    let before = self.next.insert(info.lane, 0);
                    assert!(before.is_none(), "lane {:?} was announced twice", info.lane);
                    assert!(!info.partition.is_empty(), "a lane needs the name of its partition");
                }
            }
            SourceEvent::Batch(batch) => {
                assert!(!batch.is_empty(), "a batch has messages");
                for row in 0..batch.len() {
                    let position = batch.position(row);
                    let next = self.next.get_mut(&position.lane).expect("a lane is announced before its messages");
                    assert_eq!(position.seq, *next, "numbers are dense");
                    *next += 1;
                    let Message { payload, .. } = batch.messages().message(row);
                    self.payloads.push(payload.expect("a payload").to_vec());
                }
                self.rejected.extend(batch.rejected().iter().map(|rejected| rejected.cause.reason));
            }
            SourceEvent::Lost { lanes, .. } | SourceEvent::Revoking { lanes, .. } => {
                self.next.retain(|lane, _| !lanes.contains(lane));
            }
            _ => {}
        }
    }

    fn all_acks(&self) -> Vec<Ack> {
        let received = self.next.iter().filter(|(_, next)| **next > 0);
        received.map(|(lane, next)| Ack { lane: *lane, through: next - 1 }).collect()
    }

    fn sorted(&self) -> Vec<Vec<u8>> {
        let mut payloads = self.payloads.clone();
        payloads.sort();
        payloads
    }
}
