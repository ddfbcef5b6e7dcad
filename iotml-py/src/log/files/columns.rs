//! Columns of files in the form that decoders give: flat, with dotted names, text as plain text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::error::ArrowError;

/// The columns that are needed of each batch.
pub struct Columns {
    /// Without any, all.
    needed: Vec<String>,
}

impl Columns {
    pub fn new(needed: Vec<String>) -> Self {
        Self { needed }
    }

    /// The needed columns; an error names one that is not there, and those that are.
    pub fn choose(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let flat = flat(batch).map_err(|error| error.to_string())?;
        let chosen = match self.needed.as_slice() {
            [] => flat,
            needed => needed.iter().map(|name| find(&flat, name)).collect::<Result<_, String>>()?,
        };
        let (mut fields, mut arrays) = (Vec::with_capacity(chosen.len()), Vec::with_capacity(chosen.len()));
        for (field, array) in chosen {
            let array = plain(&array).map_err(|error| format!("column {:?}: {error}", field.name()))?;
            fields.push(Field::new(field.name(), array.data_type().clone(), field.is_nullable()));
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options);
        columns.map_err(|error| error.to_string())
    }
}

/// The keys of a batch, as text.
pub fn keys(batch: &RecordBatch, key: &str) -> Result<ArrayRef, String> {
    let flat = flat(batch).map_err(|error| error.to_string())?;
    let (_, array) = find(&flat, key)?;
    cast(&array, &DataType::Utf8).map_err(|error| format!("the key column {key:?} is no text: {error}"))
}

/// The columns at the top that hold `needed` and the key.
pub fn roots(needed: &[String], key: Option<&str>) -> Vec<String> {
    if needed.is_empty() {
        return Vec::new();
    }
    // A dot may lead into a nested column or be part of a name.
    let names = needed.iter().map(String::as_str).chain(key);
    names.flat_map(|name| [name, name.split('.').next().unwrap_or(name)]).map(str::to_owned).collect()
}

fn find(flat: &[(FieldRef, ArrayRef)], name: &str) -> Result<(FieldRef, ArrayRef), String> {
    let found = flat.iter().find(|(field, _)| field.name() == name);
    found.cloned().ok_or_else(|| {
        let known: Vec<&str> = flat.iter().map(|(field, _)| field.name().as_str()).collect();
        format!("there is no column {name:?}; there are: {}", known.join(", "))
    })
}

/// All columns, nested ones under dotted names.
fn flat(batch: &RecordBatch) -> Result<Vec<(FieldRef, ArrayRef)>, ArrowError> {
    let mut flat = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        flatten(field.clone(), array, &mut flat)?;
    }
    Ok(flat)
}

fn flatten(field: FieldRef, array: &ArrayRef, flat: &mut Vec<(FieldRef, ArrayRef)>) -> Result<(), ArrowError> {
    let Some(inner) = array.as_struct_opt() else { return Ok(flat.push((field, array.clone()))) };
    for (child, column) in inner.fields().iter().zip(inner.columns()) {
        let name = format!("{}.{}", field.name(), child.name());
        let child = child.as_ref().clone().with_name(name).with_nullable(true);
        // A null record has null fields, whatever stands behind it.
        let column = match inner.nulls() {
            Some(nulls) => {
                let is_null = arrow::array::BooleanArray::new(!nulls.inner(), None);
                arrow::compute::nullif(column, &is_null)?
            }
            None => column.clone(),
        };
        flatten(Arc::new(child), &column, flat)?;
    }
    Ok(())
}

/// Text and numbers in the types that conditions, labels and features know.
fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let to = match array.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Dictionary(_, values) => match values.as_ref() {
            DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
            values => values.clone(),
        },
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            DataType::Float64
        }
        _ => return Ok(array.clone()),
    };
    cast(array, &to)
}
