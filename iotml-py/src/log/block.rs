//! Rows that are ready: what becomes NumPy arrays, and what they came from.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray,
    UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use iotml_core::batch::NO_TIME;

use super::rows::Envelope;
use super::stats::Snapshot;

/// The columns that say where a row came from.
pub const ORIGIN: [&str; 4] = ["_key", "_partition", "_offset", "_time"];

/// Rows that are ready.
pub struct Block {
    pub numbers: Numbers,
    pub origins: Arc<Origins>,
    /// The read as of this block.
    pub snapshot: Arc<Snapshot>,
}

/// What becomes NumPy arrays, without a copy.
#[derive(Default)]
pub struct Numbers {
    /// Rows of features; where there are windows, their rows.
    pub x: Vec<f32>,
    /// The row after each window.
    pub target: Vec<f32>,
    pub y: Vec<f32>,
}

/// What the rows came from, in pieces as they were read.
#[derive(Default)]
pub struct Origins {
    pub pieces: Vec<Piece>,
    pub n_rows: usize,
}

/// Rows that were decoded together.
pub struct Piece {
    pub columns: RecordBatch,
    pub envelope: Envelope,
    /// Those that are part of the block; `None`: all.
    pub kept: Option<Vec<u32>>,
}

impl Piece {
    fn n_rows(&self) -> usize {
        self.kept.as_ref().map_or(self.columns.num_rows(), Vec::len)
    }

    fn row(&self, number: usize) -> usize {
        self.kept.as_ref().map_or(number, |kept| kept[number] as usize)
    }
}

impl Origins {
    pub fn push(&mut self, piece: Piece) {
        self.n_rows += piece.n_rows();
        self.pieces.push(piece);
    }

    /// Calls `each` with the place of every row of `rows`, in order.
    pub fn visit(&self, rows: &Range<usize>, mut each: impl FnMut(&Envelope, usize)) {
        self.overlap(rows, |piece, part| part.for_each(|number| each(&piece.envelope, piece.row(number))));
    }

    fn overlap<'a>(&'a self, rows: &Range<usize>, mut each: impl FnMut(&'a Piece, Range<usize>)) {
        let mut first = 0;
        for piece in &self.pieces {
            let n_rows = piece.n_rows();
            let part = rows.start.max(first)..rows.end.min(first + n_rows);
            if !part.is_empty() {
                each(piece, part.start - first..part.end - first);
            }
            first += n_rows;
        }
    }

    /// The decoded columns of `rows`, raw, and where each row came from: `_key`, `_partition`, `_offset`, `_time`.
    pub fn columns(&self, rows: &Range<usize>) -> Result<RecordBatch, ArrowError> {
        let mut parts = Vec::new();
        self.overlap(rows, |piece, part| parts.push((piece, part)));
        let schema = common(parts.iter().map(|(piece, _)| piece.columns.schema_ref()));
        let parts = parts.into_iter().map(|(piece, part)| conform(&chosen(piece, part)?, &schema));
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let columns = concat_batches(&schema, &parts)?;
        let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
        let mut arrays = columns.columns().to_vec();
        for (field, array) in self.envelope(rows) {
            fields.push(Arc::new(field));
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
    }

    fn envelope(&self, rows: &Range<usize>) -> [(Field, ArrayRef); 4] {
        let n = rows.len();
        let (mut keys, mut partitions) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let (mut offsets, mut times) = (Vec::with_capacity(n), Vec::with_capacity(n));
        self.overlap(rows, |piece, part| {
            for row in part.map(|number| piece.row(number)) {
                let place = piece.envelope.place(row);
                keys.push(piece.envelope.key(row));
                partitions.push(place.partition);
                offsets.push(place.offset);
                times.push(Some(piece.envelope.time(row)).filter(|time| *time != NO_TIME));
            }
        });
        let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
        let instant = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        let [key, partition, offset, time] = ORIGIN;
        [
            (Field::new(key, DataType::Binary, true), Arc::new(BinaryArray::from(keys)) as ArrayRef),
            (Field::new(partition, DataType::Int32, false), Arc::new(Int32Array::from(partitions))),
            (Field::new(offset, DataType::Int64, false), Arc::new(Int64Array::from(offsets))),
            (Field::new(time, instant, true), Arc::new(times)),
        ]
    }
}

fn chosen(piece: &Piece, part: Range<usize>) -> Result<RecordBatch, ArrowError> {
    let Some(kept) = &piece.kept else { return Ok(piece.columns.slice(part.start, part.len())) };
    let indices = UInt32Array::from(kept[part.clone()].to_vec());
    let arrays = piece.columns.columns().iter().map(|array| take(array, &indices, None));
    let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
    RecordBatch::try_new_with_options(piece.columns.schema(), arrays.collect::<Result<_, _>>()?, &options)
}

/// All columns of `schemas`, each of the type it has first; any may hold nulls.
fn common<'a>(schemas: impl Iterator<Item = &'a SchemaRef>) -> SchemaRef {
    let mut fields: Vec<FieldRef> = Vec::new();
    for field in schemas.flat_map(|schema| schema.fields()) {
        if !fields.iter().any(|known| known.name() == field.name()) {
            fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
        }
    }
    Arc::new(Schema::new(fields))
}

/// The columns that `schema` names, cast to its types; null where `columns` has none.
pub fn conform(columns: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let arrays = schema.fields().iter().map(|field| match columns.column_by_name(field.name()) {
        Some(array) if array.data_type() == field.data_type() => Ok(array.clone()),
        Some(array) => cast(array, field.data_type()),
        None => Ok(new_null_array(field.data_type(), columns.num_rows())),
    });
    let options = RecordBatchOptions::new().with_row_count(Some(columns.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), arrays.collect::<Result<_, _>>()?, &options)
}
