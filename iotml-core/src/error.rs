//! What a caller can do next about an error, and why a single row failed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The cause behind an error, kept as it was.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error with its causes, in one line, without saying anything twice.
pub fn report(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// What a caller can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The same call may succeed later: back off and try again.
    Retryable,
    /// The data is at fault: dead-letter, skip or fail by policy; trying again cannot help.
    Record,
    /// The stage cannot go on: stop the task.
    Fatal,
}

/// A stage of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Receives and acknowledges.
    Source,
    /// Bytes to columns.
    Decode,
    /// Rows to rows.
    Preprocess,
    /// Appends scores.
    Score,
    /// Columns to bytes.
    Encode,
    /// Makes durable.
    Sink,
}

impl Stage {
    /// All stages, in the order of the chain.
    pub const ALL: [Stage; 6] =
        [Stage::Source, Stage::Decode, Stage::Preprocess, Stage::Score, Stage::Encode, Stage::Sink];

    /// The stage word, as in configuration and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Source => "source",
            Stage::Decode => "decode",
            Stage::Preprocess => "preprocess",
            Stage::Score => "score",
            Stage::Encode => "encode",
            Stage::Sink => "sink",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a single row failed, coarse enough to be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// The bytes end too early.
    Truncated,
    /// Longer than the configured limit.
    Oversized,
    /// Bytes are left over behind the record.
    TrailingBytes,
    /// Does not begin with the Confluent magic byte 0.
    WrongMagicByte,
    /// The registry does not know the schema id.
    UnknownSchemaId,
    /// The registry was not asked for the schema id, because it knew too many others of the batch not.
    SchemaNotAsked,
    /// The record does not fit the schema.
    WrongSchema,
    /// Not valid UTF-8.
    NotUtf8,
    /// Not valid JSON, CSV or Avro.
    Malformed,
    /// Nested deeper than the configured limit.
    TooDeep,
    /// NaN or infinity where a number is needed.
    NonFinite,
    /// No payload where one is needed.
    Empty,
    /// A value is missing.
    Missing,
    /// A value is outside its range.
    OutOfRange,
    /// The far side refused the record.
    Refused,
    /// The record names no topic to go to, or an invalid one.
    NoTarget,
    /// It came under a topic that nothing in the configuration matches.
    UnmatchedTopic,
    /// A user's plug-in rejected the row.
    Custom(&'static str),
}

impl Reason {
    /// A word in snake case, as in metrics and dead letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Truncated => "truncated",
            Reason::Oversized => "oversized",
            Reason::TrailingBytes => "trailing_bytes",
            Reason::WrongMagicByte => "wrong_magic_byte",
            Reason::UnknownSchemaId => "unknown_schema_id",
            Reason::SchemaNotAsked => "schema_not_asked",
            Reason::WrongSchema => "wrong_schema",
            Reason::NotUtf8 => "not_utf8",
            Reason::Malformed => "malformed",
            Reason::TooDeep => "too_deep",
            Reason::NonFinite => "non_finite",
            Reason::Empty => "empty",
            Reason::Missing => "missing",
            Reason::OutOfRange => "out_of_range",
            Reason::Refused => "refused",
            Reason::NoTarget => "no_target",
            Reason::UnmatchedTopic => "unmatched_topic",
            Reason::Custom(word) => word,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a row failed: a reason to count by, and the detail a person needs. Equal if these two are.
#[derive(Clone, Debug)]
pub struct Cause {
    /// To count by.
    pub reason: Reason,
    /// One lower-case clause; never holds a secret.
    pub detail: String,
    /// What the plug-in itself failed with, where it is worth more than its text. Shared, because it goes with every copy.
    pub source: Option<Arc<BoxError>>,
}

impl Cause {
    /// A cause.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), source: None }
    }

    /// Of a message of `n_bytes` that is over a source's `limit`.
    pub fn over_limit(n_bytes: usize, limit: usize) -> Self {
        let detail =
            format!("{n_bytes} bytes are more than max_message_bytes, which is {limit}; what is over is cut off");
        Self::new(Reason::Oversized, detail)
    }

