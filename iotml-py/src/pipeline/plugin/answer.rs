//! What a preprocessor gave back for a batch, and what becomes of the rows by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use iotml_core::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray};
use iotml_core::arrow::datatypes::{DataType, Field, FieldRef, Schema};
use iotml_core::batch::{Batch, Rejected, StageOutput};
use iotml_core::error::Cause;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use super::columns::{column, plain};
use super::exception::Raised;
use super::imported::array_of;
use crate::pipeline::word;

/// What a preprocessor may give back; the text of errors.
const FORMS: &str =
    "the batch itself, a boolean mask of rows to keep, a dict of columns, an Arrow table, or iotml.Result";

/// What a preprocessor gave back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// New columns of all rows; `None` where they stay as they are.
    pub columns: Option<RecordBatch>,
    /// Which rows go on; `None` is all.
    pub keep: Option<Vec<bool>>,
    /// Rows that failed, in ascending order.
    pub rejected: Vec<Rejected>,
    /// Rows to be written again, in ascending order; only a sink may say so.
    pub retryable: Vec<Rejected>,
}

impl Answer {
    /// Reads what a preprocessor gave back for `batch`, which it was given as `given`.
    pub fn read(answer: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>, batch: &Batch) -> Result<Self, String> {
        if answer.is(given) {
            return Ok(Self::default());
        }
        if answer.is_none() {
            return Err(format!("apply(batch) returned None; return {FORMS}"));
        }
        if is_result(answer)? {
            return Self::of_result(answer, batch);
        }
        if let Some(columns) = columns_of(answer, batch)? {
            return Ok(Self { columns: Some(columns), ..Self::default() });
        }
        Ok(Self { keep: Some(mask(answer, "apply(batch) returned what", batch.len())?), ..Self::default() })
    }

    /// Reads what a sink gave back for `n_rows` rows: nothing, or the rows that failed.
    pub fn of_write(answer: &Bound<'_, PyAny>, batch: &Batch) -> Result<Self, String> {
        if answer.is_none() {
            return Ok(Self::default());
        }
        if let Ok(failed) = answer.cast::<PyDict>() {
            return Ok(Self { rejected: rows(failed, "write(batch)", batch.len())?, ..Self::default() });
        }
        if !is_result(answer)? {
            let kind = kind_of(answer);
            return Err(format!(
                "write(batch) returned {kind}; return None when all is written, a dict {{row: reason}} of the rows that \
                 were refused, or iotml.Result(reject=..., retry=...)"
            ));
        }
        let result = Self::of_result(answer, batch)?;
        if result.columns.is_some() || result.keep.is_some() {
            return Err(
                "write(batch) returned columns or a mask; a sink has only rows to reject or to retry".to_owned()
            );
        }
        Ok(result)
    }

    fn of_result(result: &Bound<'_, PyAny>, batch: &Batch) -> Result<Self, String> {
        let part = |name: &str| {
            let value = result.getattr(name).map_err(|error| Raised::new(result.py(), error).to_string())?;
            Ok::<_, String>(Some(value).filter(|value| !value.is_none()))
        };
        let failed = |name: &str| match part(name)? {
            None => Ok(Vec::new()),
            Some(value) => match value.cast::<PyDict>() {
                Ok(failed) => rows(failed, name, batch.len()),
                Err(_) => Err(format!("Result.{name} is {}; write it as a dict {{row: reason}}", kind_of(&value))),
            },
        };
        let columns = match part("columns")? {
            None => None,
            Some(value) => match columns_of(&value, batch)? {
                Some(columns) => Some(columns),
                None => return Err(format!("Result.columns is {}; give a dict or an Arrow table", kind_of(&value))),
            },
        };
        let keep = part("keep")?.map(|value| mask(&value, "Result.keep", batch.len())).transpose()?;
        Ok(Self { columns, keep, rejected: failed("reject")?, retryable: failed("retry")? })
    }

    /// Says of every row of `batch` what becomes of it.
    pub fn settle(self, batch: Batch) -> Result<StageOutput, String> {
        let n_rows = batch.len();
        let misfit = |error| format!("the columns do not fit: {error}");
        let batch = match self.columns {
            Some(columns) => batch.with_columns(columns).map_err(misfit)?,
            None => batch,
        };
        let mut goes_on = self.keep.unwrap_or_else(|| vec![true; n_rows]);
        let mut is_rejected = vec![false; n_rows];
        for rejected in &self.rejected {
            is_rejected[rejected.row as usize] = true;
        }
        let filtered =
            (0..n_rows as u32).filter(|row| !goes_on[*row as usize] && !is_rejected[*row as usize]).collect();
        goes_on.iter_mut().zip(is_rejected).for_each(|(goes_on, is_rejected)| *goes_on &= !is_rejected);
        let (batch, _) = batch.filter(&goes_on).map_err(misfit)?;
        Ok(StageOutput { batch, rejected: self.rejected, filtered })
    }
}

fn is_result(answer: &Bound<'_, PyAny>) -> Result<bool, String> {
    static RESULT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = answer.py();
    let class = RESULT.import(py, "iotml.plugins", "Result");
    let is_result = class.and_then(|class| answer.is_instance(class));
    is_result.map_err(|error| Raised::new(py, error).to_string())
}

