//! What went wrong with a store, as an exception.

use iotml_core::error::Class;
use iotml_model::ModelError as Refused;
use iotml_model::store::StoreError as Failed;
use pyo3::prelude::*;

use crate::error::{self, ConfigError, Make, ModelError, StoreError};

/// Why a store does not do what it was asked for.
#[derive(Debug)]
pub enum Failure {
    /// The store.
    Store(Failed),
    /// The model that is to be published.
    Model(Refused),
}

impl Failure {
    /// A `ConfigError` for what was asked wrongly, a `ModelError` for a model that cannot be trusted or used, a `StoreError`
    /// for the rest.
    pub fn raise(&self, py: Python<'_>) -> PyErr {
        match self {
            Failure::Model(error) => error::raise(py, ModelError::new_err, error),
            Failure::Store(error) => {
                let raised = error::raise(py, kind(error), error);
                if error.class() == Class::Retryable
                    && let Err(failed) = raised.value(py).setattr("retryable", true)
                {
                    return failed;
                }
                raised
            }
        }
    }
}

impl From<Failed> for Failure {
    fn from(error: Failed) -> Self {
        Failure::Store(error)
    }
}

impl From<Refused> for Failure {
    fn from(error: Refused) -> Self {
        Failure::Model(error)
    }
}

fn kind(error: &Failed) -> Make {
    match error {
        Failed::Url { .. }
        | Failed::Property { .. }
        | Failed::Options { .. }
        | Failed::Key(_)
        | Failed::Name { .. }
        | Failed::Elsewhere { .. } => ConfigError::new_err,
        Failed::Unavailable { .. }
        | Failed::Denied { .. }
        | Failed::NotFound { .. }
        | Failed::Exists { .. }
        | Failed::Unfinished { .. }
        | Failed::Ended => StoreError::new_err,
        _ => ModelError::new_err,
    }
}
