//! Stage one: receives raw messages and acknowledges them once they are durable elsewhere.

mod offsets;

pub use offsets::{NextOffset, SourceOffsets};

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::batch::{Ack, Lane, LaneInfo, RawBatch};
use crate::pipeline::TaskContext;

crate::error::stage_error! {
    /// Why a source cannot go on, or not now. A bad message is not an error: it is yielded all the same.
    SourceError
}

/// What a [`Source`] has to say.
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "moved once a batch; nearly every event is a batch")]
pub enum SourceEvent {
    /// Lanes begin. Comes before the first message of each; the pipeline restores their state.
    Assigned(Vec<LaneInfo>),
    /// Messages, in receive order within each lane.
    Batch(RawBatch),
    /// Nothing is ready, and nothing more can be expected until what is in flight is acknowledged or new data arrives.
    Idle,
    /// Lanes are about to leave in good order: the pipeline drains them until `deadline`, acknowledges what is
    /// durable, and calls [`Source::release`] whether or not all was drained.
    Revoking {
        /// The lanes that leave.
        lanes: Vec<Lane>,
        /// How long the far side waits.
        deadline: Duration,
    },
    /// Lanes are gone: their positions are void and must not be acknowledged any more (invariant 3).
    Lost {
        /// The lanes that are gone.
        lanes: Vec<Lane>,
        /// Why, and whether their messages come again, for the log.
        reason: String,
    },
    /// A bounded source has yielded everything.
    End,
}

/// What the pipeline has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Batches are welcome.
    Batches,
    /// The bound on memory or rows in flight is reached: yield any event but [`SourceEvent::Batch`].
    EventsOnly,
}

/// How far one lane is acknowledged, in the source's own words, as Kafka Connect shows offsets: for people and tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Where: an object such as `{"kafka_topic": "cars", "kafka_partition": 2}`.
    pub partition: Value,
    /// How far: an object such as `{"kafka_offset": 4}`, which is what would be received next after a restart.
    pub offset: Value,
}

/// What is still to come from a source that takes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing: it is drained and closed as at any stop.
    Now,
    /// What the far side has assigned to it already, and then [`SourceEvent::End`].
    UntilEnd,
}

/// Receives raw messages: the first stage, before the decoder.
///
/// # Contract
/// 1. [`open`](Source::open) is called once before anything else; connections and native handles begin there, not
///    in the constructor, and an unreachable or refusing server is reported there with what to do.
/// 2. [`poll`](Source::poll) waits for the next event. It never waits for a sink (invariant 5): keep-alives and
///    heartbeats go on in the source's own thread whether or not it is polled.
/// 3. [`Assigned`](SourceEvent::Assigned) names every lane before its first message. Sequence numbers of a lane start at
///    0 and have no holes.
/// 4. While polled with [`Demand::EventsOnly`] no batch comes out, and the source holds back the sender by its own bounded
///    window (Receive Maximum, pause) instead of growing (invariants 5 and 6).
/// 5. A batch is yielded when it is full, when the configured delay has passed, or at once when the window is exhausted or
///    nothing more is waiting.
/// 6. After [`Lost`](SourceEvent::Lost), or after `release`, acknowledgements of those lanes are ignored.
/// 7. A source that [is transactional](Source::is_transactional) and was opened for
///    [`Delivery::ExactlyOnce`](crate::pipeline::Delivery) commits nothing itself: it tells what to commit by
///    [`offsets`](Source::offsets), and [`ack`](Source::ack) comes when that is done. [`rewind`](Source::rewind) voids all
///    lanes and begins new ones at what is committed.
/// 8. A message that can be no row, because it is over a limit or nothing says what to make of its topic, is yielded in its place
///    all the same, with its cause by [`RawBatch::reject`]. The pipeline makes a dead letter of it and acknowledges it when that is
///    durable, as any other. What is over a limit is cut off, and a header
///    [`CUT`](crate::pipeline::header::CUT) says how long the payload was.
///
/// # Delivery
/// Nothing is acknowledged to the far side before [`ack`](Source::ack) says so (invariant 1). An unacknowledged message
/// comes again after a restart.
///
/// # Errors
/// `Retryable` makes the pipeline poll again after a back-off; from `open` it says that nobody is there now, for which a task that
/// is begun anew waits without using up its restarts. `Fatal` ends the task after a drain. `Record` is not used:
/// what was received is yielded, with its cause if the source knows one already, and else the decoder rejects it.
///
/// # Cancellation
/// `poll` is cancel-safe: dropping its future loses no message and no event.
///
/// # Example
/// ```
/// use iotml_core::batch::{Ack, Coordinate, Lane, LaneInfo, Message, Position, RawBatch, RawMessage};
/// use iotml_core::pipeline::TaskContext;
/// use iotml_core::source::{Demand, Source, SourceError, SourceEvent};
///
/// /// Yields one line, then ends.
/// struct Once(Vec<SourceEvent>);
///
/// #[iotml_core::async_trait]
/// impl Source for Once {
///     async fn open(&mut self, _: &TaskContext) -> Result<(), SourceError> {
///         let mut batch = RawBatch::default();
///         batch.push(RawMessage {
///             message: Message { payload: Some(b"speed=3"), ..Message::default() },
///             position: Position { lane: Lane(0), seq: 0 },
///             coordinate: Coordinate::NONE,
///         });
///         let lane = LaneInfo { lane: Lane(0), partition: "line-0".into() };
///         self.0 = vec![SourceEvent::End, SourceEvent::Batch(batch), SourceEvent::Assigned(vec![lane])];
///         Ok(())
///     }
///     async fn poll(&mut self, _: Demand) -> Result<SourceEvent, SourceError> {
///         Ok(self.0.pop().unwrap_or(SourceEvent::End))
///     }
///     fn ack(&mut self, _: &[Ack]) -> Result<(), SourceError> {
///         Ok(())
///     }
/// }
/// ```
///
/// Checked by `iotml_core::testing::source`.
#[async_trait]
pub trait Source: Send {
    /// Connects. Called once, first.
    async fn open(&mut self, task: &TaskContext) -> Result<(), SourceError>;

