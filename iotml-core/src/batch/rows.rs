//! Rows in columns, with the envelope that ties each row to the message it came from.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;

use super::{NO_TIME, RawBatch};
use crate::error::Cause;

/// Rows on any hop: an envelope and an Arrow [`RecordBatch`], which has no columns before decoding.
///
/// Row `i` came from message [`origin(i)`](Batch::origin) of [`raw`](Batch::raw). Key and time are the
/// message's until a stage replaces them; headers and position are always the message's.
#[derive(Clone, Debug)]
pub struct Batch {
    raw: Arc<RawBatch>,
    /// `None`: row i came from message i.
    origins: Option<Vec<u32>>,
    keys: Option<BinaryArray>,
    times: Option<Vec<i64>>,
    columns: RecordBatch,
}

impl Batch {
    /// All messages of `raw` as rows without columns.
    pub fn undecoded(raw: Arc<RawBatch>) -> Self {
        let columns = no_columns(raw.len());
        Self { raw, origins: None, keys: None, times: None, columns }
    }

    /// Decoded rows; row `i` of `columns` came from message `origins[i]` of `raw`.
    ///
    /// Panics if the lengths differ or an origin is out of bounds: both are defects of the calling stage.
    pub fn decoded(raw: Arc<RawBatch>, origins: Vec<u32>, columns: RecordBatch) -> Self {
        assert_eq!(origins.len(), columns.num_rows(), "one origin per row");
        assert!(origins.iter().all(|origin| (*origin as usize) < raw.len()), "an origin is out of bounds");
        let dense = origins.len() == raw.len() && origins.iter().zip(0..).all(|(origin, row)| *origin == row);
        Self { raw, origins: (!dense).then_some(origins), keys: None, times: None, columns }
    }

    /// The messages the rows came from.
    pub fn raw(&self) -> &Arc<RawBatch> {
        &self.raw
    }

    /// The message of [`raw`](Batch::raw) that `row` came from.
    #[inline]
    pub fn origin(&self, row: usize) -> usize {
        match &self.origins {
            Some(origins) => origins[row] as usize,
            None => row,
        }
    }

    /// Whether row `i` came from message `i` for every message, so that nothing was dropped or reordered.
    pub fn is_dense(&self) -> bool {
        self.origins.is_none() && self.len() == self.raw.len()
    }

