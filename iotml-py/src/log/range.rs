//! Ranges of topics and files as Python values.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use iotml_kafka::{LogRange, Span};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

/// Offsets of partitions of one topic: a value that is printed, stored and read again. Reading it again gives the same rows,
/// as long as neither retention nor compaction removes any; where they do, the read says so.
///
/// - ``topic``: the topic's name;
/// - ``partitions``: the offsets ``(start, end)`` of each partition, ``end`` not included;
/// - ``topic_id``: what the broker calls the topic; one that was deleted and created anew has another id, and is not read.
///
/// >>> from iotml import LogRange
/// >>> part = LogRange("sensor-data", {0: (0, 1500), 1: (20, 1480)})
/// >>> part.n_offsets, LogRange.from_dict(part.to_dict()) == part
/// (2960, True)
#[pyclass(frozen, module = "iotml", name = "LogRange")]
#[derive(Clone, Debug)]
pub struct PyLogRange(pub LogRange);

#[pymethods]
impl PyLogRange {
    #[new]
    #[pyo3(signature = (topic, partitions: "dict[int, tuple[int, int]]", topic_id=None))]
    fn new(topic: String, partitions: BTreeMap<i32, (i64, i64)>, topic_id: Option<String>) -> PyResult<Self> {
        Ok(Self(LogRange { topic, topic_id, partitions: spans(partitions)? }))
    }

    /// The topic's name.
    #[getter]
    fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The topic's id, if the broker told one.
    #[getter]
    fn topic_id(&self) -> Option<&str> {
        self.0.topic_id.as_deref()
    }

    /// The offsets ``(start, end)`` of each partition.
    #[getter]
    fn partitions(&self) -> BTreeMap<i32, (i64, i64)> {
        self.0.partitions.iter().map(|(partition, span)| (*partition, (span.start, span.end))).collect()
    }

    /// Number of offsets; messages are as many or, where offsets are without one, fewer.
    #[getter]
    fn n_offsets(&self) -> u64 {
        self.0.n_offsets()
    }

    /// The same range with these partitions only.
    fn only(&self, partitions: Vec<i32>) -> Self {
        Self(self.0.clone().only(|partition| partitions.contains(&partition)))
    }

    /// What `from_dict` takes; it is fit for JSON.
    #[pyo3(signature = () -> "dict[str, Any]")]
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_dict(py, &self.0)
    }

    /// The range that `to_dict` gave. Raises `ConfigError` naming what is wrong with it.
    #[classmethod]
    #[pyo3(signature = (document: "dict[str, Any]"))]
    fn from_dict(_: &Bound<'_, PyType>, document: &Bound<'_, PyAny>) -> PyResult<Self> {
        from_dict(document).map(Self)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyType>, Reduced)> {
        let arguments = (self.0.topic.clone(), self.partitions(), self.0.topic_id.clone());
        Ok((py.get_type::<Self>(), arguments))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| self.0 == other.get().0)
    }

    fn __hash__(&self) -> u64 {
        hash(&self.0)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        let LogRange { topic, topic_id, partitions } = &self.0;
        let spans: Vec<_> = partitions.iter().map(|(n, span)| format!("{n}: ({}, {})", span.start, span.end)).collect();
        let id = topic_id.as_ref().map(|id| format!(", {id:?}")).unwrap_or_default();
        format!("LogRange({topic:?}, {{{}}}{id})", spans.join(", "))
    }
}

/// What `__init__` takes.
type Reduced = (String, BTreeMap<i32, (i64, i64)>, Option<String>);

/// Rows of files: a value that is printed, stored and read again. A file that has changed since is refused.
///
/// Each file is given as ``(path, start, end, size)``: rows from ``start`` up to, but not including, ``end``, and the file's
/// size in bytes.
#[pyclass(frozen, module = "iotml")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRange {
    files: Vec<FileSpan>,
}