    /// Waits for the next event.
    async fn poll(&mut self, demand: Demand) -> Result<SourceEvent, SourceError>;

    /// Takes note that prefixes of lanes are durable. Hands over to the source's own thread and returns at once; lanes
    /// that are gone are ignored.
    fn ack(&mut self, acks: &[Ack]) -> Result<(), SourceError>;

    /// Whether it can hand its positions over to a transaction; known before it is opened.
    fn is_transactional(&self) -> bool {
        false
    }

    /// What to commit so that a restart goes on behind these prefixes. `Retryable` if a lane is gone, whereupon the pipeline
    /// aborts its transaction.
    fn offsets(&mut self, _acks: &[Ack]) -> Result<SourceOffsets, SourceError> {
        Err(SourceError::fatal("the source has no part in transactions"))
    }

    /// Goes back to what is committed: what it has yielded since is void, and comes again in lanes that are newly
    /// [`Assigned`](SourceEvent::Assigned). Waits while the far side cannot say what is committed; dropped when the task must end.
    async fn rewind(&mut self) -> Result<(), SourceError> {
        Err(SourceError::fatal("the source has no part in transactions"))
    }

    /// Ends the hand-back begun by [`SourceEvent::Revoking`]: makes the acknowledgements so far durable and lets the lanes go.
    async fn release(&mut self, _lanes: &[Lane]) -> Result<(), SourceError> {
        Ok(())
    }

    /// How far each lane is acknowledged. Asked for about once a second.
    fn acknowledged(&self) -> Vec<Acknowledged> {
        Vec::new()
    }

    /// Takes leave of the far side for good: this instance does not come back. The source asks for nothing more to be assigned
    /// to it, and [`close`](Source::close) is to end its session, membership or subscription, so that the far side keeps
    /// nothing for a reader who never comes. A source that still yields something is polled on until its end; closed before
    /// that, or with something unacknowledged, it keeps its session, so that nothing is lost.
    async fn leave(&mut self) -> Result<Farewell, SourceError> {
        Ok(Farewell::Now)
    }

    /// Makes all acknowledgements durable and disconnects, leaving what is unacknowledged to be redelivered.
    async fn close(&mut self) -> Result<(), SourceError> {
        Ok(())
    }
}
