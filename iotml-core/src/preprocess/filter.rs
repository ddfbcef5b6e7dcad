//! `filter`: keeps the rows whose value lies within a range.

use arrow::array::Array;
use arrow::datatypes::DataType;
use schemars::JsonSchema;
use serde::Deserialize;

use super::clamp::ClampLimits;
use super::lookup::{index_of, misfit};
use super::numbers::{doubles, not_numeric};
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, Rejected, StageOutput};
use crate::error::{Cause, ConfigError, Reason};

/// Configuration of [`Filter`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterConfig {
    /// The column to look at; it must hold numbers.
    pub column: String,
    /// Lower values are outside.
    #[serde(default)]
    pub min: Option<f64>,
    /// Higher values are outside.
    #[serde(default)]
    pub max: Option<f64>,
    /// What becomes of the rows outside.
    #[serde(default)]
    pub action: FilterAction,
    /// Whether rows without a value, null or NaN, pass; otherwise they are outside.
    #[serde(default)]
    pub keep_missing: bool,
}

/// What becomes of the rows outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum FilterAction {
    /// Left out on purpose: counted and acknowledged.
    #[default]
    Filter,
    /// Rejected: dead-lettered, skipped or fatal, by `errors.tolerance`.
    Reject,
}

/// Keeps the rows whose value in one column lies within `[min, max]`, both ends included. Integers beyond 2^53 are
/// compared as the nearest double.
#[derive(Clone, Debug)]
pub struct Filter {
    column: String,
    limits: ClampLimits,
    action: FilterAction,
    keep_missing: bool,
}

impl Filter {
    /// Errors where there is no limit or the limits cross.
    pub fn new(config: FilterConfig) -> Result<Self, ConfigError> {
        let limits = ClampLimits { min: config.min, max: config.max };
        limits.check().map_err(ConfigError::new)?;
        let FilterConfig { column, action, keep_missing, .. } = config;
        Ok(Self { column, limits, action, keep_missing })
    }

    fn cause(&self, value: Option<f64>, is_single: bool) -> Cause {
        let (column, low, high) = (&self.column, self.limits.low(), self.limits.high());
        match value {
            None => Cause::new(Reason::Missing, format!("column {column:?} has no value")),
            Some(value) if value.is_nan() => Cause::new(Reason::NonFinite, format!("column {column:?} is {value}")),
            Some(value) => {
                let value = if is_single { (value as f32).to_string() } else { value.to_string() };
                Cause::new(Reason::OutOfRange, format!("column {column:?} is {value}, outside [{low}, {high}]"))
            }
        }
    }
}

impl Preprocessor for Filter {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let columns = batch.columns();
        let array = columns.column(index_of(columns.schema_ref(), &self.column)?);
        let values = doubles(array)
            .ok_or_else(|| PreprocessError::fatal(not_numeric(&self.column, array.data_type())))?
            .into_owned();
        let is_single = *array.data_type() == DataType::Float32;
        // A limit of 0.1 includes the single-precision 0.1, which is a little more.
        let limit = |limit: f64| if is_single { f64::from(limit as f32) } else { limit };
        let (low, high) = (limit(self.limits.low()), limit(self.limits.high()));
        let keep = |(value, is_valid): (&f64, bool)| match is_valid && !value.is_nan() {
            true => low <= *value && *value <= high,
            false => self.keep_missing,
        };
        let rows = values.values().iter().enumerate();
        let keep: Vec<bool> = rows.map(|(row, value)| keep((value, values.is_valid(row)))).collect();
        let (batch, outside) = batch.filter(&keep).map_err(misfit)?;
        if self.action == FilterAction::Filter {
            return Ok(StageOutput { batch, rejected: Vec::new(), filtered: outside });
        }
        let value = |row: u32| values.is_valid(row as usize).then(|| values.value(row as usize));
        let rejected = outside.into_iter().map(|row| Rejected { row, cause: self.cause(value(row), is_single) });
        Ok(StageOutput { batch, rejected: rejected.collect(), filtered: Vec::new() })
    }
}
