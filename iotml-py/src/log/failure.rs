//! Why a read ends early, as an exception.

use std::path::{Path, PathBuf};

use iotml_core::decode::DecodeError;
use iotml_core::error::{BoxError, Stage, report};
use iotml_kafka::LogError;
use pyo3::prelude::*;

use super::rejected::BadRow;
use crate::error::{self, ConfigError, IotmlError, of_stage};

/// Why a read ends early.
#[derive(Debug)]
pub enum Failure {
    /// Kafka.
    Log(LogError),
    /// A file.
    File(FileError),
    /// A decoder that cannot go on.
    Decode(DecodeError),
    /// The options do not fit what is there.
    Config(String),
    /// A row that cannot be used.
    Bad { place: String, row: BadRow },
    /// Not one row can be used, which is no matter of single rows any more.
    NothingGood { n_messages: u64, first: String },
    /// A defect.
    Died,
}

/// What is the matter with a file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}", path = path.display())]
pub struct FileError {
    path: PathBuf,
    what: String,
    #[source]
    source: Option<BoxError>,
}

impl Failure {
    pub fn file(path: &Path, what: impl Into<String>, source: Option<BoxError>) -> Self {
        Failure::File(FileError { path: path.to_owned(), what: what.into(), source })
    }

    /// The exception of its stage.
    pub fn raise(&self, py: Python<'_>) -> PyErr {
        match self {
            Failure::Log(LogError::Config(error)) => error::raise(py, ConfigError::new_err, error),
            Failure::Log(error) => error::raise(py, of_stage(Stage::Source), error),
            Failure::Decode(error) => error::raise(py, of_stage(Stage::Decode), error),
            Failure::Config(message) => ConfigError::new_err(message.clone()),
            Failure::File(error) => error::raise(py, of_stage(Stage::Source), error),
            Failure::Bad { .. } | Failure::NothingGood { .. } => of_stage(Stage::Decode)(self.text()),
            Failure::Died => IotmlError::new_err("the thread that reads the log died of a defect of iotml"),
        }
    }

    /// The same in one line, for interfaces without exceptions.
    pub fn text(&self) -> String {
        match self {
            Failure::Log(error) => report(error),
            Failure::Decode(error) => report(error),
            Failure::File(error) => report(error),
            Failure::Config(message) => message.clone(),
            Failure::Bad { place, row } => {
                format!("{place}: {}; on_bad=\"skip\" leaves such rows out and lists them", row.cause)
            }
            Failure::NothingGood { n_messages, first } => {
                format!("not one of {n_messages} rows can be used; the first: {first}")
            }
            Failure::Died => "the thread that reads the log died".to_owned(),
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Failure::Log(error)
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Failure::Decode(error)
    }
}
