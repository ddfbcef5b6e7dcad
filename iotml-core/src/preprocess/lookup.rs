//! Finding columns by name, and putting others in their place.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, FieldRef, Schema};

use super::PreprocessError;
use crate::batch::Batch;
use crate::plugin::suggest::nearest;

/// What to say of a column that is not there: the columns that are, and the one that was probably meant.
pub(crate) fn unknown_column(name: &str, schema: &Schema) -> String {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let known = names().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    match (known.is_empty(), nearest(name, names())) {
        (true, _) => format!("there is no column {name:?}, nor any other: is there a decoder before this stage?"),
        (false, Some(meant)) => format!("there is no column {name:?}, did you mean {meant:?}? there are {known}"),
        (false, None) => format!("there is no column {name:?}; there are {known}"),
    }
}

/// The index of the column called `name`.
pub(super) fn index_of(schema: &Schema, name: &str) -> Result<usize, PreprocessError> {
    let found = schema.fields().iter().position(|field| field.name() == name);
    found.ok_or_else(|| PreprocessError::fatal(unknown_column(name, schema)))
}

/// The columns of a batch on their way to other columns of the same rows.
pub(super) struct Edited {
    batch: Batch,
    fields: Vec<FieldRef>,
    arrays: Vec<ArrayRef>,
}

impl Edited {
    pub(super) fn new(batch: Batch) -> Self {
        let columns = batch.columns();
        let fields = columns.schema_ref().fields().iter().cloned().collect();
        Self { fields, arrays: columns.columns().to_vec(), batch }
    }

    /// The batch before any edit.
    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The schema before any edit.
    pub(super) fn schema(&self) -> &Schema {
        self.batch.columns().schema_ref()
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.batch.len()
    }

    /// The column at `at`.
    pub(super) fn array(&self, at: usize) -> &ArrayRef {
        &self.arrays[at]
    }

    /// Puts `values` in the place of the column at `at`, whose name stays.
    pub(super) fn replace(&mut self, at: usize, values: ArrayRef) {
        let (field, data_type) = (&self.fields[at], values.data_type());
        if field.data_type() != data_type || (!field.is_nullable() && values.null_count() > 0) {
            let field = field.as_ref().clone().with_data_type(data_type.clone());
            self.fields[at] = Arc::new(field.with_nullable(true));
        }
        self.arrays[at] = values;
    }

    /// Appends a column.
    pub(super) fn push(&mut self, name: &str, values: ArrayRef) {
        self.fields.push(Arc::new(Field::new(name, values.data_type().clone(), true)));
        self.arrays.push(values);
    }

    /// The same rows with the edited columns.
    pub(super) fn finish(self) -> Result<Batch, PreprocessError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.batch.len()));
        let metadata = self.schema().metadata().clone();
        let schema = Schema::new_with_metadata(self.fields, metadata);
        let columns = RecordBatch::try_new_with_options(Arc::new(schema), self.arrays, &options);
        columns.and_then(|columns| self.batch.with_columns(columns)).map_err(misfit)
    }
}

/// A defect of this crate: columns of one batch that do not fit together.
pub(super) fn misfit(source: arrow::error::ArrowError) -> PreprocessError {
    PreprocessError::fatal_from(format!("columns do not fit together: {source}"), source)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn an_unknown_column_is_answered_with_those_there_are() {
        let schema = |names: &[&str]| {
            Schema::new(names.iter().map(|name| Field::new(*name, DataType::Float32, true)).collect::<Vec<_>>())
        };
        let two = schema(&["speed", "throttle_pos"]);
        let meant = "there is no column \"sped\", did you mean \"speed\"? there are \"speed\", \"throttle_pos\"";
        assert_eq!(unknown_column("sped", &two), meant);
        assert_eq!(unknown_column("x", &two), "there is no column \"x\"; there are \"speed\", \"throttle_pos\"");
        assert!(unknown_column("x", &schema(&[])).contains("is there a decoder"));
    }
}
