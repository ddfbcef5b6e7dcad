//! What `predict` gives.

use numpy::{PyArray, PyArray1, PyArray2};
use pyo3::prelude::*;

use super::call::Found;
use crate::array::{Array, Array1, Array2};

/// Scores with what they come from, one entry a row of the input. Arrays are NumPy's.
///
/// Fields that the model's kind does not have are ``None``.
#[pyclass(frozen, module = "iotml")]
pub struct Prediction {
    score: Py<PyArray1<f32>>,
    anomaly: Option<Py<PyArray1<bool>>>,
    reconstruction: Option<Py<PyArray2<f32>>>,
    errors: Option<Py<PyArray2<f32>>>,
    probabilities: Option<Py<PyArray2<f32>>>,
    labels: Option<Vec<String>>,
}

/// What of it the model's kind has.
pub struct Parts<'a> {
    /// Whether the manifest has a threshold.
    pub threshold: bool,
    /// Whether a score is the mean of squared errors.
    pub errors: bool,
    /// The classes, if it is a classifier.
    pub classes: &'a [String],
    /// Numbers of a row of the output.
    pub width: usize,
}

impl Prediction {
    pub(super) fn new(py: Python<'_>, found: Found, parts: &Parts<'_>) -> PyResult<Self> {
        let n_rows = found.scores.len();
        let rows = |values| PyResult::Ok(Array2::of_rows(py, values, n_rows, parts.width)?.0.unbind());
        let is_classifier = !parts.classes.is_empty();
        let label = |label: &u32| parts.classes[*label as usize].clone();
        let labels = is_classifier.then(|| found.labels.iter().map(label).collect());
        let errors = if parts.errors { Some(rows(found.errors)?) } else { None };
        let (mut reconstruction, mut probabilities) = (None, None);
        if parts.errors {
            reconstruction = Some(rows(found.output)?);
        } else if is_classifier {
            probabilities = Some(rows(found.output)?);
        }
        Ok(Prediction {
            score: PyArray::from_vec(py, found.scores).unbind(),
            anomaly: parts.threshold.then(|| PyArray::from_vec(py, found.anomalies).unbind()),
            reconstruction,
            errors,
            probabilities,
            labels,
        })
    }
}

#[pymethods]
impl Prediction {
    /// ``(n,)`` float32: the higher, the more anomalous. NaN for a row of a ``next_event`` model that has too few rows of its
    /// key before it.
    #[getter]
    fn score<'py>(&self, py: Python<'py>) -> Array1<'py, f32> {
        Array(self.score.bind(py).clone())
    }

    /// ``(n,)`` bool: whether the score, or the error of a feature, has reached the manifest's threshold. ``None`` if the
    /// manifest has none.
    #[getter]
    fn anomaly<'py>(&self, py: Python<'py>) -> Option<Array1<'py, bool>> {
        self.anomaly.as_ref().map(|anomaly| Array(anomaly.bind(py).clone()))
    }

    /// ``(n, n_features)`` float32, in scaled units: the rows as the model gives them back, or as it expected them from the
    /// rows before. ``None`` for the kinds ``score`` and ``classifier``.
    #[getter]
    fn reconstruction<'py>(&self, py: Python<'py>) -> Option<Array2<'py, f32>> {
        self.reconstruction.as_ref().map(|rows| Array(rows.bind(py).clone()))
    }

    /// ``(n, n_features)`` float32: the squared error of every feature, in scaled units; their mean is the score. ``None`` as
    /// for ``reconstruction``.
    #[getter]
    fn errors<'py>(&self, py: Python<'py>) -> Option<Array2<'py, f32>> {
        self.errors.as_ref().map(|rows| Array(rows.bind(py).clone()))
    }

    /// ``(n, n_classes)`` float32, of a classifier; ``(n, 1)`` if its model gives only that of the second of two classes.
    #[getter]
    fn probabilities<'py>(&self, py: Python<'py>) -> Option<Array2<'py, f32>> {
        self.probabilities.as_ref().map(|rows| Array(rows.bind(py).clone()))
    }

    /// The most likely class of each row, of a classifier.
    #[getter]
    fn labels(&self) -> Option<Vec<String>> {
        self.labels.clone()
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.score.bind(py).len()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        use numpy::PyArrayMethods;
        let n = self.score.bind(py).len()?;
        Ok(match &self.anomaly {
            Some(anomaly) => {
                let n_anomalies = anomaly.bind(py).readonly().as_array().iter().filter(|anomaly| **anomaly).count();
                format!("<Prediction of {n} rows, {n_anomalies} of them anomalies>")
            }
            None => format!("<Prediction of {n} rows>"),
        })
    }
}
