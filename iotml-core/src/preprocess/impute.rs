//! `impute`: fills in missing values.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, is_null};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use schemars::JsonSchema;
use serde::Deserialize;

use super::cells::Cells;
use super::lookup::{Edited, index_of, misfit};
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, StageOutput};
use crate::error::ConfigError;

/// Configuration of [`Impute`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImputeConfig {
    /// The columns, each with the value that takes the place of a missing one.
    #[schemars(length(min = 1))]
    pub columns: BTreeMap<String, Constant>,
    /// Whether NaN counts as missing, too.
    #[serde(default)]
    pub nan: bool,
}

/// A value as configured.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Constant {
    /// For columns of booleans.
    Boolean(bool),
    /// For columns of numbers.
    Number(f64),
    /// For columns of text; dates and times in RFC 3339 form.
    Text(String),
}

/// Puts a constant in the place of every null, and of NaN where asked for. The column keeps its type; a constant that does
/// not fit the type is an error of the first batch.
#[derive(Clone, Debug)]
pub struct Impute {
    columns: BTreeMap<String, Constant>,
    nan: bool,
}

impl Impute {
    /// Errors if no column is named.
    pub fn new(config: ImputeConfig) -> Result<Self, ConfigError> {
        if config.columns.is_empty() {
            return Err(ConfigError::new("`columns` names no column"));
        }
        Ok(Self { columns: config.columns, nan: config.nan })
    }

    /// Marks the missing values; `None` if there are none.
    fn missing(&self, array: &ArrayRef) -> Result<Option<BooleanArray>, PreprocessError> {
        let nans = |is_nan: &dyn Fn(usize) -> bool| BooleanBuffer::collect_bool(array.len(), is_nan);
        let nans = match array.data_type() {
            DataType::Float32 if self.nan => {
                let values = array.as_primitive::<Float32Type>();
                Some(nans(&|row| values.value(row).is_nan()))
            }
            DataType::Float64 if self.nan => {
                let values = array.as_primitive::<Float64Type>();
                Some(nans(&|row| values.value(row).is_nan()))
            }
            _ => None,
        };
        let nans = nans.filter(|nans| nans.count_set_bits() > 0);
        let nulls = match array.logical_null_count() {
            0 => None,
            _ => Some(is_null(array).map_err(misfit)?.into_parts().0),
        };
        Ok(match (nans, nulls) {
            (Some(nans), Some(nulls)) => Some(&nans | &nulls),
            (some, other) => some.or(other),
        }
        .map(|missing| BooleanArray::new(missing, None)))
    }
}

impl Preprocessor for Impute {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let mut edited = Edited::new(batch);
        for (name, constant) in &self.columns {
            let at = index_of(edited.schema(), name)?;
            let array = edited.array(at);
            // Checked for every batch, so that a wrong constant shows before the first null does.
            let filler = constant.of_type(array.data_type());
            let filler = filler.map_err(|what| PreprocessError::fatal(format!("column {name:?}: {what}")))?;
            let Some(missing) = self.missing(array)? else { continue };
            let array = match array.data_type() {
                DataType::Null => cast(array, filler.data_type()).map_err(misfit)?,
                _ => array.clone(),
            };
            edited.replace(at, zip(&missing, &Scalar::new(filler), &array).map_err(misfit)?);
        }
        Ok(StageOutput::all(edited.finish()?))
    }
}

impl Constant {
    /// One row of the type, or of the constant's own where a column has none.
    fn of_type(&self, data_type: &DataType) -> Result<ArrayRef, String> {
        let mut cells = Cells::default();
        cells.put(
            0,
            match self {
                Constant::Boolean(value) => (*value).into(),
                Constant::Number(value) => (*value).into(),
                Constant::Text(value) => value.as_str().into(),
            },
        );
        cells.over(Some(&new_null_array(data_type, 1)), 1)
    }
}
