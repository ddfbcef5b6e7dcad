//! Arrow in and out through the PyCapsule interface: pyarrow, polars, pandas, DuckDB and others speak it, and none is imported.

use std::ffi::CStr;

use arrow::array::{Array, RecordBatch, RecordBatchReader, StructArray};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use pyo3::inspect::PyStaticExpr;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::type_hint_identifier;
use pyo3::types::{PyCapsule, PyCapsuleMethods, PyTuple};

use crate::error::ConfigError;

/// What stands in the stubs for an object that gives Arrow data.
pub const ARROW_DATA: PyStaticExpr = type_hint_identifier!("iotml.arrow", "ArrowData");

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// The columns of an Arrow object, without a copy of them; `None` if it is none. A stream is read to its end.
pub fn batches_of(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<RecordBatch>>> {
    let py = value.py();
    if let Some(export) = value.getattr_opt(intern!(py, "__arrow_c_array__"))? {
        return import_array(&export.call0()?).map(|batch| Some(vec![batch]));
    }
    if let Some(export) = value.getattr_opt(intern!(py, "__arrow_c_stream__"))? {
        let reader = import_stream(&export.call0()?)?;
        // Without the GIL, which a stream that is made in Python takes by itself.
        let batches: Result<Vec<_>, _> = py.detach(|| reader.collect());
        return batches.map(Some).map_err(unusable);
    }
    Ok(None)
}

/// One batch as `__arrow_c_array__` gives it: the capsules of its schema and of its columns as a struct.
pub fn export_batch<'py>(
    py: Python<'py>,
    batch: &RecordBatch,
) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let schema = FFI_ArrowSchema::try_from(batch.schema_ref().as_ref()).map_err(unusable)?;
    let array = FFI_ArrowArray::new(&StructArray::from(batch.clone()).to_data());
    Ok((PyCapsule::new_with_value(py, schema, SCHEMA)?, PyCapsule::new_with_value(py, array, ARRAY)?))
}

/// A reader as `__arrow_c_stream__` gives it; it is read when its consumer asks.
pub fn export_stream<'py>(
    py: Python<'py>,
    reader: Box<dyn RecordBatchReader + Send>,
) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(reader), STREAM)
}

fn import_array(capsules: &Bound<'_, PyAny>) -> PyResult<RecordBatch> {
    let (schema, array) = match capsules.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
        _ => return Err(ConfigError::new_err("__arrow_c_array__ gave no pair of capsules")),
    };
    let schema = schema.cast::<PyCapsule>()?.pointer_checked(Some(SCHEMA))?.cast::<FFI_ArrowSchema>();
    let array = array.cast::<PyCapsule>()?.pointer_checked(Some(ARRAY))?.cast::<FFI_ArrowArray>();
    // SAFETY: by the interface, capsules of these names point at such structures; moving the array out leaves the capsule a
    // released one, and the schema stays the capsule's.
    let data = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) }.map_err(unusable)?;
    if !matches!(data.data_type(), arrow::datatypes::DataType::Struct(_)) {
        let what =
            format!("an Arrow array of {} has no named columns; give a record batch or a table", data.data_type());
        return Err(ConfigError::new_err(what));
    }
    let columns = StructArray::from(data);
    match columns.null_count() {
        0 => Ok(RecordBatch::from(columns)),
        n => Err(ConfigError::new_err(format!("{n} rows of the Arrow struct are null as a whole"))),
    }
}

fn import_stream(capsule: &Bound<'_, PyAny>) -> PyResult<ArrowArrayStreamReader> {
    let stream = capsule.cast::<PyCapsule>()?.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: by the interface, a capsule of this name points at such a structure, and moving it out leaves a released one.
    let stream = unsafe { FFI_ArrowArrayStream::from_raw(stream.as_ptr()) };
    ArrowArrayStreamReader::try_new(stream).map_err(unusable)
}

fn unusable(error: ArrowError) -> PyErr {
    ConfigError::new_err(format!("the Arrow data cannot be used: {error}"))
}
