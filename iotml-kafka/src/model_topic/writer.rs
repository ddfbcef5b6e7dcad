//! Writing a few records, one after the other, from a thread that may wait.

use std::sync::Arc;

use iotml_core::batch::{Batch, Coordinate, Lane, Message, Position, RawBatch, RawMessage};
use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::BuildContext;
use iotml_core::sink::{Outgoing, Sink, SinkError};
use tokio::runtime::{Builder, Runtime};

use super::error::ModelTopicError;
use crate::sink::{KafkaSink, KafkaSinkConfig};

/// A sink with a runtime of its own.
#[derive(Debug)]
pub(super) struct Writer {
    sink: KafkaSink,
    runtime: Runtime,
}

impl Writer {
    /// Connects, and creates the topic if that is wanted.
    pub(super) fn open(config: KafkaSinkConfig) -> Result<Self, ModelTopicError> {
        let context = BuildContext { pipeline: "models".into(), task: 0, n_tasks: 1 };
        let sink = KafkaSink::new(config, &context)?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ModelTopicError::Runtime)?;
        runtime.block_on(sink.open(&TaskContext::single("models")))?;
        Ok(Writer { sink, runtime })
    }

    /// Writes records as key and value, durably.
    pub(super) fn write(&self, records: &[(&[u8], Option<&[u8]>)]) -> Result<(), SinkError> {
        let mut raw = RawBatch::default();
        for (seq, (key, payload)) in records.iter().enumerate() {
            raw.push(RawMessage {
                message: Message { key: Some(key), payload: *payload, ..Message::default() },
                position: Position { lane: Lane(0), seq: seq as u64 },
                coordinate: Coordinate::NONE,
            });
        }
        let raw = Arc::new(raw);
        let messages = Arc::new(raw.messages().clone());
        let written = self.runtime.block_on(self.sink.write(Outgoing { batch: Batch::undecoded(raw), messages }))?;
        let failed = written.rejected.iter().chain(&written.retryable).next();
        match failed {
            Some(failed) => Err(SinkError::retryable(failed.cause.to_string())),
            None => Ok(()),
        }
    }
}

/// Whether it may go well if it is tried again.
pub(super) fn may_pass(error: &SinkError) -> bool {
    error.class() == Class::Retryable
}
