//! A rejected row as a message: the original bytes, with Kafka Connect's context headers and our own.

use std::error::Error;
use std::sync::Arc;

use super::TaskContext;
use crate::batch::{Messages, RawBatch, Rejected};
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
    /// What lies behind the detail, one cause a line, where there is more to tell.
    pub const STACKTRACE: &str = "__connect.errors.exception.stacktrace";
    /// Ours: the reason in one word, as in the metrics.
    pub const REASON: &str = "iotml.errors.reason";
    /// Ours: the instance of the worker.
    pub const INSTANCE: &str = "iotml.errors.instance";
    /// Ours: bytes of the whole payload, where not all of the message was kept because it is over a limit.
    pub const CUT: &str = "iotml.errors.payload.bytes";
    /// Ours: bytes of the whole key, where the dead letter was too large for its topic.
    pub const KEY_CUT: &str = "iotml.errors.key.bytes";
    /// Ours: how many headers the message had, where the dead letter was too large for its topic.
    pub const HEADERS_CUT: &str = "iotml.errors.headers";
    /// Ours, on a message that was fed back and not on the dead letter alone: how often that was done.
    pub const REPLAYS: &str = "iotml.replays";

    /// Whether a header of this name tells the context of an error, so that it goes when the message is fed back.
    pub fn is_context(name: &str) -> bool {
        name.starts_with("__connect.errors.") || name.starts_with("iotml.errors.")
    }
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

/// The messages that the source itself gave a cause.
pub(super) fn of_source(raw: &RawBatch) -> Vec<DeadLetter> {
    let rejected = raw.rejected().iter();
    let letter = |rejected: &Rejected| DeadLetter {
        origin: rejected.row,
        stage: Stage::Source,
        name: "source".into(),
        cause: rejected.cause.clone(),
    };
    rejected.map(letter).collect()
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
        if let Some(trace) = causes(&letter.cause) {
            messages.push_header(header::STACKTRACE, Some(trace.as_bytes()));
        }
    }
    messages
}

/// The errors behind a cause, one a line, in the manner of a stack trace.
fn causes(cause: &Cause) -> Option<String> {
    let mut behind = cause.source()?;
    let mut trace = cause.to_string();
    loop {
        trace.push_str(&format!("\ncaused by: {behind}"));
        match behind.source() {
            Some(next) => behind = next,
            None => return Some(trace),
        }
    }
}
