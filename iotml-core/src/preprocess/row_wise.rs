//! A closure over single rows as a preprocessor.

use arrow::datatypes::DataType;

use super::lookup::misfit;
use super::row::{Row, Table};
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, Rejected, StageOutput};
use crate::error::{Cause, Reason};

/// Makes a preprocessor of a function that looks at one row after the other, so that simple logic needs no Arrow.
///
/// The function may read and set columns and says what becomes of the row. It should remember nothing from row to row:
/// batches are cut anywhere. Asking for a column that is not there, or as a type that it does not hold, is a mistake in the
/// function and ends the task with a message that says so.
///
/// It costs some tens of nanoseconds a column and row; logic that must be faster uses
/// [`batch_wise`](super::batch_wise) or implements [`Preprocessor`] over the columns.
///
/// ```
/// use iotml_core::arrow::datatypes::DataType;
/// use iotml_core::preprocess::{Outcome, row_wise};
///
/// let mut power = row_wise(|row| {
///     let (Some(volt), Some(ampere)) = (row.f64("volt"), row.f64("ampere")) else {
///         return Outcome::reject("no_power", "volt and ampere are needed");
///     };
///     if row.bool("parked") == Some(true) {
///         return Outcome::Drop;
///     }
///     row.set("watt", volt * ampere);
///     Outcome::Keep
/// })
/// .adds("watt", DataType::Float32);
/// # use std::sync::Arc;
/// # use iotml_core::arrow::array::{ArrayRef, BooleanArray, Float32Array, RecordBatch};
/// # use iotml_core::preprocess::Preprocessor;
/// # let columns = RecordBatch::try_from_iter([
/// #     ("volt", Arc::new(Float32Array::from(vec![Some(2.0), Some(3.0), None])) as ArrayRef),
/// #     ("ampere", Arc::new(Float32Array::from(vec![5.0, 1.0, 1.0]))),
/// #     ("parked", Arc::new(BooleanArray::from(vec![false, true, false]))),
/// # ]).unwrap();
/// # let mut raw = iotml_core::batch::RawBatch::default();
/// # for seq in 0..3 {
/// #     raw.push(iotml_core::batch::RawMessage {
/// #         message: Default::default(),
/// #         position: iotml_core::batch::Position { lane: iotml_core::batch::Lane(0), seq },
/// #         coordinate: iotml_core::batch::Coordinate::NONE,
/// #     });
/// # }
/// # let batch = iotml_core::batch::Batch::decoded(Arc::new(raw), vec![0, 1, 2], columns);
/// # let output = power.apply(batch).unwrap();
/// # assert_eq!((output.batch.len(), output.filtered, output.rejected[0].row), (1, vec![1], 2));
/// # assert_eq!(output.batch.column("watt").unwrap().as_ref(), &Float32Array::from(vec![10.0]));
/// ```
pub fn row_wise<F>(function: F) -> RowWise<F>
where
    F: FnMut(&mut Row<'_>) -> Outcome + Send,
{
    RowWise { function, added: Vec::new() }
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Keep,
    /// It is left out on purpose: counted and acknowledged.
    Drop,
    /// It is rejected by `errors.tolerance`: a word in snake case to count by, and the detail a person needs.
    Reject(&'static str, String),
}

impl Outcome {
    /// Rejects the row; `word` in snake case is what metrics count it by.
    pub fn reject(word: &'static str, detail: impl Into<String>) -> Self {
        Self::Reject(word, detail.into())
    }
}

/// See [`row_wise`].
#[derive(Clone, Debug)]
pub struct RowWise<F> {
    function: F,
    added: Vec<(String, DataType)>,
}

impl<F> RowWise<F> {
    /// Adds a column of this type, null in the rows that do not set it. A column that is set without being named here is
    /// there only in batches that set it, as `Float64`, `Utf8` or `Boolean`.
    pub fn adds(mut self, name: impl Into<String>, data_type: DataType) -> Self {
        self.added.push((name.into(), data_type));
        self
    }
}

impl<F> Preprocessor for RowWise<F>
where
    F: FnMut(&mut Row<'_>) -> Outcome + Send,
{
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let n_rows = batch.len();
        let mut table = Table::open(batch, &self.added);
        let (mut keep, mut rejected, mut filtered) = (vec![true; n_rows], Vec::new(), Vec::new());
        for (row, keep) in keep.iter_mut().enumerate() {
            let outcome = (self.function)(&mut Row::new(&mut table, row));
            if let Some(mistake) = table.mistake() {
                return Err(PreprocessError::fatal(mistake));
            }
            *keep = outcome == Outcome::Keep;
            match outcome {
                Outcome::Keep => {}
                Outcome::Drop => filtered.push(row as u32),
                Outcome::Reject(word, detail) => {
                    let cause = Cause::new(Reason::Custom(word), detail);
                    rejected.push(Rejected { row: row as u32, cause });
                }
            }
        }
        let (batch, _) = table.close()?.filter(&keep).map_err(misfit)?;
        Ok(StageOutput { batch, rejected, filtered })
    }
}
