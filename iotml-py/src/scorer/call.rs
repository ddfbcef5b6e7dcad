//! One call of a scorer: its rows in blocks, without the GIL, and what came out.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use iotml_core::ndarray::{Axis, Slice};
use iotml_model::{EvaluationError, ModelError, RowScorer, Rows, Wants};
use pyo3::prelude::*;

use super::keys::Keys;
use crate::array::View;
use crate::error::{self, ConfigError, ScoreError};

/// Rows per run of the network: enough to be quick, few enough that what lies between its layers stays in the cache.
const MAX_ROWS: usize = 4096;

/// Numbers of input per run, for networks whose rows are long windows.
const MAX_NUMBERS: usize = 1 << 20;

/// The longest time between two looks for Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// The rows of a call.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// A NumPy array.
    Matrix(View<'a>),
    /// Arrow batches.
    Batches(&'a [RecordBatch]),
}

/// What came out, over all rows.
#[derive(Default)]
pub struct Found {
    /// `[n]`, NaN where there is no score.
    pub scores: Vec<f32>,
    /// `[n]`
    pub anomalies: Vec<bool>,
    /// `[n, n_features]`
    pub errors: Vec<f32>,
    /// `[n, width]`
    pub output: Vec<f32>,
    /// `[n]`
    pub labels: Vec<u32>,
    bad: Vec<(usize, String)>,
}

/// Why there is no result.
pub enum Failure {
    /// A signal's handler raised.
    Raised(PyErr),
    /// The rows or the engine are at fault.
    Evaluation(EvaluationError),
    /// No further copy of the model can be opened.
    Model(ModelError),
}

impl Source<'_> {
    /// How many rows there are.
    pub fn n_rows(&self) -> usize {
        match self {
            Source::Matrix(view) => view.n_rows(),
            Source::Batches(batches) => batches.iter().map(RecordBatch::num_rows).sum(),
        }
    }
}

/// Rows of `width` numbers for one run.
pub fn block_rows(width: usize) -> usize {
    (MAX_NUMBERS / width).clamp(1, MAX_ROWS)
}

/// Scores all rows of `source`, block by block; in between Python may handle its signals.
pub fn score(worker: &mut RowScorer, source: Source<'_>, keys: Option<&Keys>, wants: Wants) -> Result<Found, Failure> {
    let size = block_rows(worker.model().input_width());
    let mut found = Found { scores: Vec::with_capacity(source.n_rows()), ..Found::default() };
    let mut pause = Pause::new();
    worker.forget();
    match source {
        Source::Matrix(view) => {
            // At least once, since even no rows at all may be of a wrong width.
            for start in (0..view.n_rows().max(1)).step_by(size) {
                let n = size.min(view.n_rows() - start);
                let rows = Slice::from(start..start + n);
                let rows = match &view {
                    View::F32(matrix) => Rows::F32(matrix.slice_axis(Axis(0), rows)),
                    View::F64(matrix) => Rows::F64(matrix.slice_axis(Axis(0), rows)),
                };
                found.add(worker, rows, keys.map(|keys| keys.slice(0, 0, start, n)), wants)?;
                pause.after(start + n < view.n_rows())?;
            }
        }
        Source::Batches(batches) => {
            for (part, batch) in batches.iter().enumerate() {
                let first = found.scores.len();
                for start in (0..batch.num_rows().max(1)).step_by(size) {
                    let n = size.min(batch.num_rows() - start);
                    let rows = batch.slice(start, n);
                    let keys = keys.map(|keys| keys.slice(part, first, start, n));
                    found.add(worker, Rows::Columns(&rows), keys, wants)?;
                    pause.after(true)?;
                }
            }
        }
    }
    worker.forget();
    Ok(found)
}

impl Found {
    fn add(
        &mut self,
        worker: &mut RowScorer,
        rows: Rows<'_>,
        keys: Option<Vec<&[u8]>>,
        wants: Wants,
    ) -> Result<(), Failure> {
        let first = self.scores.len();
        let scored = worker.score(rows, keys.as_deref(), wants).map_err(Failure::Evaluation)?;
        self.scores.extend_from_slice(scored.scores());
        self.bad.extend(scored.bad().iter().map(|bad| (first + bad.row, bad.cause.to_string())));
        if wants.output {
            self.errors.extend_from_slice(scored.errors());
            self.output.extend_from_slice(scored.output());
            self.labels.extend_from_slice(scored.labels());
            let verdict = |row| scored.is_anomaly(row).unwrap_or(false);
            self.anomalies.extend((0..scored.scores().len()).map(verdict));
        }
        Ok(())
    }

    /// Refuses rows that could not be scored, naming them.
    pub fn check(self, py: Python<'_>) -> PyResult<Self> {
        if self.bad.is_empty() {
            return Ok(self);
        }
        let shown: Vec<_> = self.bad.iter().take(3).map(|(row, cause)| format!("row {row}: {cause}")).collect();
        let more = match self.bad.len() - shown.len() {
            0 => String::new(),
            n => format!("; and {n} more, listed in the exception's `rows`"),
        };
        let (n_bad, n_rows) = (self.bad.len(), self.scores.len());
        let error = ScoreError::new_err(format!(
            "{n_bad} of {n_rows} rows cannot be scored: {}{more}. Drop them, or open the scorer with missing=\"impute\"",
            shown.join("; ")
        ));
        let rows: Vec<usize> = self.bad.into_iter().map(|(row, _)| row).collect();
        error.value(py).setattr("rows", rows)?;
        Err(error)
    }
}

impl Failure {
    /// The exception of it.
    pub fn raise(self, py: Python<'_>) -> PyErr {
        match self {
            Failure::Raised(error) => error,
            Failure::Evaluation(EvaluationError::Feature(error)) => error::raise(py, ConfigError::new_err, &error),
            Failure::Evaluation(error) => error::raise(py, ScoreError::new_err, &error),
            Failure::Model(error) => error::raise(py, error::ModelError::new_err, &error),
        }
    }
}

/// Gives Python a chance to handle signals, every [`SLICE`].
pub struct Pause(Option<Instant>);

impl Pause {
    /// Begins when the first block is done, so that a single one reads no clock.
    pub fn new() -> Self {
        Pause(None)
    }

    /// After a block; `more` follow.
    pub fn after(&mut self, more: bool) -> Result<(), Failure> {
        if !more {
            return Ok(());
        }
        let since = *self.0.get_or_insert_with(Instant::now);
        if since.elapsed() < SLICE {
            return Ok(());
        }
        self.0 = Some(Instant::now());
        // Whoever waits for this copy of the model waits without the GIL, so taking it here locks nobody out.
        Python::attach(|py| py.check_signals()).map_err(Failure::Raised)
    }
}
