//! What a plug-in gives back as a column: a NumPy array, a list, or an Arrow array, as an Arrow column of our own.

use std::sync::Arc;

use iotml_core::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, Float64Array, Int64Array, NullArray,
    PrimitiveArray, StringArray, make_array,
};
use iotml_core::arrow::buffer::NullBuffer;
use iotml_core::arrow::compute::cast;
use iotml_core::arrow::datatypes::*;
use numpy::{Element, PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

use super::exception::Raised;
use super::imported::array_of;

/// A column of `n_rows` values; the error says what is wrong with the value called `what`.
///
/// NumPy's floats keep their NaNs: a value is missing only where a masked array, an Arrow array, `None` or `NaT` says so.
pub fn column(value: &Bound<'_, PyAny>, what: &str, n_rows: usize) -> Result<ArrayRef, String> {
    let py = value.py();
    let wrong = |exception: PyErr| format!("{what} cannot be read: {}", Raised::new(py, exception));
    let column = match array_of(value).map_err(wrong)? {
        Some(column) => plain(&column).map_err(|error| format!("{what} cannot be used: {error}"))?,
        None => of_numpy(value, what)?,
    };
    if column.len() != n_rows {
        return Err(format!("{what} has {} values for a batch of {n_rows} rows", column.len()));
    }
    Ok(column)
}

/// The column in the types that the stages behind know.
pub fn plain(column: &ArrayRef) -> Result<ArrayRef, iotml_core::arrow::error::ArrowError> {
    match column.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => cast(column, &DataType::Utf8),
        DataType::LargeBinary | DataType::BinaryView => cast(column, &DataType::Binary),
        DataType::Dictionary(_, values) => plain(&cast(column, values)?),
        _ => Ok(column.clone()),
    }
}

fn of_numpy(value: &Bound<'_, PyAny>, what: &str) -> Result<ArrayRef, String> {
    let py = value.py();
    let wrong = |exception: PyErr| format!("{what} cannot be read: {}", Raised::new(py, exception));
    let array = py.import("numpy").and_then(|numpy| numpy.call_method1("asarray", (value,))).map_err(wrong)?;
    let read = || -> PyResult<(Vec<usize>, String, String)> {
        let kind = array.getattr("dtype")?;
        Ok((array.getattr("shape")?.extract()?, kind.getattr("kind")?.extract()?, kind.str()?.to_string()))
    };
    let (shape, kind, dtype) = read().map_err(wrong)?;
    if shape.len() != 1 {
        let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!("{what} has shape ({shape}); a column has one dimension"));
    }
    let valid = mask_of(value).map_err(wrong)?;
    let column = match (kind.as_str(), dtype.as_str()) {
        ("b", _) => BooleanArray::from(numbers::<bool>(&array).map_err(wrong)?).into_data(),
        (_, "float32") => primitive::<Float32Type>(&array).map_err(wrong)?.into_data(),
        (_, "float64") => primitive::<Float64Type>(&array).map_err(wrong)?.into_data(),
        (_, "float16") => {
            let single = array.call_method1("astype", ("f4",)).map_err(wrong)?;
            primitive::<Float32Type>(&single).map_err(wrong)?.into_data()
        }
        (_, "int8") => primitive::<Int8Type>(&array).map_err(wrong)?.into_data(),
        (_, "int16") => primitive::<Int16Type>(&array).map_err(wrong)?.into_data(),
        (_, "int32") => primitive::<Int32Type>(&array).map_err(wrong)?.into_data(),
        (_, "int64") => primitive::<Int64Type>(&array).map_err(wrong)?.into_data(),
        (_, "uint8") => primitive::<UInt8Type>(&array).map_err(wrong)?.into_data(),
        (_, "uint16") => primitive::<UInt16Type>(&array).map_err(wrong)?.into_data(),
        (_, "uint32") => primitive::<UInt32Type>(&array).map_err(wrong)?.into_data(),
        (_, "uint64") => primitive::<UInt64Type>(&array).map_err(wrong)?.into_data(),
        ("M", _) => times(&array, &dtype).map_err(wrong)?.into_data(),
        ("U" | "S" | "O" | "T", _) => of_objects(&array, what)?.into_data(),
        _ => return Err(format!("{what} is of type {dtype}, which is no type of a column")),
    };
    match valid {
        Some(valid) => with_missing(column, valid).map_err(|error| format!("{what} cannot be used: {error}")),
        None => Ok(make_array(column)),
    }
}

