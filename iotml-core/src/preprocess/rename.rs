//! `rename`: gives columns other names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{FieldRef, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use super::lookup::{index_of, misfit};
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, StageOutput};
use crate::error::ConfigError;

/// Configuration of [`Rename`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameConfig {
    /// Old name to new name.
    #[schemars(length(min = 1))]
    pub columns: BTreeMap<String, String>,
}

/// Renames columns, all at once, so that two may swap their names. Copies no values.
#[derive(Clone, Debug)]
pub struct Rename {
    columns: BTreeMap<String, String>,
}

impl Rename {
    /// Errors if two columns would get one name, or one an empty name.
    pub fn new(config: RenameConfig) -> Result<Self, ConfigError> {
        if config.columns.is_empty() {
            return Err(ConfigError::new("`columns` names no column"));
        }
        let mut taken = BTreeMap::new();
        for (old, new) in &config.columns {
            if new.is_empty() {
                return Err(ConfigError::new(format!("`columns.{old}`: the new name is empty")));
            }
            if let Some(other) = taken.insert(new, old) {
                return Err(ConfigError::new(format!("columns {other:?} and {old:?} would both be called {new:?}")));
            }
        }
        Ok(Self { columns: config.columns })
    }
}

impl Preprocessor for Rename {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let schema = batch.columns().schema();
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        for (old, new) in &self.columns {
            let at = index_of(&schema, old)?;
            fields[at] = Arc::new(schema.field(at).clone().with_name(new));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = fields.iter().find(|field| !seen.insert(field.name())) {
            let name = twice.name();
            return Err(PreprocessError::fatal(format!(
                "there is a column {name:?} already: rename it too, or leave it out with `select`"
            )));
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.len()));
        let columns = RecordBatch::try_new_with_options(schema, batch.columns().columns().to_vec(), &options);
        let columns = columns.map_err(misfit)?;
        Ok(StageOutput::all(batch.with_columns(columns).map_err(misfit)?))
    }
}
