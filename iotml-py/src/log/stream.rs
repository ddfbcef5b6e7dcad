//! A read as a stream of Arrow batches.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::block::{Block, conform};
use super::reading::LogRead;
use super::worker::{Handed, Worker};
use crate::capsule;
use crate::error::{DecodeError, SourceError};
use crate::process::{SLICE, wait};

/// Rows of a log as a stream of Arrow batches, read while its consumer asks: ``pyarrow.table(stream)``,
/// ``polars.DataFrame(stream)``, and whatever else reads Arrow. It can be read once.
///
/// The columns are those of the first rows; a column that only later rows have is left out, one that later rows do not have is
/// null there. An error in the middle reaches the consumer as an error of Arrow.
#[pyclass(frozen, module = "iotml")]
pub struct LogStream {
    read: Py<LogRead>,
    taken: Mutex<bool>,
}

impl LogStream {
    pub fn new(read: Py<LogRead>) -> Self {
        Self { read, taken: Mutex::new(false) }
    }
}

#[pymethods]
impl LogStream {
    #[new]
    fn of(read: Py<LogRead>) -> Self {
        Self::new(read)
    }

    /// The stream by Arrow's PyCapsule interface. A requested schema is not looked at, as the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        if std::mem::replace(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return Err(SourceError::new_err("this stream was read already; begin another one"));
        }
        let read = self.read.clone_ref(py);
        let Some(mut worker) = read.get().take_worker()? else {
            return Err(SourceError::new_err("this read is over; begin another one"));
        };
        // The first rows say which columns there are.
        let waiting = &mut worker;
        let mut stream = Stream { first: None, schema: Arc::new(Schema::empty()), worker: None, read };
        match wait(py, move |slice| waiting.next(slice))? {
            Handed::Block(block) => {
                let columns = py.detach(|| columns(&block)).map_err(|error| DecodeError::new_err(error.to_string()))?;
                stream.read.get().note(block.snapshot);
                (stream.schema, stream.first, stream.worker) = (columns.schema(), Some(columns), Some(worker));
            }
            Handed::End(snapshot) => stream.read.get().note(Arc::from(snapshot)),
            Handed::Failed(failure) => return Err(failure.raise(py)),
        }
        capsule::export_stream(py, Box::new(stream))
    }

    fn __repr__(&self) -> &'static str {
        "<LogStream>"
    }
}

fn columns(block: &Block) -> Result<RecordBatch, ArrowError> {
    block.origins.columns(&(0..block.origins.n_rows))
}

struct Stream {
    first: Option<RecordBatch>,
    schema: SchemaRef,
    worker: Option<Worker>,
    read: Py<LogRead>,
}

impl Iterator for Stream {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.first.take() {
            return Some(Ok(batch));
        }
        let handed = loop {
            if let Some(handed) = self.worker.as_ref()?.next(SLICE) {
                break handed;
            }
        };
        match handed {
            Handed::Block(block) => {
                let batch = columns(&block).and_then(|batch| conform(&batch, &self.schema));
                self.read.get().note(block.snapshot);
                Some(batch)
            }
            Handed::End(snapshot) => {
                self.worker = None;
                self.read.get().note(Arc::from(snapshot));
                None
            }
            Handed::Failed(failure) => {
                self.worker = None;
                Some(Err(ArrowError::ExternalError(failure.text().into())))
            }
        }
    }
}

impl RecordBatchReader for Stream {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
