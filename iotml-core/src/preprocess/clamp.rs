//! `clamp`: limits columns to a range.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::lookup::{Edited, index_of};
use super::numbers::not_numeric;
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, StageOutput};
use crate::error::ConfigError;

/// Configuration of [`Clamp`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClampConfig {
    /// The columns, each with its limits.
    #[schemars(length(min = 1))]
    pub columns: BTreeMap<String, ClampLimits>,
}

/// One or both ends of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClampLimits {
    /// Lower values become this.
    #[serde(default)]
    pub min: Option<f64>,
    /// Higher values become this.
    #[serde(default)]
    pub max: Option<f64>,
}

/// Puts the nearest limit in the place of every value beyond it, infinities too. The column keeps its type, so limits of
/// an integer column are rounded inwards. Nulls stay null and NaN stays NaN.
#[derive(Clone, Debug)]
pub struct Clamp {
    columns: BTreeMap<String, ClampLimits>,
}

impl Clamp {
    /// Errors, by column, where there is no limit or the limits cross.
    pub fn new(config: ClampConfig) -> Result<Self, ConfigError> {
        if config.columns.is_empty() {
            return Err(ConfigError::new("`columns` names no column"));
        }
        for (name, limits) in &config.columns {
            limits.check().map_err(|what| ConfigError::new(format!("`columns.{name}`: {what}")))?;
        }
        Ok(Self { columns: config.columns })
    }
}

impl ClampLimits {
    /// Says what is wrong, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        match (self.min, self.max) {
            (None, None) => Err("give `min`, `max` or both".to_owned()),
            (min, max) if min.is_some_and(f64::is_nan) || max.is_some_and(f64::is_nan) => {
                Err("a limit is not a number".to_owned())
            }
            (Some(min), Some(max)) if min > max => Err(format!("`min` {min} is above `max` {max}")),
            _ => Ok(()),
        }
    }

    pub(super) fn low(&self) -> f64 {
        self.min.unwrap_or(f64::NEG_INFINITY)
    }

    pub(super) fn high(&self) -> f64 {
        self.max.unwrap_or(f64::INFINITY)
    }

    /// The column within the limits; `None` if it holds no numbers. Errors if no value of its type lies between them.
    fn clamp(&self, array: &ArrayRef) -> Option<Result<ArrayRef, String>> {
        let (low, high) = (self.low(), self.high());
        macro_rules! integers {
            ($arrow:ty, $native:ty) => {{
                // A cast saturates at the ends of the type, where a limit beyond them means none.
                let (min, max) = (low.ceil() as $native, high.floor() as $native);
                if low.ceil() > high.floor() || low > <$native>::MAX as f64 || high < <$native>::MIN as f64 {
                    return Some(Err(format!("no {} lies between {low} and {high}", array.data_type())));
                }
                let values: PrimitiveArray<$arrow> =
                    array.as_primitive_opt::<$arrow>()?.unary(|value| value.clamp(min, max));
                Arc::new(values) as ArrayRef
            }};
        }
        Some(Ok(match array.data_type() {
            DataType::Float32 => {
                let (min, max) = (low as f32, high as f32);
                let values: PrimitiveArray<Float32Type> =
                    array.as_primitive_opt::<Float32Type>()?.unary(|value| value.clamp(min, max));
                Arc::new(values)
            }
            DataType::Float64 => {
                let values: PrimitiveArray<Float64Type> =
                    array.as_primitive_opt::<Float64Type>()?.unary(|value| value.clamp(low, high));
                Arc::new(values)
            }
            DataType::Int8 => integers!(Int8Type, i8),
            DataType::Int16 => integers!(Int16Type, i16),
            DataType::Int32 => integers!(Int32Type, i32),
            DataType::Int64 => integers!(Int64Type, i64),
            DataType::UInt8 => integers!(UInt8Type, u8),
            DataType::UInt16 => integers!(UInt16Type, u16),
            DataType::UInt32 => integers!(UInt32Type, u32),
            DataType::UInt64 => integers!(UInt64Type, u64),
            DataType::Null => array.clone(),
            _ => return None,
        }))
    }
}

impl Preprocessor for Clamp {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let mut edited = Edited::new(batch);
        for (name, limits) in &self.columns {
            let at = index_of(edited.schema(), name)?;
            let array = edited.array(at);
            let clamped = limits.clamp(array);
            let clamped = clamped.unwrap_or_else(|| Err(not_numeric(name, array.data_type())));
            let clamped = clamped.map_err(|what| PreprocessError::fatal(format!("column {name:?}: {what}")))?;
            edited.replace(at, clamped);
        }
        Ok(StageOutput::all(edited.finish()?))
    }
}