/// Rows of one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpan {
    pub path: PathBuf,
    /// `[start, end)`
    pub rows: Span,
    /// Bytes.
    pub size: u64,
}

impl FileRange {
    pub fn of(files: Vec<FileSpan>) -> Self {
        Self { files }
    }

    pub fn spans(&self) -> &[FileSpan] {
        &self.files
    }
}

#[pymethods]
impl FileRange {
    #[new]
    fn new(files: Vec<(PathBuf, i64, i64, u64)>) -> PyResult<Self> {
        let span =
            |(path, start, end, size): (PathBuf, i64, i64, u64)| Ok(FileSpan { path, rows: span(start, end)?, size });
        Ok(Self { files: files.into_iter().map(span).collect::<PyResult<_>>()? })
    }

    /// ``(path, start, end, size)`` of each file.
    #[getter]
    fn files(&self) -> Vec<(PathBuf, i64, i64, u64)> {
        self.files.iter().map(|file| (file.path.clone(), file.rows.start, file.rows.end, file.size)).collect()
    }

    /// Number of rows.
    #[getter]
    fn n_offsets(&self) -> u64 {
        self.files.iter().map(|file| file.rows.len()).sum()
    }

    /// The same range with these files only, by their numbers; the others stay, without rows.
    fn only(&self, numbers: Vec<usize>) -> Self {
        let mut files = self.files.clone();
        for (number, file) in files.iter_mut().enumerate() {
            if !numbers.contains(&number) {
                file.rows.end = file.rows.start;
            }
        }
        Self { files }
    }

    /// What `from_dict` takes; it is fit for JSON.
    #[pyo3(signature = () -> "dict[str, Any]")]
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_dict(py, self)
    }

    /// The range that `to_dict` gave. Raises `ConfigError` naming what is wrong with it.
    #[classmethod]
    #[pyo3(signature = (document: "dict[str, Any]"))]
    fn from_dict(_: &Bound<'_, PyType>, document: &Bound<'_, PyAny>) -> PyResult<Self> {
        from_dict(document)
    }

    #[expect(clippy::type_complexity, reason = "the pair that pickle asks for: a class and its arguments")]
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyType>, (Vec<(PathBuf, i64, i64, u64)>,))> {
        Ok((py.get_type::<Self>(), (self.files(),)))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| self == other.get())
    }

    fn __hash__(&self) -> u64 {
        hash(self)
    }

    fn __repr__(&self) -> String {
        let file = |file: &FileSpan| {
            let FileSpan { path, rows, size } = file;
            format!("({:?}, {}, {}, {size})", path.display().to_string(), rows.start, rows.end)
        };
        format!("FileRange([{}])", self.files.iter().map(file).collect::<Vec<_>>().join(", "))
    }
}

/// Offsets of partitions as Python gives them.
pub fn spans(partitions: BTreeMap<i32, (i64, i64)>) -> PyResult<BTreeMap<i32, Span>> {
    partitions.into_iter().map(|(partition, (start, end))| Ok((partition, span(start, end)?))).collect()
}

fn span(start: i64, end: i64) -> PyResult<Span> {
    Span::try_from((start, end)).map_err(ConfigError::new_err)
}

fn to_dict<'py>(py: Python<'py>, value: &impl Serialize) -> PyResult<Bound<'py, PyAny>> {
    let json = serde_json::to_string(value).map_err(|error| ConfigError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (json,))
}

fn from_dict<T: for<'de> Deserialize<'de>>(document: &Bound<'_, PyAny>) -> PyResult<T> {
    let py = document.py();
    let kwargs = PyDict::new(py);
    // Whatever mapping it is.
    let plain = py.get_type::<PyDict>().call1((document,))?;
    let json: String = py.import("json")?.call_method("dumps", (plain,), Some(&kwargs))?.extract()?;
    serde_json::from_str(&json).map_err(|error| ConfigError::new_err(format!("this is no range: {error}")))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
