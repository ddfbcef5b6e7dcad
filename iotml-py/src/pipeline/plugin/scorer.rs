//! A scorer written in Python.

use std::sync::Arc;

use iotml_core::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, RecordBatch, RecordBatchOptions, StringArray,
};
use iotml_core::arrow::compute::{cast, concat};
use iotml_core::arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Schema};
use iotml_core::async_trait;
use iotml_core::batch::{Batch, Rejected, StageOutput};
use iotml_core::error::{Cause, ConfigError, Reason};
use iotml_core::pipeline::{TaskContext, Tolerance};
use iotml_core::score::{ScoreError, Scorer, Threshold, column};
use iotml_core::state::Stateful;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use serde_json::Value;

use super::batch::PyBatch;
use super::columns;
use super::exception::{Failed, Raised};
use super::parts::{Parts, in_parts};
use super::stage::{Definition, ENDING, Instance, attached};

/// Calls `score(batch)` once a batch, with the GIL, in the task's thread.
#[derive(Debug)]
pub struct PythonScorer {
    instance: Instance,
    tolerance: Tolerance,
}

/// The columns that a scorer appends.
const APPENDED: [&str; 5] = [column::SCORE, column::THRESHOLD, column::ANOMALY, column::MODEL, column::MODEL_VERSION];

/// What `score(batch)` gave back for some rows.
struct Scores {
    score: Float32Array,
    anomaly: Option<BooleanArray>,
}

/// What the instance says of itself, asked once a batch: every row names one version (invariant 8).
struct Model {
    name: String,
    version: String,
    threshold: Option<f32>,
}

impl PythonScorer {
    /// Errs with what the factory raised.
    pub fn new(definition: &Arc<Definition>, config: &Value) -> Result<Self, ConfigError> {
        Ok(Self { instance: Instance::new(definition, config)?, tolerance: Tolerance::default() })
    }

    fn call(&self, py: Python<'_>, batch: &Batch) -> Result<Scores, Failed> {
        let raised = |exception| Failed::raised(py, exception, false);
        let given = Bound::new(py, PyBatch::new(batch.clone(), self.instance.partitions())).map_err(raised)?.into_any();
        let answer = self.instance.call(py, given).map_err(raised)?;
        Scores::read(&answer, batch.len()).map_err(Failed::broke)
    }

    fn score_parts(&self, py: Python<'_>, batch: &Batch) -> Result<(Parts<Scores>, Model), Failed> {
        let model = Model::of(py, &self.instance).map_err(|exception| Failed::raised(py, exception, false))?;
        let parts = in_parts(batch.len(), self.tolerance, self.instance.keeps_state(), |part| {
            if part.len() == batch.len() {
                return self.call(py, batch);
            }
            let rows: Vec<u32> = (part.start as u32..part.end as u32).collect();
            self.call(py, &batch.take(&rows).map_err(|error| Failed::Fatal(error.into()))?)
        });
        Ok((parts?, model))
    }

    fn error(failed: Failed) -> ScoreError {
        match failed {
            Failed::Rows(raised) => ScoreError::Record(raised.into_cause()),
            Failed::Later(raised) => ScoreError::retryable_from("score(batch) asks to be tried again", raised),
            Failed::Fatal(error) => ScoreError::fatal_from("score(batch) failed", error),
        }
    }
}

#[async_trait]
impl Scorer for PythonScorer {
    async fn open(&mut self, task: &TaskContext) -> Result<(), ScoreError> {
        self.tolerance = task.tolerance;
        let opened = attached(|py| self.instance.open(py, task).map_err(|exception| Raised::new(py, exception)));
        match opened {
            Some(opened) => opened.map_err(|raised| ScoreError::fatal_from("open(task) failed", raised)),
            None => Err(ScoreError::fatal(ENDING)),
        }
    }

    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        if let Some(name) = APPENDED.iter().find(|name| batch.column(name).is_some()) {
            let message = format!("the batch already has a column {name:?}; rename it before it is scored");
            return Err(ScoreError::fatal(message));
        }
        let scored = attached(|py| self.score_parts(py, &batch));
        let (parts, model) = scored.ok_or_else(|| ScoreError::fatal(ENDING))?.map_err(Self::error)?;
        append(batch, parts, &model).map_err(|what| Self::error(Failed::broke(what)))
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        self.instance.state()
    }
}

impl Scores {
    /// An array of scores, or a tuple of scores and verdicts.
    fn read(answer: &Bound<'_, PyAny>, n_rows: usize) -> Result<Self, String> {
        let (score, anomaly) = match answer.cast::<PyTuple>() {
            Ok(pair) => {
                let pair: Result<(Bound<'_, PyAny>, Bound<'_, PyAny>), _> = pair.extract();
                let (score, anomaly) = pair.map_err(|_| {
                    "score(batch) returned a tuple that is no pair; return the scores, or (scores, anomalies)"
                        .to_owned()
                })?;
                (score, Some(anomaly).filter(|anomaly| !anomaly.is_none()))
            }
            Err(_) if answer.is_none() => return Err("score(batch) returned None; return one score a row".to_owned()),
            Err(_) => (answer.clone(), None),
        };
        let score = columns::column(&score, "what score(batch) returned", n_rows)?;
        if !score.data_type().is_numeric() && *score.data_type() != DataType::Null {
            return Err(format!("score(batch) returned values of type {}; a score is a number", score.data_type()));
        }
        let single = cast(&score, &DataType::Float32).map_err(|error| format!("the scores are no numbers: {error}"))?;
        let anomaly = anomaly.map(|anomaly| {
            let verdicts = columns::column(&anomaly, "the second of what score(batch) returned", n_rows)?;
            let of_kind =
                || format!("score(batch) returned verdicts of type {}; a verdict is boolean", verdicts.data_type());
            verdicts.as_boolean_opt().cloned().ok_or_else(of_kind)
        });
        Ok(Self { score: single.as_primitive::<Float32Type>().clone(), anomaly: anomaly.transpose()? })
    }
}

