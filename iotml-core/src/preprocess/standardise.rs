//! `standardise`: brings columns to mean 0 and deviation 1.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::lookup::{Edited, index_of};
use super::numbers::map_numbers;
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, StageOutput};
use crate::error::ConfigError;

/// Configuration of [`Standardise`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StandardiseConfig {
    /// The columns, each with its mean and deviation.
    #[schemars(length(min = 1))]
    pub columns: BTreeMap<String, Distribution>,
}

/// How the values of a column are spread.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The value that becomes 0.
    pub mean: f64,
    /// The distance from it that becomes 1; above 0.
    pub std: f64,
}

/// Maps every value `v` of a column to `(v - mean) / std`. Nulls stay null, integers become floats.
#[derive(Clone, Debug)]
pub struct Standardise {
    columns: BTreeMap<String, Distribution>,
}

impl Standardise {
    /// Errors, by column, where a mean is not finite or a deviation is not above 0.
    pub fn new(config: StandardiseConfig) -> Result<Self, ConfigError> {
        if config.columns.is_empty() {
            return Err(ConfigError::new("`columns` names no column"));
        }
        for (name, Distribution { mean, std }) in &config.columns {
            if !mean.is_finite() {
                return Err(ConfigError::new(format!("`columns.{name}`: `mean` is {mean}")));
            }
            if !(std.is_finite() && *std > 0.0) {
                return Err(ConfigError::new(format!("`columns.{name}`: `std` is {std}; it must be above 0")));
            }
        }
        Ok(Self { columns: config.columns })
    }
}

impl Preprocessor for Standardise {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let mut edited = Edited::new(batch);
        for (name, Distribution { mean, std }) in &self.columns {
            let at = index_of(edited.schema(), name)?;
            let standard = map_numbers(name, edited.array(at), |value| (value - mean) / std)?;
            edited.replace(at, standard);
        }
        Ok(StageOutput::all(edited.finish()?))
    }
}
