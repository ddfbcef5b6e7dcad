//! A source that ends after so many dead letters.

use std::sync::Arc;

use iotml_core::async_trait;
use iotml_core::batch::{Ack, Lane, RawBatch};
use iotml_core::pipeline::TaskContext;
use iotml_core::source::{Demand, Source, SourceError, SourceEvent};

use super::choice::{Choice, Fate};
use super::letter::Letter;

/// Ends right behind the last message that may be fed back, so that nothing behind it is acknowledged.
pub(super) struct Limited<S> {
    pub inner: S,
    pub choice: Arc<Choice>,
    /// How many more may be fed back.
    pub left: u64,
}

impl<S> Limited<S> {
    /// The batch up to and including the last message that may be fed back.
    fn cut(&mut self, batch: RawBatch) -> RawBatch {
        for row in 0..batch.len() {
            if self.choice.fate(&Letter::of(&batch, row)) == Fate::Back {
                self.left -= 1;
            }
            if self.left == 0 {
                return batch.take(0..=row);
            }
        }
        batch
    }
}

#[async_trait]
impl<S: Source> Source for Limited<S> {
    async fn open(&mut self, task: &TaskContext) -> Result<(), SourceError> {
        self.inner.open(task).await
    }

    async fn poll(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        if self.left == 0 {
            return Ok(SourceEvent::End);
        }
        match self.inner.poll(demand).await? {
            SourceEvent::Batch(batch) => Ok(SourceEvent::Batch(self.cut(batch))),
            event => Ok(event),
        }
    }

    fn ack(&mut self, acks: &[Ack]) -> Result<(), SourceError> {
        self.inner.ack(acks)
    }

    async fn release(&mut self, lanes: &[Lane]) -> Result<(), SourceError> {
        self.inner.release(lanes).await
    }

    async fn close(&mut self) -> Result<(), SourceError> {
        self.inner.close().await
    }
}
