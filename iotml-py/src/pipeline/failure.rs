//! What went wrong with a pipeline, as an exception.

use std::error::Error as _;
use std::io;

use iotml_core::pipeline::PipelineError as Failure;
use iotml_core::plugin::config::{Mistakes, Secrets};
use pyo3::prelude::*;

use super::plugin::Raised;
use crate::error::{self, ConfigError, IotmlError, Make, PipelineError};

/// Every mistake of a document in one `ConfigError`, which also lists them as `mistakes`.
pub fn of_mistakes(py: Python<'_>, mistakes: &Mistakes) -> PyErr {
    let raised = ConfigError::new_err(mistakes.to_string());
    let listed: Vec<String> = mistakes.mistakes.iter().map(ToString::to_string).collect();
    match raised.value(py).setattr("mistakes", listed) {
        Ok(()) => raised,
        Err(error) => error,
    }
}

/// Why a pipeline failed: a `PipelineError` that says it all in one line. Its cause is what a plug-in in Python raised, with
/// its traceback, or else the error of the stage.
pub fn of_pipeline(py: Python<'_>, failure: &Failure, secrets: &Secrets) -> PyErr {
    let make: Make = if matches!(failure, Failure::Config(_)) { ConfigError::new_err } else { PipelineError::new_err };
    let raised = make(secrets.scrub(&failure.report()).into_owned());
    let cause = match (raised_by_plugin(py, failure), failure) {
        (Some(exception), _) => Some(exception),
        (None, Failure::Stage { stage, source, .. }) => {
            Some(error::raise_scrubbed(py, error::of_stage(*stage), source.as_ref(), secrets))
        }
        (None, other) => other.source().map(|cause| error::raise_scrubbed(py, IotmlError::new_err, cause, secrets)),
    };
    raised.set_cause(py, cause);
    raised
}

/// What a plug-in raised, wherever in the chain of causes it is.
fn raised_by_plugin(py: Python<'_>, failure: &Failure) -> Option<PyErr> {
    let mut cause = failure.source();
    while let Some(error) = cause {
        // An error of I/O hides the one that it was made of from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let raised = inner.map_or(error.downcast_ref(), |inner| inner.downcast_ref());
        if let Some(raised) = raised {
            return Some(Raised::exception(raised, py));
        }
        cause = error.source();
    }
    None
}
