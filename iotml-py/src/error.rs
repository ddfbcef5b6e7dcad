//! A Rust error as a Python exception: the class of its stage, its message, and its causes as `__cause__`.

use std::error::Error;
use std::io;

use iotml_core::error::Stage;
use iotml_core::plugin::config::Secrets;
use pyo3::{PyErr, PyResult, Python, import_exception};
use serde::de::DeserializeOwned;

// Defined in Python, because a class with two bases can only be made there.
import_exception!(iotml.exceptions, IotmlError);
import_exception!(iotml.exceptions, ConfigError);
import_exception!(iotml.exceptions, SourceError);
import_exception!(iotml.exceptions, DecodeError);
import_exception!(iotml.exceptions, PreprocessError);
import_exception!(iotml.exceptions, ScoreError);
import_exception!(iotml.exceptions, EncodeError);
import_exception!(iotml.exceptions, SinkError);
import_exception!(iotml.exceptions, ModelError);
import_exception!(iotml.exceptions, StoreError);
import_exception!(iotml.exceptions, RolloutError);
import_exception!(iotml.exceptions, PipelineError);
import_exception!(iotml.exceptions, RetryableError);
import_exception!(iotml.exceptions, UnknownColumnError);
import_exception!(iotml.exceptions, ForkedError);
import_exception!(iotml.exceptions, MissingPackageError);

/// Makes an exception of a message.
pub type Make = fn(String) -> PyErr;

/// The exception of a stage.
pub fn of_stage(stage: Stage) -> Make {
    match stage {
        Stage::Source => SourceError::new_err,
        Stage::Decode => DecodeError::new_err,
        Stage::Preprocess => PreprocessError::new_err,
        Stage::Score => ScoreError::new_err,
        Stage::Encode => EncodeError::new_err,
        Stage::Sink => SinkError::new_err,
    }
}

/// `error` as the exception that `make` makes; what caused it is chained as `__cause__`, one exception a cause, and an error
/// of the system as Python's own `OSError`.
pub fn raise(py: Python<'_>, make: Make, error: &(dyn Error + 'static)) -> PyErr {
    let raised = make(error.to_string());
    if let Some(cause) = error.source() {
        let of_system = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        raised.set_cause(
            py,
            Some(match of_system {
                Some(code) => io::Error::from_raw_os_error(code).into(),
                None => raise(py, IotmlError::new_err, cause),
            }),
        );
    }
    raised
}

/// As [`raise`], without secrets (invariant 10).
pub fn raise_scrubbed(py: Python<'_>, make: Make, error: &(dyn Error + 'static), secrets: &Secrets) -> PyErr {
    let raised = make(secrets.scrub(&error.to_string()).into_owned());
    if let Some(cause) = error.source() {
        raised.set_cause(py, Some(raise_scrubbed(py, IotmlError::new_err, cause, secrets)));
    }
    raised
}

/// Takes apart what Python wrote as JSON; raises `ConfigError` naming what is wrong.
pub fn parse<T: DeserializeOwned>(json: &str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| ConfigError::new_err(error.to_string()))
}