    /// The key of `row`.
    #[inline]
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        match &self.keys {
            Some(keys) => keys.is_valid(row).then(|| keys.value(row)),
            None => self.raw.messages().key(self.origin(row)),
        }
    }

    /// The event time of `row` in milliseconds since the Unix epoch.
    #[inline]
    pub fn time(&self, row: usize) -> Option<i64> {
        match &self.times {
            Some(times) => (times[row] != NO_TIME).then_some(times[row]),
            None => self.raw.messages().time(self.origin(row)),
        }
    }

    /// The columns; row `i` is row `i` of the batch.
    pub fn columns(&self) -> &RecordBatch {
        &self.columns
    }

    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&ArrayRef> {
        self.columns.column_by_name(name)
    }

    /// Number of rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.columns.num_rows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held by raw messages and columns.
    pub fn n_bytes(&self) -> usize {
        self.raw.n_bytes() + self.columns.get_array_memory_size()
    }

    /// The same rows with other columns. Errors if the number of rows differs.
    pub fn with_columns(mut self, columns: RecordBatch) -> Result<Self, ArrowError> {
        if columns.num_rows() != self.len() {
            let (got, want) = (columns.num_rows(), self.len());
            return Err(ArrowError::InvalidArgumentError(format!("{got} rows of columns for a batch of {want} rows")));
        }
        self.columns = columns;
        Ok(self)
    }

    /// The same rows with one more column, or with the column of that name replaced.
    pub fn with_column(self, field: Field, values: ArrayRef) -> Result<Self, ArrowError> {
        let schema = self.columns.schema();
        let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
        let mut arrays = self.columns.columns().to_vec();
        match schema.index_of(field.name()) {
            Ok(at) => (fields[at], arrays[at]) = (Arc::new(field), values),
            Err(_) => {
                fields.push(Arc::new(field));
                arrays.push(values);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        let columns = RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)?;
        self.with_columns(columns)
    }

    /// The same rows with other keys. Errors if the number of rows differs.
    pub fn with_keys(mut self, keys: BinaryArray) -> Result<Self, ArrowError> {
        if keys.len() != self.len() {
            let (got, want) = (keys.len(), self.len());
            return Err(ArrowError::InvalidArgumentError(format!("{got} keys for a batch of {want} rows")));
        }
        self.keys = Some(keys);
        Ok(self)
    }

    /// The same rows with other event times ([`NO_TIME`] for none). Errors if the number of rows differs.
    pub fn with_times(mut self, times: Vec<i64>) -> Result<Self, ArrowError> {
        if times.len() != self.len() {
            let (got, want) = (times.len(), self.len());
            return Err(ArrowError::InvalidArgumentError(format!("{got} times for a batch of {want} rows")));
        }
        self.times = Some(times);
        Ok(self)
    }

    /// The rows at `rows`, in that order; a row may be named more than once. Errors if one is out of bounds.
    pub fn take(&self, rows: &[u32]) -> Result<Self, ArrowError> {
        if let Some(row) = rows.iter().find(|row| **row as usize >= self.len()) {
            let len = self.len();
            return Err(ArrowError::InvalidArgumentError(format!("row {row} of a batch of {len} rows")));
        }
        let indices = UInt32Array::from(rows.to_vec());
        let arrays = self.columns.columns().iter().map(|array| take(array, &indices, None));
        let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let columns = RecordBatch::try_new_with_options(self.columns.schema(), arrays, &options)?;
        let keys = self.keys.as_ref().map(|keys| {
            let value = |row: &u32| keys.is_valid(*row as usize).then(|| keys.value(*row as usize));
            BinaryArray::from_iter(rows.iter().map(value))
        });
        Ok(Self {
            raw: self.raw.clone(),
            origins: Some(rows.iter().map(|row| self.origin(*row as usize) as u32).collect()),
            keys,
            times: self.times.as_ref().map(|times| rows.iter().map(|row| times[*row as usize]).collect()),
            columns,
        })
    }

    /// Splits off the rows that `keep` marks: the batch of kept rows, and the numbers of the others.
    pub fn filter(self, keep: &[bool]) -> Result<(Self, Vec<u32>), ArrowError> {
        if keep.iter().all(|keep| *keep) && keep.len() == self.len() {
            return Ok((self, Vec::new()));
        }
        let (kept, dropped): (Vec<u32>, Vec<u32>) = (0..keep.len() as u32).partition(|row| keep[*row as usize]);
        Ok((self.take(&kept)?, dropped))
    }
}

/// A row that a stage could not process.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The row's number in the stage's input.
    pub row: u32,
    /// Why.
    pub cause: Cause,
}

/// What a stage made of its input: for every input row, what became of it.
///
/// Each input row is in exactly one of three places: it is the origin of at least one row of `batch`, or it
/// is named in `rejected`, or it is named in `filtered`. The pipeline checks the sum and stops on a mismatch.
#[derive(Clone, Debug)]
pub struct StageOutput {
    /// The rows that go on.
    pub batch: Batch,
    /// Rows that failed, in ascending order.
    pub rejected: Vec<Rejected>,
    /// Rows left out on purpose, in ascending order.
    pub filtered: Vec<u32>,
}

impl StageOutput {
    /// All rows go on.
    pub fn all(batch: Batch) -> Self {
        Self { batch, rejected: Vec::new(), filtered: Vec::new() }
    }
}

fn no_columns(rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    #[expect(clippy::expect_used, reason = "no columns cannot disagree with a row count")]
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).expect("an empty schema")
}
