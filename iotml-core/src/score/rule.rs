//! `threshold`: judges rows by a column that is already there.

use std::iter::repeat_n;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float32Array, Float64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use super::threshold::{Limits, Threshold};
use super::{ScoreError, Scorer, column};
use crate::batch::{Batch, Rejected, StageOutput};
use crate::error::{Cause, ConfigError, Reason};
use crate::preprocess::{doubles, not_numeric, unknown_column};

/// Configuration of [`ThresholdScorer`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ThresholdScorerConfig {
    /// The numeric column that is the score; higher is more anomalous.
    pub column: String,
    /// When a row is an anomaly. Limits per feature are limits on columns of those names.
    pub threshold: Threshold,
    /// Stands in the column `model`.
    #[serde(default = "default_name")]
    pub name: String,
    /// Stands in the column `model_version`.
    #[serde(default = "default_version")]
    pub version: String,
    /// Put before the names of the columns it appends, where those are taken.
    #[serde(default)]
    pub prefix: String,
}

fn default_name() -> String {
    "threshold".to_owned()
}

fn default_version() -> String {
    "1".to_owned()
}

impl ThresholdScorerConfig {
    /// Judges rows by `column`.
    pub fn new(column: impl Into<String>, threshold: Threshold) -> Self {
        let prefix = String::new();
        Self { column: column.into(), threshold, name: default_name(), version: default_version(), prefix }
    }
}

/// A scorer without a model: takes a numeric column as the score and judges it by a [`Threshold`].
#[derive(Clone, Debug)]
pub struct ThresholdScorer {
    column: String,
    /// The columns with limits of their own.
    features: Vec<String>,
    limits: Limits,
    name: String,
    version: String,
    fields: [FieldRef; 5],
}

impl ThresholdScorer {
    /// Errors if the threshold cannot judge anything.
    pub fn new(config: ThresholdScorerConfig) -> Result<Self, ConfigError> {
        let ThresholdScorerConfig { column, threshold, name, version, prefix } = config;
        let features: Vec<String> = threshold.per_feature.keys().cloned().collect();
        let limits = threshold.limits(&features);
        let limits = limits.map_err(|source| ConfigError::with(format!("`threshold`: {source}"), source))?;
        let field = |name, data_type, nullable| Arc::new(Field::new(format!("{prefix}{name}"), data_type, nullable));
        let fields = [
            field(column::SCORE, DataType::Float32, true),
            field(column::THRESHOLD, DataType::Float32, true),
            field(column::ANOMALY, DataType::Boolean, true),
            field(column::MODEL, DataType::Utf8, false),
            field(column::MODEL_VERSION, DataType::Utf8, false),
        ];
        Ok(Self { column, features, limits, name, version, fields })
    }

    fn append(&self, batch: Batch, scores: Vec<f32>, verdicts: Vec<Option<bool>>) -> Result<Batch, ScoreError> {
        let n_rows = batch.len();
        let text = |text: &String| Arc::new(StringArray::from_iter_values(repeat_n(text, n_rows))) as ArrayRef;
        let appended: [ArrayRef; 5] = [
            Arc::new(Float32Array::from(scores)),
            Arc::new(Float32Array::from_iter(repeat_n(self.limits.score(), n_rows))),
            Arc::new(BooleanArray::from(verdicts)),
            text(&self.name),
            text(&self.version),
        ];
        let schema = batch.columns().schema();
        let fields: Vec<FieldRef> = schema.fields().iter().chain(&self.fields).cloned().collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let arrays = batch.columns().columns().iter().cloned().chain(appended).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let columns = RecordBatch::try_new_with_options(schema, arrays, &options);
        columns.and_then(|columns| batch.with_columns(columns)).map_err(misfit)
    }
}

impl Scorer for ThresholdScorer {
    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        let schema = batch.columns().schema();
        if let Some(taken) = self.fields.iter().find(|field| schema.column_with_name(field.name()).is_some()) {
            let name = taken.name();
            let message = format!("the batch already has a column {name:?}; set `prefix`, or rename it before");
            return Err(ScoreError::fatal(message));
        }
        if batch.is_empty() {
            let batch = self.append(batch, Vec::new(), Vec::new())?;
            return Ok(StageOutput::all(batch));
        }
        let names = || [&self.column].into_iter().chain(&self.features);
        let inputs = names().map(|name| open(&batch, name)).collect::<Result<Vec<_>, _>>()?;

        let (mut kept, mut rejected) = (Vec::with_capacity(batch.len()), Vec::new());
        let (mut scores, mut verdicts) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut numbers = vec![0.0; inputs.len()];
        for row in 0..batch.len() {
            let mut read = numbers.iter_mut().zip(&inputs).zip(names());
            match read.try_for_each(|((number, input), name)| value(input, row, name).map(|value| *number = value)) {
                Ok(()) => {
                    kept.push(row as u32);
                    scores.push(numbers[0]);
                    verdicts.push(self.limits.decide(numbers[0], &numbers[1..]));
                }
                Err(cause) => rejected.push(Rejected { row: row as u32, cause }),
            }
        }
        let batch = if rejected.is_empty() { batch } else { batch.take(&kept).map_err(misfit)? };
        Ok(StageOutput { batch: self.append(batch, scores, verdicts)?, rejected, filtered: Vec::new() })
    }
}

fn open(batch: &Batch, name: &str) -> Result<Float64Array, ScoreError> {
    let columns = batch.columns();
    let array = batch.column(name).ok_or_else(|| ScoreError::fatal(unknown_column(name, columns.schema_ref())))?;
    let numbers = doubles(array).ok_or_else(|| ScoreError::fatal(not_numeric(name, array.data_type())))?;
    Ok(numbers.into_owned())
}

/// The number of a row as a score, which is single precision.
fn value(input: &Float64Array, row: usize, name: &str) -> Result<f32, Cause> {
    if input.is_null(row) {
        return Err(Cause::new(Reason::Missing, format!("column {name:?} has no value")));
    }
    let (number, single) = (input.value(row), input.value(row) as f32);
    match (single.is_finite(), number.is_finite()) {
        (true, _) => Ok(single),
        (false, true) => {
            Err(Cause::new(Reason::OutOfRange, format!("column {name:?} is {number:e}, beyond a float32")))
        }
        (false, false) => Err(Cause::new(Reason::NonFinite, format!("column {name:?} is {number}"))),
    }
}

fn misfit(source: arrow::error::ArrowError) -> ScoreError {
    ScoreError::fatal_from(format!("columns do not fit together: {source}"), source)
}
