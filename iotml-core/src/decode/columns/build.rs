//! The columns of one batch while it is decoded.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    RecordBatchOptions, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;

use super::{ColumnType, Fault, Group, Layout, LayoutColumn};
use crate::error::Reason;

/// The columns of one batch. Values go to the current row; [`commit`](Columns::commit) goes on to the next row and
/// [`rollback`](Columns::rollback) forgets what was written to it. Storage is made once per batch at its full length,
/// so that a value is one store and a rejected row costs nothing.
pub(crate) struct Columns {
    row: usize,
    pub f32s: Vec<Vec<f32>>,
    pub f64s: Vec<Vec<f64>>,
    pub i32s: Vec<Vec<i32>>,
    pub i64s: Vec<Vec<i64>>,
    pub bools: Vec<Vec<bool>>,
    pub bytes: Vec<Bytes>,
    /// Rows that are null, ascending, per column of the layout: most columns have none.
    nulls: Vec<Vec<u32>>,
}

/// Variable-length values of one column.
pub(crate) struct Bytes {
    data: Vec<u8>,
    /// `offsets[row]..offsets[row + 1]` is the value of `row`.
    offsets: Vec<i32>,
}

impl Columns {
    /// Columns for at most `capacity` rows.
    pub fn new(layout: &Layout, capacity: usize) -> Self {
        fn zeros<T: Copy + Default>(n_columns: usize, capacity: usize) -> Vec<Vec<T>> {
            (0..n_columns).map(|_| vec![T::default(); capacity]).collect()
        }
        let bytes = |_| Bytes { data: Vec::new(), offsets: vec![0; capacity + 1] };
        Self {
            row: 0,
            f32s: zeros(layout.n_in_group(Group::F32), capacity),
            f64s: zeros(layout.n_in_group(Group::F64), capacity),
            i32s: zeros(layout.n_in_group(Group::I32), capacity),
            i64s: zeros(layout.n_in_group(Group::I64), capacity),
            bools: zeros(layout.n_in_group(Group::Bool), capacity),
            bytes: (0..layout.n_in_group(Group::Bytes)).map(bytes).collect(),
            nulls: vec![Vec::new(); layout.len()],
        }
    }

    /// The current row.
    #[inline]
    pub fn row(&self) -> usize {
        self.row
    }

    /// Appends a value to a variable-length column.
    #[inline]
    pub fn put_bytes(&mut self, at: u32, value: &[u8]) -> Result<(), Fault> {
        let row = self.row;
        let column = &mut self.bytes[at as usize];
        let start = column.offsets[row] as usize;
        let too_long = || Fault::new(Reason::Oversized, "the column of this batch exceeds 2 GiB");
        let end = i32::try_from(start + value.len()).map_err(|_| too_long())?;
        // Whatever a row that was given up left behind goes first.
        column.data.truncate(start);
        column.data.extend_from_slice(value);
        column.offsets[row + 1] = end;
        Ok(())
    }

    /// Makes the value of the current row null, where the column allows it.
    #[inline]
    pub fn put_null(&mut self, column: &LayoutColumn) -> Result<(), Fault> {
        if column.required {
            return Err(Fault::new(Reason::Missing, "no value, and the column is not nullable").at(column.column));
        }
        let row = self.row as u32;
        let nulls = &mut self.nulls[column.column as usize];
        if nulls.last() != Some(&row) {
            nulls.push(row);
        }
        if column.column_type.group() == Group::Bytes {
            let bytes = &mut self.bytes[column.at as usize];
            bytes.offsets[self.row + 1] = bytes.offsets[self.row];
        }
        Ok(())
    }

    /// Keeps the current row and goes on to the next. Every column must have been given a value or a null.
    #[inline]
    pub fn commit(&mut self) {
        self.row += 1;
    }

    /// Forgets the current row.
    #[cold]
    pub fn rollback(&mut self) {
        let row = self.row as u32;
        for nulls in &mut self.nulls {
            if nulls.last() == Some(&row) {
                nulls.pop();
            }
        }
    }

