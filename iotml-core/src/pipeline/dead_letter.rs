//! A rejected row as a message: the original bytes, with Kafka Connect's context headers and our own.

use std::sync::Arc;

use super::TaskContext;
use crate::batch::{Messages, RawBatch};
use crate::error::{Cause, Stage};

/// Kafka Connect's names for the context of an error.
pub mod header {
    /// The topic the message came from.
    pub const TOPIC: &str = "__connect.errors.topic";
    /// Its partition there.
    pub const PARTITION: &str = "__connect.errors.partition";
    /// Its offset there.
    pub const OFFSET: &str = "__connect.errors.offset";
    /// Name of the pipeline.
    pub const CONNECTOR: &str = "__connect.errors.connector.name";
    /// Number of the task.
    pub const TASK: &str = "__connect.errors.task.id";
    /// The stage that rejected the row.
    pub const STAGE: &str = "__connect.errors.stage";
    /// The stage's name where a stage word is not enough, such as a preprocessor's or a route's.
    pub const CLASS: &str = "__connect.errors.class.name";
    /// The reason, coarse enough to filter by.
    pub const EXCEPTION: &str = "__connect.errors.exception.class.name";
    /// The detail.
    pub const MESSAGE: &str = "__connect.errors.exception.message";
    /// Ours: the reason in one word, as in the metrics.
    pub const REASON: &str = "iotml.errors.reason";
    /// Ours: the instance of the worker.
    pub const INSTANCE: &str = "iotml.errors.instance";
}

/// A row on its way to the dead-letter sink.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    /// The message of the raw batch.
    pub origin: u32,
    /// The stage that rejected it.
    pub stage: Stage,
    /// The stage's name.
    pub name: Arc<str>,
    /// Why.
    pub cause: Cause,
}

/// The messages to write: payload, key, time and headers as received, then the context.
pub(super) fn messages(raw: &RawBatch, letters: &[DeadLetter], task: &TaskContext) -> Messages {
    let received = raw.messages();
    let mut messages = Messages::with_capacity(letters.len(), 0);
    for letter in letters {
        let origin = letter.origin as usize;
        // Without its target, so that the dead-letter sink's own topic applies.
        messages.push(crate::batch::Message { target: None, ..received.message(origin) });
        for known in received.headers().of(origin) {
            messages.push_header(known.name, known.value);
        }
        let coordinate = raw.coordinate(origin);
        let exception = format!("iotml.{}.{}", letter.stage, letter.cause.reason);
        let context: [(&str, &str); 11] = [
            (header::TOPIC, received.topic(origin).map_or("", |topic| topic)),
            (header::PARTITION, &coordinate.partition.to_string()),
            (header::OFFSET, &coordinate.offset.to_string()),
            (header::CONNECTOR, &task.pipeline),
            (header::TASK, &task.task.to_string()),
            (header::STAGE, letter.stage.as_str()),
            (header::CLASS, &letter.name),
            (header::EXCEPTION, &exception),
            (header::MESSAGE, &letter.cause.detail),
            (header::REASON, letter.cause.reason.as_str()),
            (header::INSTANCE, &task.instance),
        ];
        for (name, value) in context {
            messages.push_header(name, Some(value.as_bytes()));
        }
    }
    messages
}
