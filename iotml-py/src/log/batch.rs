//! A batch of rows as Python sees it.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use iotml_core::ndarray::IxDyn;
use numpy::{PyArray1, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PySlice};

use super::block::{Block, Numbers, ORIGIN, Origins};
use crate::array::{Array, Array1};
use crate::capsule;
use crate::column::{Column, Times};
use crate::error::{DecodeError, MissingPackageError, UnknownColumnError};

/// Rows read from a log, in order: by partition, then offset.
///
/// `len(batch)` is the number of rows. Whatever reads Arrow (pyarrow, polars, pandas, DuckDB) reads the batch itself: the
/// columns as they were decoded, not scaled, and the columns `_key`, `_partition`, `_offset` and `_time`.
#[pyclass(frozen, mapping, module = "iotml")]
pub struct LogBatch {
    arrays: Arrays,
    origins: Arc<Origins>,
    rows: Range<usize>,
    /// As they were decoded; put together when they are first asked for.
    columns: OnceLock<RecordBatch>,
}

/// The NumPy arrays of a block, or views of some of its rows.
pub struct Arrays {
    x: Py<PyArrayDyn<f32>>,
    target: Option<Py<PyArrayDyn<f32>>>,
    y: Option<Py<PyArrayDyn<f32>>>,
}

/// The shape of the rows of a read.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub width: usize,
    pub look_back: Option<usize>,
    pub has_labels: bool,
}

impl Arrays {
    /// Takes the numbers over without a copy.
    fn new(py: Python<'_>, numbers: Numbers, n_rows: usize, shape: Shape) -> PyResult<Self> {
        let Shape { width, look_back, has_labels } = shape;
        let array = |values: Vec<f32>, dims: &[usize]| -> PyResult<Py<PyArrayDyn<f32>>> {
            Ok(PyArray1::from_vec(py, values).reshape(IxDyn(dims))?.unbind())
        };
        let (x, target) = match look_back {
            None => (array(numbers.x, &[n_rows, width])?, None),
            Some(look_back) => {
                (array(numbers.x, &[n_rows, look_back, width])?, Some(array(numbers.target, &[n_rows, width])?))
            }
        };
        let y = if has_labels { Some(array(numbers.y, &[n_rows])?) } else { None };
        Ok(Self { x, target, y })
    }

    fn view(&self, py: Python<'_>, rows: &Range<usize>) -> PyResult<Self> {
        let slice = PySlice::new(py, rows.start as isize, rows.end as isize, 1);
        let view = |array: &Py<PyArrayDyn<f32>>| -> PyResult<Py<PyArrayDyn<f32>>> {
            Ok(array.bind(py).get_item(&slice)?.cast_into()?.unbind())
        };
        let views = |array: &Option<_>| array.as_ref().map(view).transpose();
        Ok(Self { x: view(&self.x)?, target: views(&self.target)?, y: views(&self.y)? })
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        let clone = |array: &Option<Py<PyArrayDyn<f32>>>| array.as_ref().map(|array| array.clone_ref(py));
        Self { x: self.x.clone_ref(py), target: clone(&self.target), y: clone(&self.y) }
    }
}

/// A block that is given away batch by batch.
pub struct Cut {
    arrays: Arrays,
    origins: Arc<Origins>,
    n_given: usize,
}

impl Cut {
    pub fn new(py: Python<'_>, block: Block, shape: Shape) -> PyResult<Self> {
        let Block { numbers, origins, .. } = block;
        Ok(Self { arrays: Arrays::new(py, numbers, origins.n_rows, shape)?, origins, n_given: 0 })
    }

    /// The next `n` rows, or what is left of them; `None` at the end.
    pub fn next(&mut self, py: Python<'_>, n: usize) -> PyResult<Option<LogBatch>> {
        let rows = self.n_given..self.origins.n_rows.min(self.n_given + n);
        if rows.is_empty() {
            return Ok(None);
        }
        self.n_given = rows.end;
        let is_all = rows.len() == self.origins.n_rows;
        let arrays = if is_all { self.arrays.clone_ref(py) } else { self.arrays.view(py, &rows)? };
        Ok(Some(LogBatch { arrays, origins: self.origins.clone(), rows, columns: OnceLock::new() }))
    }
}