/// Which values of a masked array are there.
fn mask_of(value: &Bound<'_, PyAny>) -> PyResult<Option<NullBuffer>> {
    let numpy = value.py().import("numpy.ma")?;
    if !numpy.call_method1("isMaskedArray", (value,))?.extract::<bool>()? {
        return Ok(None);
    }
    let mask = numpy.call_method1("getmaskarray", (value,))?;
    Ok(Some(NullBuffer::from_iter(numbers::<bool>(&mask)?.into_iter().map(|is_masked| !is_masked))))
}

fn with_missing(
    data: iotml_core::arrow::array::ArrayData,
    valid: NullBuffer,
) -> Result<ArrayRef, iotml_core::arrow::error::ArrowError> {
    let valid = NullBuffer::union(data.nulls(), Some(&valid));
    data.into_builder().nulls(valid).build().map(make_array)
}

fn numbers<T: Element + Copy>(array: &Bound<'_, PyAny>) -> PyResult<Vec<T>> {
    let array = array.cast::<PyArray1<T>>()?.try_readonly()?;
    let view = array.as_array();
    // One copy, contiguous or not: the plug-in keeps its array and may write to it.
    Ok(match view.as_slice() {
        Some(slice) => slice.to_vec(),
        None => view.iter().copied().collect(),
    })
}

fn primitive<T>(array: &Bound<'_, PyAny>) -> PyResult<PrimitiveArray<T>>
where
    T: ArrowPrimitiveType<Native: Element>,
{
    Ok(PrimitiveArray::from_iter_values(numbers::<T::Native>(array)?))
}

fn times(array: &Bound<'_, PyAny>, dtype: &str) -> PyResult<ArrayRef> {
    let unit = match dtype {
        "datetime64[s]" => TimeUnit::Second,
        "datetime64[us]" => TimeUnit::Microsecond,
        "datetime64[ns]" => TimeUnit::Nanosecond,
        _ => TimeUnit::Millisecond,
    };
    let array = match (unit, dtype) {
        (TimeUnit::Millisecond, "datetime64[ms]") => array.clone(),
        (TimeUnit::Millisecond, _) => array.call_method1("astype", ("datetime64[ms]",))?,
        _ => array.clone(),
    };
    let numbers = numbers::<i64>(&array.call_method1("view", ("i8",))?)?;
    let times = Int64Array::from_iter(numbers.into_iter().map(|time| (time != i64::MIN).then_some(time)));
    let times: ArrayRef = Arc::new(times);
    cast(&times, &DataType::Timestamp(unit, None))
        .map_err(|error| pyo3::exceptions::PyValueError::new_err(error.to_string()))
}

/// Texts, bytes, or numbers among `None`s, by the type of the first value that is there.
fn of_objects(array: &Bound<'_, PyAny>, what: &str) -> Result<ArrayRef, String> {
    let py = array.py();
    let wrong = |exception: PyErr| format!("{what} cannot be read: {}", Raised::new(py, exception));
    let values: Vec<Bound<'_, PyAny>> = array.call_method0("tolist").and_then(|list| list.extract()).map_err(wrong)?;
    let Some(first) = values.iter().find(|value| !value.is_none()) else {
        return Ok(Arc::new(NullArray::new(values.len())));
    };
    fn each<'py, T>(
        values: &[Bound<'py, PyAny>],
        read: impl Fn(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> PyResult<Vec<Option<T>>> {
        values.iter().map(|value| if value.is_none() { Ok(None) } else { read(value).map(Some) }).collect()
    }
    let is_float = || values.iter().any(|value| value.is_instance_of::<PyFloat>());
    let column: PyResult<ArrayRef> = if first.is_instance_of::<PyString>() {
        each(&values, |value| value.extract::<String>()).map(|texts| Arc::new(StringArray::from(texts)) as _)
    } else if first.is_instance_of::<PyBytes>() {
        each(&values, |value| Ok(value.cast::<PyBytes>()?.as_bytes().to_vec()))
            .map(|bytes| Arc::new(BinaryArray::from_iter(bytes)) as _)
    } else if first.is_instance_of::<PyBool>() {
        each(&values, |value| value.extract::<bool>()).map(|values| Arc::new(BooleanArray::from(values)) as _)
    } else if first.is_instance_of::<PyInt>() && !is_float() {
        each(&values, |value| value.extract::<i64>()).map(|values| Arc::new(Int64Array::from(values)) as _)
    } else if first.is_instance_of::<PyInt>() || first.is_instance_of::<PyFloat>() {
        each(&values, |value| value.extract::<f64>()).map(|values| Arc::new(Float64Array::from(values)) as _)
    } else {
        let kind = first.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        return Err(format!(
            "{what} holds objects of type {kind}; a column holds numbers, booleans, texts, bytes or times"
        ));
    };
    column.map_err(|exception| format!("{what} holds values of several types: {}", Raised::new(py, exception)))
}