    /// The committed rows as Arrow columns.
    pub fn finish(mut self, layout: &mut Layout) -> Result<RecordBatch, ArrowError> {
        let n_rows = self.row;
        let schema = layout.schema();
        let mut arrays = Vec::with_capacity(layout.len());
        for column in layout.columns() {
            let nulls = validity(&self.nulls[column.column as usize], n_rows);
            arrays.push(self.array(column, nulls)?);
        }
        RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(n_rows)))
    }

    fn array(&mut self, column: &LayoutColumn, nulls: Option<NullBuffer>) -> Result<ArrayRef, ArrowError> {
        fn take<T: Copy>(group: &mut [Vec<T>], at: u32, n_rows: usize) -> Vec<T> {
            let mut values = std::mem::take(&mut group[at as usize]);
            values.truncate(n_rows);
            values
        }
        let (at, n_rows) = (column.at, self.row);
        Ok(match column.column_type {
            ColumnType::Float32 => Arc::new(Float32Array::try_new(take(&mut self.f32s, at, n_rows).into(), nulls)?),
            ColumnType::Float64 => Arc::new(Float64Array::try_new(take(&mut self.f64s, at, n_rows).into(), nulls)?),
            ColumnType::Int32 => Arc::new(Int32Array::try_new(take(&mut self.i32s, at, n_rows).into(), nulls)?),
            ColumnType::Int64 => Arc::new(Int64Array::try_new(take(&mut self.i64s, at, n_rows).into(), nulls)?),
            ColumnType::Date => Arc::new(Date32Array::try_new(take(&mut self.i32s, at, n_rows).into(), nulls)?),
            ColumnType::TimestampMillis => {
                let values = take(&mut self.i64s, at, n_rows);
                Arc::new(TimestampMillisecondArray::try_new(values.into(), nulls)?.with_timezone("UTC"))
            }
            ColumnType::TimestampMicros => {
                let values = take(&mut self.i64s, at, n_rows);
                Arc::new(TimestampMicrosecondArray::try_new(values.into(), nulls)?.with_timezone("UTC"))
            }
            ColumnType::Boolean => {
                let values = BooleanBuffer::from(take(&mut self.bools, at, n_rows));
                Arc::new(BooleanArray::new(values, nulls))
            }
            ColumnType::Utf8 => {
                let (offsets, data) = self.bytes[at as usize].take(n_rows);
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            ColumnType::Binary => {
                let (offsets, data) = self.bytes[at as usize].take(n_rows);
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
        })
    }
}

impl Bytes {
    fn take(&mut self, n_rows: usize) -> (OffsetBuffer<i32>, Buffer) {
        let mut offsets = std::mem::take(&mut self.offsets);
        offsets.truncate(n_rows + 1);
        let mut data = std::mem::take(&mut self.data);
        data.truncate(offsets[n_rows] as usize);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(data))
    }
}

fn validity(nulls: &[u32], n_rows: usize) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut valid = vec![true; n_rows];
    for &row in nulls {
        valid[row as usize] = false;
    }
    Some(NullBuffer::from(valid))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Float32Type;

    use super::*;
    use crate::decode::columns::Scalar;

    #[test]
    fn a_rolled_back_row_leaves_no_trace() {
        let mut layout = Layout::default();
        let number = layout.add("number", ColumnType::Float32, true);
        let text = layout.add("text", ColumnType::Utf8, true);
        let (number, text) = (layout.columns()[number as usize].clone(), layout.columns()[text as usize].clone());
        let mut columns = Columns::new(&layout, 4);
        columns.put(&number, Scalar::Float(1.0)).unwrap();
        columns.put(&text, Scalar::Text("first")).unwrap();
        columns.commit();
        columns.put_null(&number).unwrap();
        columns.put(&text, Scalar::Text("rolled back")).unwrap();
        columns.rollback();
        columns.put(&number, Scalar::Float(2.0)).unwrap();
        columns.put_null(&text).unwrap();
        columns.commit();
        columns.put(&text, Scalar::Text("half of the last row")).unwrap();
        let batch = columns.finish(&mut layout).unwrap();
        let numbers = batch.column(0).as_primitive::<Float32Type>();
        assert_eq!((numbers.values().as_ref(), numbers.null_count()), (&[1.0, 2.0][..], 0));
        let texts: Vec<_> = batch.column(1).as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("first"), None]);
    }
}
