//! One row of a batch, read and set by column name.

use std::cell::{OnceCell, RefCell};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, new_null_array};
use arrow::datatypes::DataType;

use super::PreprocessError;
use super::cells::{CellValue, Cells};
use super::lookup::{Edited, unknown_column};
use super::numbers::{doubles, not_numeric};
use crate::batch::Batch;

/// One row, as the function of [`row_wise`](super::row_wise()) sees it.
pub struct Row<'a> {
    table: &'a mut Table,
    row: usize,
}

impl<'a> Row<'a> {
    pub(super) fn new(table: &'a mut Table, row: usize) -> Self {
        Self { table, row }
    }

    /// A number, whatever numeric type the column has; `None` for null.
    pub fn f64(&self, name: &str) -> Option<f64> {
        let column = self.table.column(name)?;
        match column.set.get(self.row) {
            Some(CellValue::Number(value)) => Some(*value),
            Some(CellValue::Null) => None,
            Some(other) => self.table.mistaken(format!("column {name:?} was set to {other}, which is no number")),
            None if column.array.is_none() => None,
            None => match column.doubles() {
                Some(doubles) => doubles.is_valid(self.row).then(|| doubles.value(self.row)),
                None => self.table.mistaken(not_numeric(name, column.data_type())),
            },
        }
    }

    /// Text; `None` for null.
    pub fn str(&self, name: &str) -> Option<&str> {
        let column = self.table.column(name)?;
        match column.set.get(self.row) {
            Some(CellValue::Text(value)) => Some(value),
            Some(CellValue::Null) => None,
            Some(other) => self.table.mistaken(format!("column {name:?} was set to {other}, which is no text")),
            None => {
                let array = column.array.as_ref()?;
                let row = array.is_valid(self.row).then_some(self.row);
                match array.data_type() {
                    DataType::Utf8 => row.map(|row| array.as_string::<i32>().value(row)),
                    DataType::LargeUtf8 => row.map(|row| array.as_string::<i64>().value(row)),
                    DataType::Utf8View => row.map(|row| array.as_string_view().value(row)),
                    DataType::Null => None,
                    other => self.table.mistaken(format!("column {name:?} holds {other}, not text")),
                }
            }
        }
    }

    /// A truth value; `None` for null.
    pub fn bool(&self, name: &str) -> Option<bool> {
        let column = self.table.column(name)?;
        match column.set.get(self.row) {
            Some(CellValue::Boolean(value)) => Some(*value),
            Some(CellValue::Null) => None,
            Some(other) => self.table.mistaken(format!("column {name:?} was set to {other}, neither true nor false")),
            None => {
                let array = column.array.as_ref()?;
                match array.data_type() {
                    DataType::Boolean => array.is_valid(self.row).then(|| array.as_boolean().value(self.row)),
                    DataType::Null => None,
                    other => self.table.mistaken(format!("column {name:?} holds {other}, not booleans")),
                }
            }
        }
    }

    /// Whether there is such a column, so that a function can do without.
    pub fn has(&self, name: &str) -> bool {
        self.table.columns.iter().any(|column| column.name == name)
    }

    /// The row's key.
    pub fn key(&self) -> Option<&[u8]> {
        self.table.edited.batch().key(self.row)
    }

    /// The row's event time in milliseconds since the Unix epoch.
    pub fn time(&self) -> Option<i64> {
        self.table.edited.batch().time(self.row)
    }

    /// Sets the column in this row: a number, text, a boolean, or `None` for null. A column keeps its type; where there is
    /// none of that name it is added.
    pub fn set(&mut self, name: &str, value: impl Into<CellValue>) {
        let columns = &mut self.table.columns;
        let at = columns.iter().position(|column| column.name == name).unwrap_or_else(|| {
            columns.push(Column::new(name, None));
            columns.len() - 1
        });
        columns[at].set.put(self.row, value.into());
    }
}

/// The columns of one batch while a function goes over its rows.
pub(super) struct Table {
    edited: Edited,
    /// The batch's columns in their order, then those that were added.
    columns: Vec<Column>,
    n_own: usize,
    mistake: RefCell<Option<String>>,
}

struct Column {
    name: String,
    /// `None`: added by the function, null where it is not set.
    array: Option<ArrayRef>,
    doubles: OnceCell<Option<Float64Array>>,
    set: Cells,
}

impl Table {
    pub(super) fn open(batch: Batch, added: &[(String, DataType)]) -> Self {
        let edited = Edited::new(batch);
        let schema = edited.schema();
        let own = schema.fields().iter().enumerate();
        let mut columns: Vec<Column> =
            own.map(|(at, field)| Column::new(field.name(), Some(edited.array(at).clone()))).collect();
        let n_own = columns.len();
        for (name, data_type) in added {
            if !columns.iter().any(|column| column.name == *name) {
                columns.push(Column::new(name, Some(new_null_array(data_type, edited.len()))));
            }
        }
        Self { edited, columns, n_own, mistake: RefCell::default() }
    }

    /// What the function did wrong, if anything.
    pub(super) fn mistake(&mut self) -> Option<String> {
        self.mistake.get_mut().take()
    }

    /// The batch with everything that was set.
    pub(super) fn close(self) -> Result<Batch, PreprocessError> {
        let Self { mut edited, columns, n_own, .. } = self;
        for (at, Column { name, array, set, .. }) in columns.into_iter().enumerate() {
            let is_own = at < n_own;
            if is_own && set.is_empty() {
                continue;
            }
            let values = set.over(array.as_ref(), edited.len());
            let values = values.map_err(|what| PreprocessError::fatal(format!("column {name:?}: {what}")))?;
            if is_own { edited.replace(at, values) } else { edited.push(&name, values) }
        }
        edited.finish()
    }

    fn column(&self, name: &str) -> Option<&Column> {
        let found = self.columns.iter().find(|column| column.name == name);
        found.or_else(|| self.mistaken(unknown_column(name, self.edited.schema())))
    }

    /// Takes note of the first mistake.
    #[cold]
    fn mistaken<T>(&self, what: String) -> Option<T> {
        self.mistake.borrow_mut().get_or_insert(what);
        None
    }
}

impl Column {
    fn new(name: &str, array: Option<ArrayRef>) -> Self {
        Self { name: name.to_owned(), array, doubles: OnceCell::new(), set: Cells::default() }
    }

    /// The column in double precision, cast once a batch.
    fn doubles(&self) -> Option<&Float64Array> {
        let open = || Some(doubles(self.array.as_ref()?)?.into_owned());
        self.doubles.get_or_init(open).as_ref()
    }

    fn data_type(&self) -> &DataType {
        self.array.as_ref().map_or(&DataType::Null, |array| array.data_type())
    }
}
