//! Whose row each one is, which a `next_event` model has to know.

use arrow::array::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::error::ConfigError;

/// One key for each row.
pub enum Keys {
    /// A number that stands for the key.
    Numbered(Vec<[u8; 4]>),
    /// The rows of a column of keys, one part for each batch.
    Column(Vec<Rows>),
}

impl Keys {
    /// Reads `keys`, a sequence with a key for each of `n_rows` rows, or the name of a column of `batches`.
    pub fn of(keys: &Bound<'_, PyAny>, n_rows: usize, batches: Option<&[RecordBatch]>) -> PyResult<Self> {
        match (keys.cast::<PyString>(), batches) {
            (Ok(name), Some(batches)) => Self::of_column(&name.to_cow()?, batches),
            (Ok(_), None) => Err(ConfigError::new_err(
                "keys names a column, but the rows are an array without names: give a sequence with the key of each row",
            )),
            (Err(_), _) => Self::of_sequence(keys, n_rows),
        }
    }

    fn of_column(name: &str, batches: &[RecordBatch]) -> PyResult<Self> {
        let unusable = |error| ConfigError::new_err(format!("the column `{name}` cannot be used as keys: {error}"));
        let mut converter: Option<RowConverter> = None;
        let mut parts = Vec::with_capacity(batches.len());
        for batch in batches {
            let column = batch.column_by_name(name).ok_or_else(|| {
                let names: Vec<_> = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
                ConfigError::new_err(format!("keys names the column `{name}`, but there are only {names:?}"))
            })?;
            if column.null_count() > 0 {
                return Err(ConfigError::new_err(format!("{} rows have no key in `{name}`", column.null_count())));
            }
            let converter = match &mut converter {
                Some(converter) => converter,
                none => {
                    none.insert(RowConverter::new(vec![SortField::new(column.data_type().clone())]).map_err(unusable)?)
                }
            };
            parts.push(converter.convert_columns(std::slice::from_ref(column)).map_err(unusable)?);
        }
        Ok(Keys::Column(parts))
    }

    fn of_sequence(keys: &Bound<'_, PyAny>, n_rows: usize) -> PyResult<Self> {
        // Python's own equality decides which keys are the same; NumPy's elements are turned into Python's first, at once.
        let keys = if keys.hasattr("tolist")? { keys.call_method0("tolist")? } else { keys.clone() };
        let numbers = PyDict::new(keys.py());
        let mut rows = Vec::with_capacity(n_rows);
        for key in keys.try_iter()? {
            let key = key?;
            if key.is_none() {
                return Err(ConfigError::new_err(format!("row {} has no key: it is None", rows.len())));
            }
            let number: u32 = match numbers.get_item(&key)? {
                Some(number) => number.extract()?,
                None => {
                    let number = numbers.len() as u32;
                    numbers.set_item(&key, number)?;
                    number
                }
            };
            rows.push(number.to_ne_bytes());
        }
        match rows.len() {
            n if n == n_rows => Ok(Keys::Numbered(rows)),
            n => Err(ConfigError::new_err(format!("there are {n} keys for {n_rows} rows"))),
        }
    }

    /// The keys of the rows from `start` on, `n` of them, of the batch `part`; an array counts as one batch.
    pub fn slice(&self, part: usize, first: usize, start: usize, n: usize) -> Vec<&[u8]> {
        match self {
            Keys::Numbered(numbers) => numbers.iter().skip(first + start).take(n).map(<[u8; 4]>::as_slice).collect(),
            Keys::Column(parts) => {
                let rows = parts.get(part);
                rows.into_iter().flat_map(|rows| (start..start + n).map(|row| rows.row(row).data())).collect()
            }
        }
    }
}
