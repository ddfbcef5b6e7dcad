//! The rows that a plug-in works on.

use std::sync::Arc;

use iotml_core::batch::{Batch, Messages, NO_TIME};
use iotml_core::sink::Outgoing;
use pyo3::exceptions::{PyImportError, PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule};

use super::state::Partitions;
use crate::array::Array1;
use crate::capsule;
use crate::column::{Column, Times};
use crate::error::UnknownColumnError;

/// Rows on their way through a pipeline, as a plug-in is given them: columns, and beside each row the message it came from.
///
/// `batch["speed"]` is a NumPy array, `batch.to_arrow()` a `pyarrow.RecordBatch`, and whatever reads Arrow (polars, pandas,
/// DuckDB) reads the batch itself. Nothing is copied where NumPy has the column's type and no value is missing; the arrays
/// are read-only, because other stages look at the same memory. `len(batch)` is the number of rows.
///
/// A batch keeps the messages that its rows came from in memory: a plug-in that keeps rows should copy what it needs.
#[pyclass(frozen, mapping, module = "iotml", name = "Batch")]
#[derive(Debug)]
pub struct PyBatch {
    batch: Batch,
    partitions: Partitions,
    /// What the encoder made of the rows, for a sink.
    messages: Option<Arc<Messages>>,
}

impl PyBatch {
    /// For a preprocessor or scorer, with the partitions of its task.
    pub fn new(batch: Batch, partitions: Partitions) -> Self {
        Self { batch, partitions, messages: None }
    }

    /// For a sink.
    pub fn outgoing(rows: Outgoing) -> Self {
        Self { batch: rows.batch, partitions: Partitions::default(), messages: Some(rows.messages) }
    }

    fn origins(&self) -> impl Iterator<Item = usize> {
        (0..self.batch.len()).map(|row| self.batch.origin(row))
    }
}

#[pymethods]
impl PyBatch {
    /// Number of rows.
    fn __len__(&self) -> usize {
        self.batch.len()
    }

    /// The column called `name`, one value a row, read-only. Missing numbers are NaN, missing times NaT, missing texts and
    /// booleans `None`.
    ///
    /// Raises `UnknownColumnError`, a `KeyError`, which names the columns there are.
    fn __getitem__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Column<'py>> {
        let Ok(name) = name.extract::<String>() else {
            return Err(PyTypeError::new_err("a column is asked for by its name: batch[\"speed\"]"));
        };
        match self.batch.column(&name) {
            Some(column) => Column::of(py, &name, column),
            None => {
                let known = self.columns().iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none: the pipeline has no decoder".to_owned() } else { known };
                Err(UnknownColumnError::new_err(format!("there is no column {name:?}; there are {known}")))
            }
        }
    }

    /// Whether there is a column of this name.
    fn __contains__(&self, name: &str) -> bool {
        self.batch.column(name).is_some()
    }

    /// Names of the columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.batch.columns().schema().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Key of each row, `None` where it has none.
    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> Vec<Option<Bound<'py, PyBytes>>> {
        (0..self.batch.len()).map(|row| self.batch.key(row).map(|key| PyBytes::new(py, key))).collect()
    }

    /// Event time of each row, `datetime64[ms]` in UTC; NaT where it has none.
    #[getter]
    fn timestamps<'py>(&self, py: Python<'py>) -> PyResult<Times<'py>> {
        let times = (0..self.batch.len()).map(|row| self.batch.time(row).unwrap_or(NO_TIME));
        Times::of_milliseconds(py, times.collect())
    }

    /// Topic that each row was received from, `None` where its source has no topics.
    #[getter]
    fn topics(&self) -> Vec<Option<String>> {
        let messages = self.batch.raw().messages();
        self.origins().map(|origin| messages.topic(origin).map(|topic| topic.to_string())).collect()
    }

    /// Kafka partition or MQTT connection of each row, `int32`; -1 where there is none.
    #[getter]
    fn partitions<'py>(&self, py: Python<'py>) -> Array1<'py, i32> {
        let raw = self.batch.raw();
        Array1::of_vec(py, self.origins().map(|origin| raw.coordinate(origin).partition).collect())
    }

    /// Name of the partition that the state of each row belongs to, as a stage's `snapshot`, `restore` and `forget` are given
    /// it; `None` where the source has no partitions that could move, and in sinks.
    #[getter]
    fn partition_names(&self) -> Vec<Option<String>> {
        let raw = self.batch.raw();
        let name = |origin| self.partitions.get(&raw.lane(origin)).map(|name| name.to_string());
        self.origins().map(name).collect()
    }

    /// Kafka offset or MQTT packet id of each row, `int64`; -1 where there is none.
    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Array1<'py, i64> {
        let raw = self.batch.raw();
        Array1::of_vec(py, self.origins().map(|origin| raw.coordinate(origin).offset).collect())
    }

    /// Bytes of each row, `None` for a tombstone: in a sink what the route's encoder made of the row, elsewhere what was
    /// received.
    #[getter]
    fn payloads<'py>(&self, py: Python<'py>) -> Vec<Option<Bound<'py, PyBytes>>> {
        let bytes = |payload: Option<&[u8]>| payload.map(|payload| PyBytes::new(py, payload));
        match &self.messages {
            Some(messages) => (0..messages.len()).map(|row| bytes(messages.payload(row))).collect(),
            None => self.origins().map(|origin| bytes(self.batch.raw().messages().payload(origin))).collect(),
        }
    }

    /// Headers of the message that `row` came from, in order; names may repeat.
    fn headers<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Vec<(String, Option<Bound<'py, PyBytes>>)>> {
        if row >= self.batch.len() {
            let message = format!("there is no row {row} in a batch of {} rows", self.batch.len());
            return Err(PyIndexError::new_err(message));
        }
        let headers = self.batch.raw().messages().headers().of(self.batch.origin(row));
        let value = |value: &[u8]| PyBytes::new(py, value);
        Ok(headers.map(|header| (header.name.to_owned(), header.value.map(value))).collect())
    }

    /// The columns as a `pyarrow.RecordBatch`, without a copy. Needs pyarrow: `pip install 'iotml[arrow]'`.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let pyarrow = slf.py().import("pyarrow").map_err(|error| {
            let wanted = PyImportError::new_err("to_arrow() needs pyarrow: pip install 'iotml[arrow]'");
            wanted.set_cause(slf.py(), Some(error));
            wanted
        })?;
        pyarrow.call_method1("record_batch", (slf,))
    }

    /// The columns by Arrow's PyCapsule interface. A requested schema is not looked at, as the interface allows.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        capsule::export_batch(py, self.batch.columns())
    }

    /// The types of the columns by Arrow's PyCapsule interface.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let (schema, _) = capsule::export_batch(py, &self.batch.columns().slice(0, 0))?;
        Ok(schema)
    }

    fn __repr__(&self) -> String {
        let schema = self.batch.columns().schema();
        let columns: Vec<_> =
            schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
        format!("Batch({} rows: {})", self.batch.len(), columns.join(", "))
    }
}
