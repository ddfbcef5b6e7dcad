//! Stage six: makes rows durable at the far side.

mod read_back;
mod stdout;
mod transaction;

pub use read_back::{ReadBack, Stretch};
pub use stdout::{StdoutSink, StdoutSinkConfig};
pub use transaction::Transaction;

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::{Batch, Message, Messages, Rejected};
use crate::pipeline::TaskContext;

crate::error::stage_error! {
    /// Why a whole write failed.
    SinkError
}

/// Rows on their way out: the encoded messages, and the columns for sinks that store columns.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The rows.
    pub batch: Batch,
    /// Message `i` is row `i` of `batch`.
    pub messages: Arc<Messages>,
}

impl Outgoing {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// What became of a write that did not fail as a whole.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Rows the far side refused for good, in ascending order: every other row is durable.
    pub rejected: Vec<Rejected>,
    /// Rows that failed but may succeed when written again, in ascending order.
    pub retryable: Vec<Rejected>,
}

/// Makes rows durable: the last stage.
///
/// # Contract
/// 1. [`open`](Sink::open) is called once, first; an unreachable or refusing server is reported there with what to do.
/// 2. When [`write`](Sink::write) resolves to `Ok`, every row not named in [`Written`] is durable at the far side.
/// 3. Up to [`max_in_flight`](Sink::max_in_flight) writes run at once. Rows reach the far side in the order in which the
///    futures of `write` are first polled: a sink that allows more than one fixes their order then, for instance behind a
///    fair lock.
/// 4. A sink that [is transactional](Sink::is_transactional) and was opened for
///    [`Delivery::ExactlyOnce`](crate::pipeline::Delivery) gives its [`Transaction`], in which all its writes are: `Ok` then
///    means durable as soon as that is committed, and an error other than a rejected row dooms it. Sinks of one task that are
///    to be committed together give one and the same.
/// 5. Topics: a row's `target` names where it should go unless the sink is configured with a topic of its own;
///    [`topic`](Sink::topic) tells which it is, also before the sink is open.
///
/// # Delivery
/// At least once: a failed or cancelled write may have stored some rows, and the pipeline writes them again. Exactly once in
/// a transaction: what failed is aborted, and read again from the source.
///
/// # Errors
/// `Retryable` makes the pipeline write the same rows again within `errors.retry.timeout`; from `open` it says that nobody is there
/// now, for which a task that is begun anew waits without using up its restarts. `Record` and single rows in
/// [`Written::rejected`] go by `errors.tolerance`, and a dead letter that is rejected as
/// [`Oversized`](crate::error::Reason::Oversized) is written again, shortened; `Fatal` ends the task.
///
/// # Cancellation
/// Dropping the future of `write` is allowed at any time and leaves the sink usable.
///
/// # Example
/// ```
/// use std::sync::Mutex;
/// use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
///
/// /// Keeps payloads in memory.
/// #[derive(Default)]
/// struct Keep(Mutex<Vec<Vec<u8>>>);
///
/// #[iotml_core::async_trait]
/// impl Sink for Keep {
///     async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
///         let mut kept = self.0.lock().map_err(|_| SinkError::fatal("the store is poisoned"))?;
///         kept.extend((0..rows.len()).map(|row| rows.messages.payload(row).unwrap_or_default().to_vec()));
///         Ok(Written::default())
///     }
/// }
/// ```
///
/// Checked by `iotml_core::testing::sink`.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Connects. Called once, first.
    async fn open(&self, _task: &TaskContext) -> Result<(), SinkError> {
        Ok(())
    }

    /// How many writes may run at once.
    fn max_in_flight(&self) -> usize {
        1
    }

    /// The topic that a message with this envelope goes to; `None` where there is none that it could go to. An encoder asks, for
    /// instance to name a schema after it, so it costs little and does no I/O.
    fn topic<'a>(&'a self, envelope: &Message<'a>) -> Option<Cow<'a, str>> {
        envelope.target.map(Cow::Borrowed)
    }

    /// Whether it can write in transactions together with the positions of a source; known before it is opened.
    fn is_transactional(&self) -> bool {
        false
    }

    /// The transaction that its writes are part of; asked for once, after `open`.
    fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        None
    }

    /// Makes rows durable.
    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError>;

    /// Finishes what is in flight and disconnects.
    async fn close(&self) -> Result<(), SinkError> {
        Ok(())
    }
}
