//! `scale`: maps columns from one range onto another.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array};
use arrow::datatypes::DataType;
use schemars::JsonSchema;
use serde::Deserialize;

use super::lookup::{Edited, index_of};
use super::numbers::{float_type, map_numbers};
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, StageOutput};
use crate::error::ConfigError;

/// Configuration of [`Scale`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleConfig {
    /// The columns to scale, each with its range.
    #[schemars(length(min = 1))]
    pub columns: BTreeMap<String, ScaleColumn>,
    /// What `min` and `max` become.
    #[serde(default = "unit_range")]
    pub range: [f64; 2],
}

/// How one column is scaled: `min` and `max`, or `constant`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleColumn {
    /// The value that becomes the lower end of `range`.
    #[serde(default)]
    pub min: Option<f64>,
    /// The value that becomes the upper end of `range`.
    #[serde(default)]
    pub max: Option<f64>,
    /// Every row holds this number instead, already scaled; the column is added where it is missing.
    #[serde(default)]
    pub constant: Option<f64>,
}

impl ScaleColumn {
    /// From `min..max` onto the range.
    pub fn range(min: f64, max: f64) -> Self {
        Self { min: Some(min), max: Some(max), constant: None }
    }

    /// The same number in every row.
    pub fn constant(value: f64) -> Self {
        Self { min: None, max: None, constant: Some(value) }
    }
}

/// The default of `range`: -1 to 1.
fn unit_range() -> [f64; 2] {
    [-1.0, 1.0]
}

/// Maps the values of columns linearly from `min..max` onto a range. Values outside go on along the line: put `clamp`
/// before it where they must not. Nulls stay null, integers become floats.
///
/// A model brings its own scaling along, so this is for other uses.
#[derive(Clone, Debug)]
pub struct Scale {
    columns: Vec<(String, Mapping)>,
}

#[derive(Clone, Copy, Debug)]
enum Mapping {
    Linear { from: f64, per_unit: f64, to: f64 },
    Constant(f64),
}

impl Scale {
    /// Errors, by column, where the numbers make no range.
    pub fn new(config: ScaleConfig) -> Result<Self, ConfigError> {
        let [low, high] = config.range;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(ConfigError::new(format!("`range` [{low}, {high}] must rise and be finite")));
        }
        if config.columns.is_empty() {
            return Err(ConfigError::new("`columns` names no column"));
        }
        let mapping = |(name, column): (String, ScaleColumn)| {
            let wrong = |what: String| Err(ConfigError::new(format!("`columns.{name}`: {what}")));
            let mapping = match (column.min, column.max, column.constant) {
                (None, None, Some(constant)) if constant.is_finite() => Mapping::Constant(constant),
                (None, None, Some(constant)) => return wrong(format!("`constant` is {constant}")),
                (Some(min), Some(max), None) if min.is_finite() && max.is_finite() && min < max => {
                    Mapping::Linear { from: min, per_unit: (high - low) / (max - min), to: low }
                }
                (Some(min), Some(max), None) => {
                    return wrong(format!("`min` {min} must be below `max` {max}; for one value give `constant`"));
                }
                _ => return wrong("give either `min` and `max`, or `constant`".to_owned()),
            };
            Ok((name, mapping))
        };
        Ok(Self { columns: config.columns.into_iter().map(mapping).collect::<Result<_, _>>()? })
    }
}

impl Preprocessor for Scale {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let mut edited = Edited::new(batch);
        for (name, mapping) in &self.columns {
            match *mapping {
                Mapping::Linear { from, per_unit, to } => {
                    let at = index_of(edited.schema(), name)?;
                    let scaled = map_numbers(name, edited.array(at), |value| (value - from) * per_unit + to)?;
                    edited.replace(at, scaled);
                }
                Mapping::Constant(value) => match index_of(edited.schema(), name) {
                    Ok(at) => {
                        let float = float_type(edited.array(at).data_type());
                        edited.replace(at, constant(value, float.as_ref(), edited.len()));
                    }
                    Err(_) => edited.push(name, constant(value, None, edited.len())),
                },
            }
        }
        Ok(StageOutput::all(edited.finish()?))
    }
}

/// `len` times the number, in double precision only where the column had it.
fn constant(value: f64, float: Option<&DataType>, len: usize) -> ArrayRef {
    match float {
        Some(DataType::Float64) => Arc::new(Float64Array::from_value(value, len)),
        _ => Arc::new(Float32Array::from_value(value as f32, len)),
    }
}
