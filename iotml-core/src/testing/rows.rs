//! Batches to feed a stage with, and rows written out so that two batches can be compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, make_array};
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;

use crate::batch::{Batch, Coordinate, Lane, Message, Position, RawBatch, RawMessage, StageOutput};
use crate::error::{Cause, Reason};

/// A raw batch on lane 0 with these payloads (`None` is a tombstone); message `i` has key `key-i` and time `i`.
pub fn raw_batch<P: AsRef<[u8]>>(payloads: impl IntoIterator<Item = Option<P>>) -> Arc<RawBatch> {
    let mut batch = RawBatch::default();
    for (n, payload) in payloads.into_iter().enumerate() {
        let key = format!("key-{n}");
        batch.push(RawMessage {
            message: Message {
                payload: payload.as_ref().map(AsRef::as_ref),
                key: Some(key.as_bytes()),
                time: Some(n as i64),
                topic: Some("test"),
                ..Message::default()
            },
            position: Position { lane: Lane(0), seq: n as u64 },
            coordinate: Coordinate { partition: 0, offset: n as i64 },
        });
    }
    Arc::new(batch)
}

/// A decoded batch of these columns, one row per message of a [`raw_batch`] with empty payloads.
pub fn batch_of(columns: RecordBatch) -> Batch {
    let n_rows = columns.num_rows();
    let raw = raw_batch((0..n_rows).map(|_| Some(b"")));
    Batch::decoded(raw, (0..n_rows as u32).collect(), columns)
}

/// A row written out: its values by column without nulls, and its key and time as `@key` and `@time`.
pub type Row = BTreeMap<String, String>;

/// All rows of a batch, written out.
pub fn rows(batch: &Batch) -> Vec<Row> {
    (0..batch.len()).map(|row| row_of(batch, row)).collect()
}

fn row_of(batch: &Batch, row: usize) -> Row {
    let columns = batch.columns();
    let mut out = Row::new();
    for (field, array) in columns.schema().fields().iter().zip(columns.columns()) {
        if array.is_valid(row) {
            let value = array_value_to_string(&without_zone(array), row);
            let value = value.unwrap_or_else(|error| panic!("column {:?} is unprintable: {error}", field.name()));
            out.insert(field.name().clone(), value);
        }
    }
    if let Some(key) = batch.key(row) {
        out.insert("@key".into(), String::from_utf8_lossy(key).into_owned());
    }
    if let Some(time) = batch.time(row) {
        out.insert("@time".into(), time.to_string());
    }
    out
}

/// Printing a time in its zone needs a database of zones; underneath all are UTC.
fn without_zone(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let naive = array.to_data().into_builder().data_type(DataType::Timestamp(*unit, None)).build();
            make_array(naive.unwrap_or_else(|error| panic!("a time without its zone: {error}")))
        }
        _ => array.clone(),
    }
}

/// What became of one input row.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It is the origin of these rows.
    Kept(Vec<Row>),
    /// It was rejected.
    Rejected(Reason),
    /// It was left out on purpose.
    Filtered,
}

/// What became of every row of an input whose row `i` came from message `origins[i]`.
///
/// # Panics
/// If a row has no fate or two, if `rejected` or `filtered` are not in ascending order, or if a row's origin is not in the input.
pub fn fates(origins: &[usize], output: &StageOutput) -> Vec<Fate> {
    let mut fates: Vec<Option<Fate>> = vec![None; origins.len()];
    let mut settle = |row: u32, fate: Fate| {
        let slot = fates.get_mut(row as usize).unwrap_or_else(|| panic!("row {row} is not in the input"));
        assert!(slot.is_none(), "row {row} has two fates: {slot:?} and {fate:?}");
        *slot = Some(fate);
    };
    assert!(output.rejected.is_sorted_by(|a, b| a.row < b.row), "rejected rows are not in ascending order");
    assert!(output.filtered.is_sorted_by(|a, b| a < b), "filtered rows are not in ascending order");
    for rejected in &output.rejected {
        let Cause { reason, detail, .. } = &rejected.cause;
        assert!(!detail.is_empty(), "row {} is rejected ({reason}) without a detail", rejected.row);
        settle(rejected.row, Fate::Rejected(*reason));
    }
    output.filtered.iter().for_each(|row| settle(*row, Fate::Filtered));
    for row in 0..output.batch.len() {
        let origin = output.batch.origin(row);
        let input = origins.iter().position(|known| *known == origin);
        let input = input.unwrap_or_else(|| panic!("row {row} came from message {origin}, which is not in the input"));
        match &mut fates[input] {
            Some(Fate::Kept(rows)) => rows.push(row_of(&output.batch, row)),
            Some(other) => panic!("row {input} was kept and is also {other:?}"),
            none => *none = Some(Fate::Kept(vec![row_of(&output.batch, row)])),
        }
    }
    let fate = |(row, fate): (usize, Option<Fate>)| fate.unwrap_or_else(|| panic!("row {row} has no fate"));
    fates.into_iter().enumerate().map(fate).collect()
}