#[pymethods]
impl LogBatch {
    /// ``(n, n_features)`` float32, scaled as the features say; where windows were asked for ``(n, look_back, n_features)``,
    /// the oldest row first.
    #[getter]
    fn x<'py>(&self, py: Python<'py>) -> Array<'py, f32, IxDyn> {
        Array(self.arrays.x.bind(py).clone())
    }

    /// ``(n, n_features)`` float32: the row that came after each window. ``None`` without windows.
    #[getter]
    fn target<'py>(&self, py: Python<'py>) -> Option<Array<'py, f32, IxDyn>> {
        self.arrays.target.as_ref().map(|target| Array(target.bind(py).clone()))
    }

    /// ``(n,)`` float32: the labels, of the rows after the windows where there are windows. ``None`` without a label.
    #[getter]
    fn y<'py>(&self, py: Python<'py>) -> Option<Array<'py, f32, IxDyn>> {
        self.arrays.y.as_ref().map(|y| Array(y.bind(py).clone()))
    }

    /// Key of each row, ``None`` where it has none.
    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> Vec<Option<Bound<'py, PyBytes>>> {
        self.each(|envelope, row| envelope.key(row).map(|key| PyBytes::new(py, key)))
    }

    /// ``(n,)`` int32: the Kafka partition of each row, or the number of its file.
    #[getter]
    fn partitions<'py>(&self, py: Python<'py>) -> Array1<'py, i32> {
        Array1::of_vec(py, self.each(|envelope, row| envelope.place(row).partition))
    }

    /// ``(n,)`` int64: the offset of each row, or its number in its file.
    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Array1<'py, i64> {
        Array1::of_vec(py, self.each(|envelope, row| envelope.place(row).offset))
    }

    /// ``(n,)`` datetime64[ms]: the time of each message in UTC; NaT where it has none.
    #[getter]
    fn timestamps<'py>(&self, py: Python<'py>) -> PyResult<Times<'py>> {
        Times::of_milliseconds(py, self.each(|envelope, row| envelope.time(row)))
    }

    /// The batch as a `pyarrow.RecordBatch`. Needs pyarrow: ``pip install 'iotml[arrow]'``.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let pyarrow = slf.py().import("pyarrow").map_err(|error| {
            let wanted = MissingPackageError::new_err("to_arrow() needs pyarrow: pip install 'iotml[arrow]'");
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
        capsule::export_batch(py, self.record_batch(py)?)
    }

    /// Names of the columns that were decoded.
    #[getter]
    fn columns(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let schema = self.record_batch(py)?.schema();
        let names = schema.fields().iter().map(|field| field.name().clone());
        Ok(names.filter(|name| !ORIGIN.contains(&name.as_str())).collect())
    }

    /// The column called ``name`` as it was decoded and not scaled, one value a row, read-only. Missing numbers are NaN, missing
    /// times NaT, missing texts and booleans ``None``.
    ///
    /// Raises `UnknownColumnError`, a ``KeyError``, which names the columns there are, and ``TypeError`` for a type that NumPy
    /// has none for, such as a list.
    fn __getitem__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Column<'py>> {
        match self.record_batch(py)?.column_by_name(name) {
            Some(column) => Column::of(py, name, column),
            None => {
                let known = self.columns(py)?.join(", ");
                Err(UnknownColumnError::new_err(format!("there is no column {name:?}; there are: {known}")))
            }
        }
    }

    fn __len__(&self) -> usize {
        self.rows.len()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut parts = Vec::new();
        let Arrays { x, target, y } = &self.arrays;
        for (name, array) in [("x", Some(x)), ("target", target.as_ref()), ("y", y.as_ref())] {
            if let Some(array) = array {
                parts.push(format!("{name} {}", array.bind(py).getattr("shape")?));
            }
        }
        Ok(format!("<LogBatch of {} rows: {}>", self.rows.len(), parts.join(", ")))
    }
}

impl LogBatch {
    fn each<T>(&self, mut of: impl FnMut(&super::rows::Envelope, usize) -> T) -> Vec<T> {
        let mut values = Vec::with_capacity(self.rows.len());
        self.origins.visit(&self.rows, |envelope, row| values.push(of(envelope, row)));
        values
    }

    fn record_batch(&self, py: Python<'_>) -> PyResult<&RecordBatch> {
        if let Some(columns) = self.columns.get() {
            return Ok(columns);
        }
        let columns = py.detach(|| self.origins.columns(&self.rows));
        let columns = columns.map_err(|error: ArrowError| DecodeError::new_err(error.to_string()))?;
        Ok(self.columns.get_or_init(|| columns))
    }
}
