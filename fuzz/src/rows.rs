//! Properties of every decoder, and cells to compare with an oracle.

use std::collections::BTreeMap;

use iotml_core::arrow::array::{Array, ArrayRef, AsArray};
use iotml_core::arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType,
};
use iotml_core::batch::{Batch, StageOutput};
use iotml_core::decode::Decoder;
use iotml_core::error::Reason;
use iotml_core::testing::rows::raw_batch;

/// A value in a column, comparable bit by bit.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    F32(u32),
    F64(u64),
    Text(String),
    Bytes(Vec<u8>),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Kept(BTreeMap<String, Cell>),
    Rejected(Reason),
}

/// Decodes `messages` as one batch and checks that each became a row or was rejected, and that it fares the same in a batch of its
/// own. `decoder` makes a fresh decoder.
pub fn decode(messages: &[&[u8]], decoder: impl Fn() -> Box<dyn Decoder>) -> Vec<Fate> {
    let all = fates(&run(&mut *decoder(), messages), messages.len());
    // The same decoder throughout, because columns may be those of the first row.
    let mut by_one = decoder();
    for (n, fate) in all.iter().enumerate() {
        let one = fates(&run(&mut *by_one, &messages[n..=n]), 1).remove(0);
        assert_eq!(without_nulls(fate), without_nulls(&one), "message {n} fares differently alone");
    }
    all
}

/// Runs a decoder as a pipeline does.
fn run(decoder: &mut dyn Decoder, messages: &[&[u8]]) -> StageOutput {
    let raw = raw_batch(messages.iter().map(Some));
    futures_util::FutureExt::now_or_never(decoder.prepare(&raw)).expect("no waiting").expect("every schema is at hand");
    decoder.decode(&raw).expect("bad input is no error of the decoder")
}

fn fates(output: &StageOutput, n_messages: usize) -> Vec<Fate> {
    assert!(output.filtered.is_empty(), "a decoder filters nothing");
    assert_eq!(output.batch.len() + output.rejected.len(), n_messages, "rows in = rows out + rejected");
    let mut fates = vec![None; n_messages];
    let mut settle = |at: usize, fate| assert!(fates[at].replace(fate).is_none(), "message {at} has two fates");
    for rejected in &output.rejected {
        assert!(!rejected.cause.detail.is_empty() && rejected.cause.detail.len() < 10_000, "{}", rejected.cause.detail);
        settle(rejected.row as usize, Fate::Rejected(rejected.cause.reason));
    }
    for row in 0..output.batch.len() {
        settle(output.batch.origin(row), Fate::Kept(cells(&output.batch, row)));
    }
    fates.into_iter().map(|fate| fate.expect("every message has a fate")).collect()
}

fn without_nulls(fate: &Fate) -> Fate {
    match fate {
        // A column that only a later schema brings is null before it and absent in a batch that ends before it.
        Fate::Kept(row) => Fate::Kept(row.clone().into_iter().filter(|(_, cell)| *cell != Cell::Null).collect()),
        Fate::Rejected(reason) => Fate::Rejected(*reason),
    }
}

fn cells(batch: &Batch, row: usize) -> BTreeMap<String, Cell> {
    let columns = batch.columns();
    let schema = columns.schema();
    let named = schema.fields().iter().zip(columns.columns());
    named.map(|(field, array)| (field.name().clone(), cell(array, row))).collect()
}

fn cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => Cell::Int(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Cell::Int(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        DataType::Timestamp(..) => Cell::Int(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Float32 => Cell::F32(array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => Cell::F64(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        other => panic!("no decoder makes {other}"),
    }
}
