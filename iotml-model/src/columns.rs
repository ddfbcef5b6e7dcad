//! Appending columns to a batch, with what stays the same from batch to batch kept.

use std::sync::Arc;

use iotml_core::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use iotml_core::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use iotml_core::arrow::error::ArrowError;

/// Appends the same fields to every batch.
#[derive(Debug)]
pub(crate) struct Appender {
    fields: Vec<FieldRef>,
    /// The schema of the last batch, and with the fields appended.
    last: Option<(SchemaRef, SchemaRef)>,
}

/// Why columns cannot be appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("the batch already has a column `{0}`; set `prefix` so that the scorer's columns have other names")]
    Exists(String),
    #[error("scores do not fit the batch: {0}")]
    Arrow(#[from] ArrowError),
}

impl Appender {
    pub(crate) fn new(fields: Vec<Field>) -> Self {
        Appender { fields: fields.into_iter().map(Arc::new).collect(), last: None }
    }

    /// Appends `arrays`, one for each field.
    pub(crate) fn append(&mut self, batch: &RecordBatch, arrays: Vec<ArrayRef>) -> Result<RecordBatch, AppendError> {
        let schema = self.schema(batch.schema_ref())?;
        let mut columns = Vec::with_capacity(batch.num_columns() + arrays.len());
        columns.extend_from_slice(batch.columns());
        columns.extend(arrays);
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    fn schema(&mut self, schema: &SchemaRef) -> Result<SchemaRef, AppendError> {
        if let Some((last, appended)) = &self.last
            && (Arc::ptr_eq(last, schema) || last == schema)
        {
            return Ok(appended.clone());
        }
        if let Some(taken) = self.fields.iter().find(|field| schema.column_with_name(field.name()).is_some()) {
            return Err(AppendError::Exists(taken.name().clone()));
        }
        let fields: Vec<FieldRef> = schema.fields().iter().chain(&self.fields).cloned().collect();
        let appended = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        self.last = Some((schema.clone(), appended.clone()));
        Ok(appended)
    }
}

/// A column that holds one value in every row; grown once, then sliced without a copy.
#[derive(Debug)]
pub(crate) struct Constant {
    array: ArrayRef,
    make: fn(&ConstantValue, usize) -> ArrayRef,
    value: ConstantValue,
}

#[derive(Debug)]
pub(crate) enum ConstantValue {
    Text(String),
    Number(Option<f32>),
}

impl Constant {
    pub(crate) fn new(value: ConstantValue) -> Self {
        let array = make(&value, 0);
        Constant { array, make, value }
    }

    pub(crate) fn rows(&mut self, n: usize) -> ArrayRef {
        if self.array.len() < n {
            self.array = (self.make)(&self.value, n);
        }
        if self.array.len() == n { self.array.clone() } else { self.array.slice(0, n) }
    }
}

fn make(value: &ConstantValue, n: usize) -> ArrayRef {
    use iotml_core::arrow::array::{Float32Array, StringArray};
    match value {
        ConstantValue::Text(text) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, n))),
        ConstantValue::Number(number) => Arc::new(Float32Array::from_iter(std::iter::repeat_n(*number, n))),
    }
}

/// The type of a column that holds `width` single-precision numbers a row.
pub(crate) fn numbers(width: usize) -> DataType {
    DataType::FixedSizeList(item(), width as i32)
}

/// The field of one such number.
pub(crate) fn item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Float32, false))
}
