//! A column as a NumPy array: a read-only view of the column's own memory where NumPy has its type and no value is missing.

use std::convert::Infallible;

use iotml_core::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use iotml_core::arrow::compute::cast;
use iotml_core::arrow::datatypes::*;
use iotml_core::ndarray::{ArrayView1, ArrayView2};
use numpy::{Element, PyArray1, PyArray2};
use pyo3::exceptions::PyTypeError;
use pyo3::inspect::PyStaticExpr;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{type_hint_identifier, type_hint_subscript};

/// A NumPy array of whatever type the column has.
pub struct Column<'py>(Bound<'py, PyAny>);

/// A NumPy array of times.
pub struct Times<'py>(Bound<'py, PyAny>);

impl<'py> Column<'py> {
    /// `column` in NumPy's types, as `pyarrow.Array.to_numpy` has them: missing numbers are NaN, missing times NaT, missing
    /// texts and booleans `None`. Raises `TypeError` for a type that NumPy has none for.
    pub fn of(py: Python<'py>, name: &str, column: &ArrayRef) -> PyResult<Self> {
        array(py, name, column).map(Self)
    }
}

impl<'py> Times<'py> {
    /// Milliseconds since 1970; what core has for "no time" is NumPy's too.
    pub fn of_milliseconds(py: Python<'py>, numbers: Vec<i64>) -> PyResult<Self> {
        as_times(PyArray1::from_vec(py, numbers).into_any(), "ms").map(Self)
    }
}

macro_rules! hinted {
    ($name:ident, $element:expr) => {
        impl<'py> IntoPyObject<'py> for $name<'py> {
            type Target = PyAny;
            type Output = Bound<'py, PyAny>;
            type Error = Infallible;

            const OUTPUT_TYPE: PyStaticExpr =
                type_hint_subscript!(type_hint_identifier!("numpy.typing", "NDArray"), $element);

            fn into_pyobject(self, _: Python<'py>) -> Result<Self::Output, Self::Error> {
                Ok(self.0)
            }
        }
    };
}

hinted!(Column, type_hint_identifier!("typing", "Any"));
hinted!(Times, type_hint_identifier!("numpy", "datetime64"));

/// Keeps a column's memory for the arrays that look at it.
#[pyclass(frozen)]
struct Held {
    #[allow(dead_code, reason = "held, not read")]
    column: ArrayRef,
}

fn array<'py>(py: Python<'py>, name: &str, column: &ArrayRef) -> PyResult<Bound<'py, PyAny>> {
    use DataType::*;
    match column.data_type() {
        Float32 => floats::<Float32Type>(py, column, f32::NAN),
        Float64 => floats::<Float64Type>(py, column, f64::NAN),
        Int8 => integers::<Int8Type>(py, column),
        Int16 => integers::<Int16Type>(py, column),
        Int32 => integers::<Int32Type>(py, column),
        Int64 => integers::<Int64Type>(py, column),
        UInt8 => integers::<UInt8Type>(py, column),
        UInt16 => integers::<UInt16Type>(py, column),
        UInt32 => integers::<UInt32Type>(py, column),
        UInt64 => integers::<UInt64Type>(py, column),
        Boolean if column.null_count() == 0 => {
            Ok(PyArray1::from_iter(py, column.as_boolean().values().iter()).into_any())
        }
        Boolean => objects(py, column.as_boolean().iter()),
        Utf8 => objects(py, column.as_string::<i32>().iter()),
        Binary => objects(py, column.as_binary::<i32>().iter().map(|value| value.map(|bytes| PyBytes::new(py, bytes)))),
        FixedSizeBinary(_) => {
            let values = column.as_fixed_size_binary().iter();
            objects(py, values.map(|value| value.map(|bytes| PyBytes::new(py, bytes))))
        }
        Timestamp(unit, _) => times(py, column, unit_of(*unit)),
        Date32 => times(py, column, "D"),
        Date64 => times(py, column, "ms"),
        FixedSizeList(field, width) if *field.data_type() == Float32 && column.null_count() == 0 => {
            matrix(py, column, *width as usize)
        }
        Dictionary(_, values) => array(py, name, &as_type(column, values)?),
        LargeUtf8 | Utf8View => array(py, name, &as_type(column, &Utf8)?),
        LargeBinary | BinaryView => array(py, name, &as_type(column, &Binary)?),
        other => {
            let message =
                format!("column {name:?} is {other}, which NumPy has no type for; read it through to_arrow()");
            Err(PyTypeError::new_err(message))
        }
    }
}