/// The columns of a dict or an Arrow table; `None` where `value` is neither.
fn columns_of(value: &Bound<'_, PyAny>, batch: &Batch) -> Result<Option<RecordBatch>, String> {
    if let Ok(columns) = value.cast::<PyDict>() {
        return with_columns(columns, batch).map(Some);
    }
    let py = value.py();
    let array = array_of(value);
    let array = array.map_err(|error| format!("the Arrow table cannot be read: {}", Raised::new(py, error)))?;
    match array {
        Some(array) if matches!(array.data_type(), DataType::Struct(_)) => table(&array, batch.len()).map(Some),
        _ => Ok(None),
    }
}

/// The batch's columns with those of the dict added or put in their place.
fn with_columns(columns: &Bound<'_, PyDict>, batch: &Batch) -> Result<RecordBatch, String> {
    let (schema, n_rows) = (batch.columns().schema(), batch.len());
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    let mut arrays = batch.columns().columns().to_vec();
    for (name, value) in columns.iter() {
        let name: String =
            name.extract().map_err(|_| format!("a column is named by {}, not by a string", kind_of(&name)))?;
        let array = column(&value, &format!("column {name:?}"), n_rows)?;
        let field = Arc::new(Field::new(&name, array.data_type().clone(), true));
        match fields.iter().position(|known| *known.name() == name) {
            Some(at) => (fields[at], arrays[at]) = (field, array),
            None => {
                fields.push(field);
                arrays.push(array);
            }
        }
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    assemble(schema, arrays, n_rows)
}

fn table(array: &ArrayRef, n_rows: usize) -> Result<RecordBatch, String> {
    if array.null_count() > 0 {
        return Err("the Arrow table has missing rows".to_owned());
    }
    if array.len() != n_rows {
        return Err(format!(
            "the Arrow table has {} rows for a batch of {n_rows}; to leave rows out, return a mask or iotml.Result(keep=...)",
            array.len()
        ));
    }
    let table = RecordBatch::from(StructArray::from(array.to_data()));
    let arrays = table.columns().iter().map(plain).collect::<Result<Vec<_>, _>>();
    let arrays = arrays.map_err(|error| format!("the Arrow table cannot be used: {error}"))?;
    let schema = table.schema();
    let fields = schema.fields().iter().zip(&arrays);
    let fields: Vec<_> =
        fields.map(|(field, array)| Field::new(field.name(), array.data_type().clone(), true)).collect();
    if let Some(twice) = twice(&fields) {
        return Err(format!("the Arrow table has two columns {twice:?}"));
    }
    assemble(Schema::new_with_metadata(fields, schema.metadata().clone()), arrays, n_rows)
}

fn twice(fields: &[Field]) -> Option<&str> {
    let mut seen = std::collections::BTreeSet::new();
    fields.iter().map(|field| field.name().as_str()).find(|name| !seen.insert(*name))
}

fn assemble(schema: Schema, arrays: Vec<ArrayRef>, n_rows: usize) -> Result<RecordBatch, String> {
    let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
    RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
        .map_err(|error| format!("the columns do not fit together: {error}"))
}

/// A boolean for each row.
fn mask(value: &Bound<'_, PyAny>, what: &str, n_rows: usize) -> Result<Vec<bool>, String> {
    let is_array = value.hasattr("dtype").unwrap_or(false)
        || value.hasattr("__arrow_c_array__").unwrap_or(false)
        || value.hasattr("__arrow_c_stream__").unwrap_or(false)
        || value.is_instance_of::<pyo3::types::PyList>();
    if !is_array {
        return Err(format!("{what} is {}; a preprocessor returns {FORMS}", kind_of(value)));
    }
    let array = column(value, what, n_rows)?;
    match array.as_boolean_opt() {
        Some(mask) if mask.null_count() == 0 => Ok(mask.values().iter().collect()),
        Some(_) => Err(format!("{what} has missing values; a mask says of every row whether it is kept")),
        None => Err(format!("{what} is of type {}; a mask is boolean", array.data_type())),
    }
}

/// The rows of `{row: reason}`, in ascending order; a reason is a text, or a word to count by and a text.
fn rows(failed: &Bound<'_, PyDict>, what: &str, n_rows: usize) -> Result<Vec<Rejected>, String> {
    let mut rows = BTreeMap::new();
    for (row, reason) in failed.iter() {
        let number: i64 = row.extract().map_err(|_| format!("{what}: a row is a number, not {}", kind_of(&row)))?;
        let row = u32::try_from(number).ok().filter(|row| (*row as usize) < n_rows);
        let row = row.ok_or_else(|| format!("{what}: there is no row {number} in a batch of {n_rows} rows"))?;
        rows.insert(row, cause(&reason, what)?);
    }
    Ok(rows.into_iter().map(|(row, cause)| Rejected { row, cause }).collect())
}

fn cause(reason: &Bound<'_, PyAny>, what: &str) -> Result<Cause, String> {
    if let Ok(detail) = reason.extract::<String>() {
        return Ok(Cause::new(word::reason("rejected"), detail));
    }
    match reason.extract::<(String, String)>() {
        Ok((word, detail)) if word::is_label(&word) => Ok(Cause::new(word::reason(&word), detail)),
        Ok((word, _)) => Err(format!("{what}: {word:?} is no word to count by; write it like \"out_of_range\"")),
        Err(_) => Err(format!("{what}: a reason is a text, or a word and a text, not {}", kind_of(reason))),
    }
}

/// `a float`, `an array`: the type of a value in a message.
fn kind_of(value: &Bound<'_, PyAny>) -> String {
    let name = value.get_type().qualname().map(|name| name.to_string()).unwrap_or_else(|_| "object".to_owned());
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    format!("{article} {name}")
}
