//! Writes of several sinks and the positions of a source, all or nothing.

use async_trait::async_trait;

use super::SinkError;
use crate::source::SourceOffsets;

/// What the sinks of one task write, and how far its source was read, committed as one (invariant 9).
///
/// # Contract
/// 1. [`open`](Transaction::open) is called once, after the sinks are open and before the source is. It ends what an earlier
///    run of the same task left open, so that the source begins at positions that are settled.
/// 2. [`begin`](Transaction::begin) comes before the first write of each transaction.
/// 3. [`commit`](Transaction::commit) is called when all writes have ended, and no other begins before it has. When it
///    resolves to `Ok`, the rows are visible and the positions committed; on an error neither may be taken for granted.
/// 4. After [`abort`](Transaction::abort) nothing that was written since `begin` will ever be visible. The pipeline has
///    dropped the writes that were running, and their rows are not sent any more.
/// 5. A task that was taken for dead, and whose work another has taken over, cannot commit: the far side refuses it.
///
/// # Cancellation
/// The pipeline waits for a commit or an abort as long as the far side is away, and drops the future when the task must end: what
/// is open is then left for the far side to time out.
///
/// # Errors
/// `Retryable` makes the pipeline abort, and read everything since the last commit again; `Fatal` ends the task.
#[async_trait]
pub trait Transaction: Send + Sync {
    /// Makes ready.
    async fn open(&self) -> Result<(), SinkError>;

    /// Begins a transaction.
    async fn begin(&self) -> Result<(), SinkError>;

    /// Makes all writes since `begin` visible, and `offsets` the positions at which a restart goes on.
    async fn commit(&self, offsets: SourceOffsets) -> Result<(), SinkError>;

    /// Drops all writes since `begin`.
    async fn abort(&self) -> Result<(), SinkError>;
}
