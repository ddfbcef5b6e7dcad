//! `LogReader` and `FileReader`: what a topic or files are, before anything is read.

use std::collections::BTreeMap;
use std::time::Duration;

use iotml_core::pipeline::When;
use iotml_kafka::{LogReader, Select, Until};
use pyo3::prelude::*;

use super::assemble::Assembler;
use super::batch::Shape;
use super::failure::Failure;
use super::files::{self, FileRows};
use super::kafka::KafkaRows;
use super::options::{FileOptions, KafkaOptions, RowOptions};
use super::range::{FileRange, PyLogRange, spans};
use super::reading::LogRead;
use super::rows::RowSource;
use crate::error::{ConfigError, parse};
use crate::process::apart;

/// What a thread is for that may block for long.
const READS: &str = "reads the log";

/// A topic of Kafka and the encoding of its messages, as `iotml.KafkaLog` describes it in JSON. Nothing is connected before a
/// range is asked for or a read begins, and every read has a connection of its own.
#[pyclass(frozen, module = "iotml._iotml", name = "LogReader")]
pub struct PyLogReader {
    options: KafkaOptions,
}

#[pymethods]
impl PyLogReader {
    /// Raises `ConfigError` naming what is wrong with the options.
    #[new]
    fn new(options: &str) -> PyResult<Self> {
        Ok(Self { options: parse(options)? })
    }

    /// The offsets that are meant, as of now; see `iotml.KafkaLog.range`. Times are milliseconds since 1970.
    ///
    /// Raises `SourceError` if the topic cannot be asked.
    #[pyo3(signature = (*, last=None, start=None, end=None, offsets: "dict[int, tuple[int, int]] | None"=None))]
    fn range(
        &self,
        py: Python<'_>,
        last: Option<u64>,
        start: Option<i64>,
        end: Option<i64>,
        offsets: Option<BTreeMap<i32, (i64, i64)>>,
    ) -> PyResult<PyLogRange> {
        let select = match (last, (start, end), offsets) {
            (None, (None, None), None) => Select::All,
            (Some(n), (None, None), None) => Select::Last(n),
            (None, (from, to), None) => Select::Times { from, to },
            (None, (None, None), Some(offsets)) => Select::Offsets(spans(offsets)?),
            _ => return Err(ConfigError::new_err("give last, or start and end, or offsets, not several of them")),
        };
        let config = self.options.log.clone();
        let resolved = apart(py, READS, move || LogReader::open(config)?.resolve(&select).map_err(Failure::from))?;
        resolved.map(PyLogRange).map_err(|failure| failure.raise(py))
    }

    /// Begins to read a range; with ``follow`` from its start on, without an end. ``rows`` says in JSON what to make of the
    /// rows. What goes wrong is raised by the first batch.
    #[pyo3(signature = (range, rows, *, follow=false))]
    fn read(&self, range: &Bound<'_, PyLogRange>, rows: &str, follow: bool) -> PyResult<LogRead> {
        let rows: RowOptions = parse(rows)?;
        let filters = filters(&rows)?;
        let (kafka, range) = (self.options.clone(), range.get().0.clone());
        let until = if follow { Until::Stopped } else { Until::End };
        let max_delay = follow.then(|| Duration::from_millis(rows.max_delay_ms));
        let assembler = Assembler::new(&rows, filters.clone(), !follow);
        let shape = (shape(&rows), rows.batch_rows, max_delay);
        let open = move || {
            let rows = KafkaRows::begin(kafka, &rows, &filters, (&range, until))?;
            Ok(Box::new(rows) as Box<dyn RowSource>)
        };
        LogRead::start(open, assembler, shape)
    }
}

/// Parquet and Avro container files, as `iotml.FileLog` describes them in JSON.
#[pyclass(frozen, module = "iotml._iotml")]
pub struct FileReader {
    options: FileOptions,
}

#[pymethods]
impl FileReader {
    /// Raises `ConfigError` naming what is wrong with the options.
    #[new]
    fn new(options: &str) -> PyResult<Self> {
        Ok(Self { options: parse(options)? })
    }

    /// The rows that are meant: all, the ``last`` so many, or ``(start, end)`` of each file by its number.
    ///
    /// Raises `SourceError` if a file cannot be read.
    #[pyo3(signature = (*, last=None, offsets: "dict[int, tuple[int, int]] | None"=None))]
    fn range(
        &self,
        py: Python<'_>,
        last: Option<u64>,
        offsets: Option<BTreeMap<i32, (i64, i64)>>,
    ) -> PyResult<FileRange> {
        let offsets = offsets.map(spans).transpose()?;
        let paths = self.options.paths.clone();
        let found = apart(py, READS, move || files::resolve(&paths, last, offsets))?;
        found.map_err(|failure| failure.raise(py))
    }

    /// Begins to read; ``rows`` says in JSON what to make of the rows. What goes wrong is raised by the first batch.
    fn read(&self, range: &Bound<'_, FileRange>, rows: &str) -> PyResult<LogRead> {
        let rows: RowOptions = parse(rows)?;
        let filters = filters(&rows)?;
        let names: Vec<&str> = filters.iter().map(When::column).collect();
        let source = FileRows::new(range.get().clone(), self.options.key.clone(), rows.needed(&names));
        let assembler = Assembler::new(&rows, filters, true);
        let shape = (shape(&rows), rows.batch_rows, None);
        LogRead::start(move || Ok(Box::new(source) as Box<dyn RowSource>), assembler, shape)
    }
}

fn filters(rows: &RowOptions) -> PyResult<Vec<When>> {
    if rows.batch_rows == 0 || rows.look_back == Some(0) {
        return Err(ConfigError::new_err("a batch and a window have at least one row"));
    }
    let parsed = rows.filter.iter().map(|text| text.parse::<When>());
    parsed.map(|when| when.map_err(|error| ConfigError::new_err(error.to_string()))).collect()
}

fn shape(rows: &RowOptions) -> Shape {
    Shape { width: rows.features.len(), look_back: rows.look_back, has_labels: rows.label.is_some() }
}
