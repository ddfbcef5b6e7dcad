//! An Arrow array that came in by the PyCapsule interface: a table as a struct, a column, a mask.

use std::ffi::CStr;

use iotml_core::arrow::array::{Array, ArrayRef, make_array, new_empty_array};
use iotml_core::arrow::compute::concat;
use iotml_core::arrow::datatypes::Field;
use iotml_core::arrow::error::ArrowError;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyType};

use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow::ffi_stream::FFI_ArrowArrayStream;

const SCHEMA: &CStr = c"arrow_schema";
const ARRAY: &CStr = c"arrow_array";
const STREAM: &CStr = c"arrow_array_stream";

/// The values of an object that has `__arrow_c_array__` or `__arrow_c_stream__`; `None` if it has neither. The chunks of a
/// stream, such as a polars series or a table of pyarrow's, are joined to one.
pub fn array_of(object: &Bound<'_, PyAny>) -> PyResult<Option<ArrayRef>> {
    let py = object.py();
    // A class has the methods too, but not to be called like this.
    if object.is_instance_of::<PyType>() {
        return Ok(None);
    }
    if let Some(export) = object.getattr_opt(intern!(py, "__arrow_c_array__"))? {
        let (schema, array): (Bound<'_, PyCapsule>, Bound<'_, PyCapsule>) = export.call0()?.extract()?;
        return one(&schema, &array).map(Some);
    }
    if let Some(export) = object.getattr_opt(intern!(py, "__arrow_c_stream__"))? {
        let chunks = chunks(&export.call0()?.cast_into()?)?;
        let chunks: Vec<&dyn Array> = chunks.iter().map(AsRef::as_ref).collect();
        return concat(&chunks).map(Some).map_err(unusable);
    }
    Ok(None)
}

fn one(schema: &Bound<'_, PyCapsule>, array: &Bound<'_, PyCapsule>) -> PyResult<ArrayRef> {
    let schema = schema.pointer_checked(Some(SCHEMA))?.cast::<FFI_ArrowSchema>();
    let array = array.pointer_checked(Some(ARRAY))?.cast::<FFI_ArrowArray>();
    // SAFETY: by the interface, capsules of these names point at such structures; moving the array out leaves the capsule a
    // released one, and the schema stays the capsule's.
    let data = unsafe { from_ffi(FFI_ArrowArray::from_raw(array.as_ptr()), schema.as_ref()) };
    data.map(make_array).map_err(unusable)
}

fn chunks(stream: &Bound<'_, PyCapsule>) -> PyResult<Vec<ArrayRef>> {
    let pointer = stream.pointer_checked(Some(STREAM))?.cast::<FFI_ArrowArrayStream>();
    // SAFETY: by the interface, a capsule of this name points at such a structure, and moving it out leaves a released one.
    let mut stream = unsafe { FFI_ArrowArrayStream::from_raw(pointer.as_ptr()) };
    let (Some(get_schema), Some(get_next)) = (stream.get_schema, stream.get_next) else {
        return Err(PyValueError::new_err("the Arrow stream was already read"));
    };
    let mut schema = FFI_ArrowSchema::empty();
    // SAFETY: the stream is not released, and the schema is ours.
    if unsafe { get_schema(&mut stream, &mut schema) } != 0 {
        return Err(PyValueError::new_err("the Arrow stream gives no schema"));
    }
    let mut chunks = Vec::new();
    loop {
        let mut array = FFI_ArrowArray::empty();
        // SAFETY: the stream is not released, and the array is ours.
        if unsafe { get_next(&mut stream, &mut array) } != 0 {
            return Err(PyValueError::new_err("the Arrow stream failed while it was read"));
        }
        if array.is_released() {
            break;
        }
        // SAFETY: the array came from the stream whose schema this is.
        chunks.push(make_array(unsafe { from_ffi(array, &schema) }.map_err(unusable)?));
    }
    if chunks.is_empty() {
        chunks.push(new_empty_array(Field::try_from(&schema).map_err(unusable)?.data_type()));
    }
    Ok(chunks)
}

fn unusable(error: ArrowError) -> PyErr {
    PyValueError::new_err(format!("the Arrow data cannot be used: {error}"))
}
