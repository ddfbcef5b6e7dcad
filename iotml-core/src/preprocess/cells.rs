//! Single values set in a column, row by row.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Float64Type};

use super::zone::{relabel, zoneless_type};

/// A value for one row of one column.
#[derive(Clone, Debug, PartialEq)]
pub enum CellValue {
    /// No value.
    Null,
    /// For columns of numbers of any type.
    Number(f64),
    /// For columns of text; dates and times in RFC 3339 form.
    Text(String),
    /// For columns of booleans.
    Boolean(bool),
}

impl fmt::Display for CellValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CellValue::Null => f.write_str("null"),
            CellValue::Number(value) => value.fmt(f),
            CellValue::Text(value) => write!(f, "{value:?}"),
            CellValue::Boolean(value) => value.fmt(f),
        }
    }
}

macro_rules! from {
    ($($native:ty => $variant:ident),*) => {
        $(impl From<$native> for CellValue {
            fn from(value: $native) -> Self {
                CellValue::$variant(value.into())
            }
        })*
    };
}
from!(f64 => Number, f32 => Number, i32 => Number, u32 => Number, &str => Text, String => Text, bool => Boolean);

impl<T: Into<CellValue>> From<Option<T>> for CellValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(CellValue::Null, Into::into)
    }
}

impl CellValue {
    /// The type of a column made of such values alone.
    fn data_type(&self) -> DataType {
        match self {
            CellValue::Null => DataType::Null,
            CellValue::Number(_) => DataType::Float64,
            CellValue::Text(_) => DataType::Utf8,
            CellValue::Boolean(_) => DataType::Boolean,
        }
    }

    /// Whether a column of this type takes such values.
    fn suits(&self, data_type: &DataType) -> bool {
        match self {
            CellValue::Null => true,
            _ if *data_type == DataType::Null => true,
            CellValue::Number(_) => data_type.is_numeric(),
            CellValue::Text(_) => data_type.is_temporal() || data_type.is_string() || data_type.is_binary(),
            CellValue::Boolean(_) => *data_type == DataType::Boolean,
        }
    }
}

/// The values set in one column, by ascending row.
#[derive(Debug, Default)]
pub(super) struct Cells {
    cells: Vec<(u32, CellValue)>,
}

impl Cells {
    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The value of `row`, if it was the last to be set.
    pub(super) fn get(&self, row: usize) -> Option<&CellValue> {
        self.cells.last().filter(|(last, _)| *last as usize == row).map(|(_, value)| value)
    }

    /// Sets the value of `row`, which is not below any row set before.
    pub(super) fn put(&mut self, row: usize, value: CellValue) {
        match self.cells.last_mut() {
            Some((last, old)) if *last as usize == row => *old = value,
            _ => self.cells.push((row as u32, value)),
        }
    }

    /// The column with these values put in, `n_rows` long; its type stays. Without a column: nulls, and the type of the
    /// values. Errors where a value does not fit.
    pub(super) fn over(&self, column: Option<&ArrayRef>, n_rows: usize) -> Result<ArrayRef, String> {
        let values = self.cells.iter().map(|(_, value)| value);
        let own = values.clone().map(CellValue::data_type).find(|data_type| *data_type != DataType::Null);
        let Some(own) = own else {
            let data_type = column.map_or(DataType::Null, |column| column.data_type().clone());
            return self.put_over(column, &new_null_array(&data_type, n_rows));
        };
        let target = column.map(|column| column.data_type()).filter(|target| **target != DataType::Null);
        let target = target.unwrap_or(&own).clone();
        if let Some(wrong) = values.clone().find(|value| !value.suits(&target) || !value.suits(&own)) {
            return Err(format!("it holds {target}, which cannot hold {wrong}"));
        }
        let array = self.array(&own, n_rows);
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let cast_array = cast_with_options(&array, &zoneless_type(&target), &strict);
        let cast_array = relabel(&cast_array.map_err(|error| error.to_string())?, &target);
        if target.is_integer() {
            let back = cast(&cast_array, &DataType::Float64).map_err(|error| error.to_string())?;
            let (back, array) = (back.as_primitive::<Float64Type>(), array.as_primitive::<Float64Type>());
            if let Some((_, rounded)) = back.iter().zip(array).find(|(back, value)| back != value) {
                return Err(format!("it holds {target}, which cannot hold {}", rounded.unwrap_or_default()));
            }
        }
        self.put_over(column, &cast_array)
    }

    /// All values, null in the rows between.
    fn array(&self, own: &DataType, n_rows: usize) -> ArrayRef {
        macro_rules! spread {
            ($array:ty, $variant:ident, $value:ident => $take:expr) => {{
                let mut cells = self.cells.iter().peekable();
                Arc::new(<$array>::from_iter((0..n_rows as u32).map(|row| match cells.next_if(|(at, _)| *at == row) {
                    Some((_, CellValue::$variant($value))) => Some($take),
                    _ => None,
                })))
            }};
        }
        match own {
            DataType::Utf8 => spread!(StringArray, Text, value => value.as_str()),
            DataType::Boolean => spread!(BooleanArray, Boolean, value => *value),
            _ => spread!(Float64Array, Number, value => *value),
        }
    }

    fn put_over(&self, column: Option<&ArrayRef>, values: &ArrayRef) -> Result<ArrayRef, String> {
        let Some(column) = column else { return Ok(values.clone()) };
        let column = match column.data_type() {
            DataType::Null => &new_null_array(values.data_type(), values.len()),
            _ => column,
        };
        let mut cells = self.cells.iter().peekable();
        let is_set = (0..values.len() as u32).map(|row| Some(cells.next_if(|(at, _)| *at == row).is_some()));
        zip(&BooleanArray::from_iter(is_set), values, column).map_err(|error| error.to_string())
    }
}
