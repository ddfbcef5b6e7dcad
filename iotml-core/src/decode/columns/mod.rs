//! Column builders that every decoder shares: rows are written value by value and then committed or rolled back.

mod build;
mod convert;
mod layout;

pub(crate) use build::Columns;
pub(crate) use convert::Scalar;
pub use layout::{ColumnConfig, ColumnType};
pub(crate) use layout::{Group, Layout, LayoutColumn, check_columns};

use crate::error::{Cause, Reason};

/// Why a row cannot be decoded, small enough to be made on the hot path; becomes a [`Cause`] when the row is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub reason: Reason,
    pub detail: &'static str,
    /// The column concerned, or [`Fault::NO_COLUMN`].
    column: u32,
}

impl Fault {
    const NO_COLUMN: u32 = u32::MAX;

    pub fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail, column: Self::NO_COLUMN }
    }

    /// The same fault, naming the column where it happened unless it names one already.
    pub fn at(self, column: u32) -> Self {
        if self.column == Self::NO_COLUMN { Self { column, ..self } } else { self }
    }

    pub fn cause(self, layout: &Layout) -> Cause {
        match layout.columns().get(self.column as usize) {
            Some(column) => Cause::new(self.reason, format!("column {:?}: {}", &*column.name, self.detail)),
            None => Cause::new(self.reason, self.detail),
        }
    }
}