    /// The same with the error behind it.
    pub fn with(self, source: impl Into<BoxError>) -> Self {
        Self { source: Some(Arc::new(source.into())), ..self }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Cause {
    /// The error itself and not what is around it, so that it can be told by its type.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| &**source as _)
    }
}

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        (self.reason, &self.detail) == (other.reason, &other.detail)
    }
}

impl Eq for Cause {}

/// A configuration that cannot be used; reported before anything is started.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// What is wrong and what to do, in one clause.
    pub message: String,
    /// The key of the plug-in's table that is at fault, where it is a single one; with dots where it is within a table of that.
    pub key: Option<Cow<'static, str>>,
    /// The cause, where there is one.
    #[source]
    pub source: Option<BoxError>,
}

impl ConfigError {
    /// An error without a cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), key: None, source: None }
    }

    /// An error with its cause.
    pub fn with(message: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self { message: message.into(), key: None, source: Some(source.into()) }
    }

    /// The same, said of a key of the plug-in's table.
    pub fn of_key(self, key: &'static str) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The same, of a plug-in whose own table is at `key` of another's.
    pub fn within(self, key: &'static str) -> Self {
        let whole = self.key.as_ref().map_or(Cow::from(key), |own| Cow::from(format!("{key}.{own}")));
        Self { key: Some(whole), ..self }
    }
}

/// What a schema registry says when it gives no schema for an id, or no id for a schema.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaRegistryError {
    /// There is no schema of this id: rows that name it are rejected.
    #[error("the registry knows no schema {id}")]
    Unknown {
        /// The id.
        id: u32,
    },
    /// There is one, but it is of no use here, for instance Protobuf: rows that name it are rejected.
    #[error("schema {id} cannot be used: {message}")]
    Unusable {
        /// The id.
        id: u32,
        /// Why.
        message: String,
    },
    /// The registry cannot be reached now: the pipeline tries again.
    #[error("the schema registry is unavailable")]
    Unavailable {
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The registry refuses for good: the client's password, a schema that does not fit the ones before it, or one that is
    /// not there and may not be registered.
    #[error("the schema registry refuses: {message}")]
    Refused {
        /// What to do.
        message: String,
        /// The cause, where there is one.
        #[source]
        source: Option<BoxError>,
    },
}

/// Declares the public error of a stage: three variants, one per [`Class`], each with a message and its cause.
macro_rules! stage_error {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, thiserror::Error)]
        #[non_exhaustive]
        pub enum $name {
            /// May succeed when tried again.
            #[error("{message}")]
            Retryable {
                /// One lower-case clause with the position where there is one.
                message: String,
                /// The cause, where there is one.
                #[source]
                source: Option<$crate::error::BoxError>,
            },
            /// The data of the whole call is at fault.
            #[error("{0}")]
            Record($crate::error::Cause),
            /// The stage cannot go on.
            #[error("{message}")]
            Fatal {
                /// One lower-case clause that says what to do.
                message: String,
                /// The cause, where there is one.
                #[source]
                source: Option<$crate::error::BoxError>,
            },
        }

        impl $name {
            /// An error that may pass.
            pub fn retryable(message: impl Into<String>) -> Self {
                Self::Retryable { message: message.into(), source: None }
            }

            /// An error that may pass, with its cause.
            pub fn retryable_from(message: impl Into<String>, source: impl Into<$crate::error::BoxError>) -> Self {
                Self::Retryable { message: message.into(), source: Some(source.into()) }
            }

            /// An error that ends the task.
            pub fn fatal(message: impl Into<String>) -> Self {
                Self::Fatal { message: message.into(), source: None }
            }

            /// An error that ends the task, with its cause.
            pub fn fatal_from(message: impl Into<String>, source: impl Into<$crate::error::BoxError>) -> Self {
                Self::Fatal { message: message.into(), source: Some(source.into()) }
            }

            /// What a caller can do next.
            pub fn class(&self) -> $crate::error::Class {
                match self {
                    Self::Retryable { .. } => $crate::error::Class::Retryable,
                    Self::Record(_) => $crate::error::Class::Record,
                    Self::Fatal { .. } => $crate::error::Class::Fatal,
                }
            }
        }
    };
}
pub(crate) use stage_error;
