//! `select`: keeps some columns.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::lookup::{index_of, misfit};
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, StageOutput};
use crate::error::ConfigError;

/// Configuration of [`Select`]: one of the two.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectConfig {
    /// The columns to keep, in this order.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub columns: Option<Vec<String>>,
    /// The columns to leave out; all others stay in their order.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub drop: Option<Vec<String>>,
}

/// Keeps the named columns, or all but the named ones. Copies no values.
#[derive(Clone, Debug)]
pub struct Select {
    names: Vec<String>,
    is_drop: bool,
}

impl Select {
    /// Errors unless exactly one list is given, and if it is empty or names a column twice.
    pub fn new(config: SelectConfig) -> Result<Self, ConfigError> {
        let (names, is_drop) = match (config.columns, config.drop) {
            (Some(names), None) => (names, false),
            (None, Some(names)) => (names, true),
            _ => return Err(ConfigError::new("give either `columns` (to keep) or `drop` (to leave out)")),
        };
        if names.is_empty() {
            return Err(ConfigError::new("name at least one column"));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(ConfigError::new(format!("column {twice:?} is named twice")));
        }
        Ok(Self { names, is_drop })
    }
}

impl Preprocessor for Select {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let schema = batch.columns().schema_ref();
        let named = self.names.iter().map(|name| index_of(schema, name)).collect::<Result<Vec<_>, _>>()?;
        let kept = match self.is_drop {
            true => (0..schema.fields().len()).filter(|at| !named.contains(at)).collect(),
            false => named,
        };
        let columns = batch.columns().project(&kept).map_err(misfit)?;
        Ok(StageOutput::all(batch.with_columns(columns).map_err(misfit)?))
    }
}