fn as_times<'py>(numbers: Bound<'py, PyAny>, unit: &str) -> PyResult<Bound<'py, PyAny>> {
    numbers.call_method1("view", (format!("datetime64[{unit}]"),))
}

fn floats<'py, T>(py: Python<'py>, column: &ArrayRef, missing: T::Native) -> PyResult<Bound<'py, PyAny>>
where
    T: ArrowPrimitiveType<Native: Element>,
{
    let values = column.as_primitive::<T>();
    if values.null_count() == 0 {
        return borrowed(py, values, column);
    }
    Ok(PyArray1::from_iter(py, values.iter().map(|value| value.unwrap_or(missing))).into_any())
}

fn integers<'py, T>(py: Python<'py>, column: &ArrayRef) -> PyResult<Bound<'py, PyAny>>
where
    T: ArrowPrimitiveType<Native: Element>,
{
    if column.null_count() == 0 {
        return borrowed(py, column.as_primitive::<T>(), column);
    }
    floats::<Float64Type>(py, &as_type(column, &DataType::Float64)?, f64::NAN)
}

fn times<'py>(py: Python<'py>, column: &ArrayRef, unit: &str) -> PyResult<Bound<'py, PyAny>> {
    let column = as_type(column, &DataType::Int64)?;
    let numbers = match column.null_count() {
        0 => borrowed(py, column.as_primitive::<Int64Type>(), &column)?,
        // The smallest number is NumPy's "not a time".
        _ => {
            let times = column.as_primitive::<Int64Type>().iter();
            PyArray1::from_iter(py, times.map(|time| time.unwrap_or(i64::MIN))).into_any()
        }
    };
    as_times(numbers, unit)
}

fn matrix<'py>(py: Python<'py>, column: &ArrayRef, width: usize) -> PyResult<Bound<'py, PyAny>> {
    let list = column.as_fixed_size_list();
    let values = list.values().as_primitive::<Float32Type>();
    let from = list.value_offset(0).max(0) as usize;
    let values = values.values().get(from..from + list.len() * width).unwrap_or_default();
    let view = ArrayView2::from_shape((list.len(), width), values)
        .map_err(|error| PyTypeError::new_err(format!("the lists have no common length: {error}")))?;
    let held = Bound::new(py, Held { column: column.clone() })?.into_any();
    // SAFETY: the memory is the column's, which `held` keeps and nobody writes to.
    let array = unsafe { PyArray2::borrow_from_array(&view, held) };
    read_only(array.into_any())
}

fn borrowed<'py, T>(py: Python<'py>, values: &PrimitiveArray<T>, column: &ArrayRef) -> PyResult<Bound<'py, PyAny>>
where
    T: ArrowPrimitiveType<Native: Element>,
{
    let held = Bound::new(py, Held { column: column.clone() })?.into_any();
    // SAFETY: the memory is the column's, which `held` keeps and nobody writes to.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(&values.values()[..]), held) };
    read_only(array.into_any())
}

/// Other stages look at the same memory.
fn read_only(array: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    array.call_method1("setflags", (false,))?;
    Ok(array)
}

fn objects<'py, V: IntoPyObject<'py>>(
    py: Python<'py>,
    values: impl Iterator<Item = Option<V>>,
) -> PyResult<Bound<'py, PyAny>> {
    let list = PyList::empty(py);
    values.into_iter().try_for_each(|value| list.append(value))?;
    // An array made of the list at once would take bytes or lists of one length for more dimensions.
    let numpy = py.import("numpy")?;
    let array = numpy.call_method1("empty", (list.len(), "O"))?;
    array.set_item(pyo3::types::PySlice::full(py), list)?;
    Ok(array)
}

fn as_type(column: &ArrayRef, kind: &DataType) -> PyResult<ArrayRef> {
    cast(column, kind).map_err(|error| PyTypeError::new_err(error.to_string()))
}

fn unit_of(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}