impl Model {
    fn of(py: Python<'_>, instance: &Instance) -> PyResult<Self> {
        let text = |name: &str| {
            Ok::<_, PyErr>(match instance.attribute(py, name)? {
                Some(value) => Some(value.str()?.to_string()),
                None => None,
            })
        };
        let threshold = instance.attribute(py, "threshold")?.map(|limit| limit.extract::<f32>()).transpose()?;
        Ok(Self {
            name: text("name")?.unwrap_or_else(|| instance.name().to_owned()),
            version: text("version")?.unwrap_or_else(|| "1".to_owned()),
            threshold,
        })
    }
}

/// Appends the columns of a scorer to the rows that were scored.
fn append(batch: Batch, parts: Parts<Scores>, model: &Model) -> Result<StageOutput, String> {
    let Parts { good, mut rejected } = parts;
    let rows: Vec<u32> = good.iter().flat_map(|(part, _)| part.start as u32..part.end as u32).collect();
    let score = joined(good.iter().map(|(_, scores)| &scores.score as &dyn Array))?;
    let score = match &score {
        Some(score) => score.as_primitive::<Float32Type>().clone(),
        None => Float32Array::from(Vec::<f32>::new()),
    };
    let has_verdicts = good.iter().filter(|(_, scores)| scores.anomaly.is_some()).count();
    if has_verdicts != 0 && has_verdicts != good.len() {
        return Err("score(batch) returned verdicts for some rows of a batch and none for others".to_owned());
    }
    let verdicts = joined(good.iter().filter_map(|(_, scores)| Some(scores.anomaly.as_ref()? as &dyn Array)))?;
    let limits = model.threshold.map(|limit| Threshold::fixed(f64::from(limit)).limits::<&str>(&[])).transpose();
    let limits = limits.map_err(|error| format!("the scorer's attribute `threshold`: {error}"))?.unwrap_or_default();

    let (mut kept, mut scores, mut anomalies) = (Vec::new(), Vec::new(), Vec::new());
    for (at, row) in rows.iter().enumerate() {
        let value = score.is_valid(at).then(|| score.value(at));
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            let cause = Cause::new(Reason::NonFinite, format!("the score is {value}"));
            rejected.push(Rejected { row: *row, cause });
            continue;
        }
        kept.push(*row);
        scores.push(value);
        anomalies.push(match (&verdicts, value) {
            (_, None) => None,
            (Some(verdicts), _) => {
                let verdicts = verdicts.as_boolean();
                verdicts.is_valid(at).then(|| verdicts.value(at))
            }
            (None, Some(value)) => limits.decide(value, &[]),
        });
    }
    rejected.sort_by_key(|rejected| rejected.row);
    let batch = if rejected.is_empty() { batch } else { batch.take(&kept).map_err(|error| error.to_string())? };
    let n_rows = batch.len();
    let text = |text: &str| Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, n_rows))) as ArrayRef;
    let appended: [(&str, ArrayRef); 5] = [
        (column::SCORE, Arc::new(Float32Array::from(scores))),
        (column::THRESHOLD, Arc::new(Float32Array::from_iter(std::iter::repeat_n(limits.score(), n_rows)))),
        (column::ANOMALY, Arc::new(BooleanArray::from(anomalies))),
        (column::MODEL, text(&model.name)),
        (column::MODEL_VERSION, text(&model.version)),
    ];
    let schema = batch.columns().schema();
    let added = appended.iter().map(|(name, array)| Arc::new(Field::new(*name, array.data_type().clone(), true)));
    let fields: Vec<FieldRef> = schema.fields().iter().cloned().chain(added).collect();
    let arrays = batch.columns().columns().iter().cloned().chain(appended.iter().map(|(_, array)| array.clone()));
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    let columns = RecordBatch::try_new_with_options(schema, arrays.collect(), &options);
    let batch = columns.and_then(|columns| batch.with_columns(columns)).map_err(|error| error.to_string())?;
    Ok(StageOutput { batch, rejected, filtered: Vec::new() })
}

/// The arrays in one; `None` where there are none.
fn joined<'a>(arrays: impl Iterator<Item = &'a dyn Array>) -> Result<Option<ArrayRef>, String> {
    let arrays: Vec<_> = arrays.collect();
    if arrays.is_empty() {
        return Ok(None);
    }
    concat(&arrays).map(Some).map_err(|error| error.to_string())
}
