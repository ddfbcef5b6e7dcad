//! NumPy arrays in and out.

use std::convert::Infallible;

use iotml_core::ndarray::{ArrayView1, ArrayView2, Axis, Dimension, Ix1, Ix2};
use numpy::{
    Element, PyArray, PyArray1, PyArray2, PyArrayDescr, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods,
    PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::inspect::PyStaticExpr;
use pyo3::prelude::*;
use pyo3::{type_hint_identifier, type_hint_subscript};

use crate::error::ConfigError;

/// A NumPy array that goes out; its element type stands in the stubs.
pub struct Array<'py, T, D>(pub Bound<'py, PyArray<T, D>>);

/// `(n,)`
pub type Array1<'py, T> = Array<'py, T, Ix1>;
/// `(n, width)`
pub type Array2<'py, T> = Array<'py, T, Ix2>;

/// An element type by its NumPy name.
pub trait Named: Element {
    /// The type as it stands in the stubs.
    const DTYPE: PyStaticExpr;
}

macro_rules! named {
    ($($rust:ty => $numpy:literal),*) => {
        $(impl Named for $rust {
            const DTYPE: PyStaticExpr = type_hint_identifier!("numpy", $numpy);
        })*
    };
}

named!(f32 => "float32", f64 => "float64", bool => "bool_", i32 => "int32", i64 => "int64", u8 => "uint8");

impl<'py, T: Named> Array1<'py, T> {
    /// Takes the numbers over without a copy.
    pub fn of_vec(py: Python<'py>, values: Vec<T>) -> Self {
        Array(PyArray1::from_vec(py, values))
    }
}

impl<'py, T: Named> Array2<'py, T> {
    /// Takes `n_rows` rows of `width` numbers over without a copy.
    pub fn of_rows(py: Python<'py>, values: Vec<T>, n_rows: usize, width: usize) -> PyResult<Self> {
        Ok(Array(PyArray1::from_vec(py, values).reshape([n_rows, width])?))
    }
}

impl<'py, T: Named, D: Dimension> IntoPyObject<'py> for Array<'py, T, D> {
    type Target = PyArray<T, D>;
    type Output = Bound<'py, PyArray<T, D>>;
    type Error = Infallible;

    const OUTPUT_TYPE: PyStaticExpr = type_hint_subscript!(type_hint_identifier!("numpy.typing", "NDArray"), T::DTYPE);

    fn into_pyobject(self, _: Python<'py>) -> Result<Self::Output, Self::Error> {
        Ok(self.0)
    }
}

