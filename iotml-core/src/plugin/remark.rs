//! Checks that look at a pipeline as a whole.

use serde_json::Value;

/// What a plug-in's check sees of a pipeline whose tables are all valid by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// The document with its placeholders replaced: it holds secrets.
    pub config: &'a Value,
    /// Names of the stages that keep state, as far as they know before they are opened.
    pub stateful: &'a [String],
    /// JSON pointers of the sources and sinks that can take part in transactions.
    pub transactional: &'a [String],
}

/// What a check has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Where, as a JSON pointer into the document: `/source/topics/0`.
    pub pointer: String,
    /// One clause that says what to do.
    pub message: String,
    /// Whether the pipeline must not be started; otherwise it is a warning.
    pub is_mistake: bool,
}

impl Remark {
    /// Something a person should look at.
    pub fn warning(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), is_mistake: false }
    }

    /// Something that must be changed before the pipeline can start.
    pub fn mistake(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), is_mistake: true }
    }
}
