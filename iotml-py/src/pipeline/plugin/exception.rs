//! A Python exception on its way through the pipeline.

use std::fmt;

use iotml_core::error::{BoxError, Cause};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::error::{PipelineError, RetryableError};
use crate::pipeline::word;

/// The longest text: it goes into the headers of dead letters.
const MAX_TEXT: usize = 2_000;

/// What a plug-in raised. Its text is made at once, so that nobody needs the GIL to read it.
#[derive(Debug)]
pub struct Raised {
    text: String,
    exception: PyErr,
}

impl Raised {
    /// Keeps `exception`: `ValueError: no such car (plugin.py, line 12, in apply)`.
    pub fn new(py: Python<'_>, exception: PyErr) -> Self {
        let name = exception.get_type(py).name().map_or_else(|_| "exception".to_owned(), |name| name.to_string());
        let message = exception.value(py).str().map(|message| message.to_string()).unwrap_or_default();
        let mut text = if message.is_empty() { name } else { format!("{name}: {message}") };
        if let Some((at, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(at);
            text.push_str("...");
        }
        if let Some(place) = place(py, &exception) {
            text.push_str(&place);
        }
        Self { text, exception }
    }

    /// The exception itself.
    pub fn exception(&self, py: Python<'_>) -> PyErr {
        self.exception.clone_ref(py)
    }

    /// Why the row failed for which the plug-in raised this.
    pub fn into_cause(self) -> Cause {
        Cause::new(word::reason("exception"), self.text.clone()).with(self)
    }
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Raised {}

/// Where it was raised, as ` (FILE, line LINE, in FUNCTION)`.
fn place(py: Python<'_>, exception: &PyErr) -> Option<String> {
    let traceback = exception.traceback(py)?;
    let frames = py.import("traceback").and_then(|module| module.call_method1("extract_tb", (traceback,)));
    let frame = frames.ok()?.get_item(-1).ok()?;
    let file: String = frame.getattr("filename").and_then(|name| name.extract()).ok()?;
    let line: u32 = frame.getattr("lineno").and_then(|line| line.extract()).ok()?;
    let function: String = frame.getattr("name").and_then(|name| name.extract()).ok()?;
    let file = file.rsplit('/').next().unwrap_or(&file);
    Some(format!(" ({file}, line {line}, in {function})"))
}

/// What a failed call means.
#[derive(Debug)]
pub enum Failed {
    /// A row is at fault; which one shows when fewer are tried.
    Rows(Raised),
    /// The same rows may succeed later.
    Later(Raised),
    /// The plug-in cannot go on, or broke its contract.
    Fatal(BoxError),
}

impl Failed {
    /// The plug-in raised `exception`. Where it does I/O, an `OSError` is trouble that may pass.
    pub fn raised(py: Python<'_>, exception: PyErr, does_io: bool) -> Self {
        let is_later =
            exception.is_instance_of::<RetryableError>(py) || does_io && exception.is_instance_of::<PyOSError>(py);
        let is_fatal = exception.is_instance_of::<PipelineError>(py);
        let raised = Raised::new(py, exception);
        match (is_later, is_fatal) {
            (true, _) => Self::Later(raised),
            (false, true) => Self::Fatal(raised.into()),
            (false, false) => Self::Rows(raised),
        }
    }

    /// The plug-in gave back what it must not.
    pub fn broke(what: String) -> Self {
        Self::Fatal(what.into())
    }
}