/// Rows of numbers that came in, borrowed from NumPy.
pub enum Matrix<'py> {
    /// `(n, width)`
    F32(PyReadonlyArray2<'py, f32>),
    /// `(n, width)`
    F64(PyReadonlyArray2<'py, f64>),
    /// `(width,)`: one row
    RowF32(PyReadonlyArray1<'py, f32>),
    /// `(width,)`: one row
    RowF64(PyReadonlyArray1<'py, f64>),
}

/// A view of the rows of a [`Matrix`], which may cross to where the GIL is not held.
#[derive(Clone, Copy)]
pub enum View<'a> {
    /// `[n, width]`
    F32(ArrayView2<'a, f32>),
    /// `[n, width]`
    F64(ArrayView2<'a, f64>),
}

impl View<'_> {
    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        match self {
            View::F32(rows) => rows.nrows(),
            View::F64(rows) => rows.nrows(),
        }
    }
}

impl<'py> Matrix<'py> {
    /// The rows of `value`, of float32 or float64 and of any layout; `None` if it is no NumPy array.
    pub fn of(value: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let Ok(array) = value.cast::<PyUntypedArray>() else { return Ok(None) };
        let plain = plain(array)?;
        match array.ndim() {
            1 => {
                if let Ok(row) = plain.cast::<PyArray1<f32>>() {
                    return Ok(Some(Matrix::RowF32(row.try_readonly().map_err(in_use)?)));
                }
                if let Ok(row) = plain.cast::<PyArray1<f64>>() {
                    return Ok(Some(Matrix::RowF64(row.try_readonly().map_err(in_use)?)));
                }
            }
            2 => {
                if let Ok(rows) = plain.cast::<PyArray2<f32>>() {
                    return Ok(Some(Matrix::F32(rows.try_readonly().map_err(in_use)?)));
                }
                if let Ok(rows) = plain.cast::<PyArray2<f64>>() {
                    return Ok(Some(Matrix::F64(rows.try_readonly().map_err(in_use)?)));
                }
            }
            n_axes => {
                let shape = array.shape();
                let what = format!("the array has {n_axes} axes, {shape:?}, not the 2 of (rows, columns)");
                return Err(ConfigError::new_err(what));
            }
        }
        Err(wrong_dtype(&array.dtype()))
    }

    /// Whether it is one row without an axis of rows.
    pub fn is_row(&self) -> bool {
        matches!(self, Matrix::RowF32(_) | Matrix::RowF64(_))
    }

    /// The rows.
    pub fn view(&self) -> View<'_> {
        match self {
            Matrix::F32(rows) => View::F32(rows.as_array()),
            Matrix::F64(rows) => View::F64(rows.as_array()),
            Matrix::RowF32(row) => View::F32(one(row.as_array())),
            Matrix::RowF64(row) => View::F64(one(row.as_array())),
        }
    }
}

fn one<T>(row: ArrayView1<'_, T>) -> ArrayView2<'_, T> {
    row.insert_axis(Axis(0))
}

fn in_use(error: impl std::fmt::Display) -> PyErr {
    ConfigError::new_err(format!("the array cannot be read now: {error}"))
}

/// `value` as C-contiguous float32 with `width` numbers behind the first axis, copied only if it is not so already.
pub fn contiguous<'py>(value: &Bound<'py, PyAny>, width: usize) -> PyResult<PyReadonlyArrayDyn<'py, f32>> {
    let Ok(array) = value.cast::<PyUntypedArray>() else {
        let what = format!("a NumPy array is needed, not {}", value.get_type().fully_qualified_name()?);
        return Err(ConfigError::new_err(what));
    };
    let (dtype, shape) = (array.dtype(), array.shape());
    if !dtype.is_equiv_to(&numpy::dtype::<f32>(value.py())) && !dtype.is_equiv_to(&numpy::dtype::<f64>(value.py())) {
        return Err(wrong_dtype(&dtype));
    }
    if shape.len() < 2 || shape[1..].iter().product::<usize>() != width {
        let what = format!("the array is of shape {shape:?}, but the network sees rows of {width} numbers");
        return Err(ConfigError::new_err(what));
    }
    let contiguous = value.py().import("numpy")?.call_method1("ascontiguousarray", (array, "float32"))?;
    contiguous.cast::<PyArrayDyn<f32>>()?.try_readonly().map_err(in_use)
}

fn wrong_dtype(dtype: &Bound<'_, PyArrayDescr>) -> PyErr {
    let what = format!("the array is of {dtype}, not float32 or float64: convert it with x.astype(numpy.float32)");
    ConfigError::new_err(what)
}

/// The array itself, or a copy if its numbers lie where a Rust view cannot point: unaligned, or fields of records.
fn plain<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyAny>> {
    if !array.as_any().is_exact_instance_of::<PyUntypedArray>() && array.hasattr("mask")? {
        let what = "the array is masked, and what hides behind a mask must not be scored: fill it with x.filled(...)";
        return Err(ConfigError::new_err(what));
    }
    let item = array.dtype().itemsize().max(1) as isize;
    match array.is_aligned() && array.strides().iter().all(|stride| stride % item == 0) {
        true => Ok(array.as_any().clone()),
        false => array.call_method0("copy"),
    }
}
