//! The conformance suite of [`Encoder`].

use std::sync::Arc;

use super::rows::raw_batch;
use crate::batch::{Batch, Coordinate, Lane, Message, Position, RawBatch, RawMessage};
use crate::encode::{Encoded, Encoder};

/// Checks that the encoders which `make` makes keep the contract of [`Encoder`] on the columns of `batch`, which has at least two rows.
///
/// # Panics
/// Where they do not.
pub async fn conforms<E: Encoder>(make: impl Fn() -> E, batch: &Batch) {
    assert!(batch.len() >= 2, "the suite needs two rows");
    let batch = &with_envelope(batch);
    let whole = encode(&mut make(), batch).await;
    every_row_has_a_message_with_its_envelope(batch, &whole);
    the_same_rows_give_the_same_bytes(&make, batch, &whole).await;
    rows_are_encoded_one_by_one(&make, batch, &whole).await;
    an_empty_batch_is_fine(&make).await;
}

async fn encode<E: Encoder>(encoder: &mut E, batch: &Batch) -> Encoded {
    encoder.prepare(batch).await.unwrap_or_else(|error| panic!("prepare failed: {error}"));
    let encoded = encoder.encode(batch).unwrap_or_else(|error| panic!("encode failed: {error}"));
    assert_eq!(encoded.messages.len(), batch.len(), "one message per row");
    assert!(encoded.rejected.is_sorted_by(|a, b| a.row < b.row), "rejected rows are not in ascending order");
    assert!(encoded.rejected.iter().all(|rejected| (rejected.row as usize) < batch.len()));
    encoded
}

/// The same columns over messages with topics, targets and headers.
fn with_envelope(batch: &Batch) -> Batch {
    let mut raw = RawBatch::default();
    for row in 0..batch.len() {
        let key = format!("key-{row}");
        raw.push(RawMessage {
            message: Message {
                payload: Some(b"before"),
                key: (row % 3 != 2).then_some(key.as_bytes()),
                time: (row % 2 == 0).then_some(row as i64),
                topic: Some("from"),
                target: Some("to"),
            },
            position: Position { lane: Lane(0), seq: row as u64 },
            coordinate: Coordinate::NONE,
        });
        raw.push_header("row", Some(row.to_string().as_bytes()));
    }
    Batch::decoded(Arc::new(raw), (0..batch.len() as u32).collect(), batch.columns().clone())
}

fn every_row_has_a_message_with_its_envelope(batch: &Batch, encoded: &Encoded) {
    for row in 0..batch.len() {
        let message = encoded.messages.message(row);
        assert_eq!(message.key, batch.key(row), "key of row {row}");
        assert_eq!(message.time, batch.time(row), "time of row {row}");
        assert_eq!((message.topic, message.target), (Some("from"), Some("to")), "topics of row {row}");
        let header = encoded.messages.headers().last(row, "row").and_then(|header| header.value);
        assert_eq!(header, Some(row.to_string().as_bytes()), "header of row {row}");
    }
}

/// What became of one row: its bytes, or why there are none.
fn outcome(encoded: &Encoded, row: usize) -> Result<Option<Vec<u8>>, String> {
    match encoded.rejected.iter().find(|rejected| rejected.row as usize == row) {
        Some(rejected) => Err(rejected.cause.to_string()),
        None => Ok(encoded.messages.payload(row).map(<[u8]>::to_vec)),
    }
}

async fn the_same_rows_give_the_same_bytes<E: Encoder>(make: &impl Fn() -> E, batch: &Batch, whole: &Encoded) {
    let (mut one, mut two) = (make(), make());
    encode(&mut one, batch).await;
    for again in [encode(&mut one, batch).await, encode(&mut two, batch).await] {
        for row in 0..batch.len() {
            assert_eq!(outcome(&again, row), outcome(whole, row), "row {row} the second time");
        }
    }
}

/// A row that is rejected must not change its neighbours, so each row alone gives what it gives among others.
async fn rows_are_encoded_one_by_one<E: Encoder>(make: &impl Fn() -> E, batch: &Batch, whole: &Encoded) {
    let mut encoder = make();
    for row in 0..batch.len() {
        let alone = batch.take(&[row as u32]).unwrap_or_else(|error| panic!("row {row} cannot be taken: {error}"));
        assert_eq!(outcome(&encode(&mut encoder, &alone).await, 0), outcome(whole, row), "row {row} alone");
    }
}

async fn an_empty_batch_is_fine<E: Encoder>(make: &impl Fn() -> E) {
    let empty = Batch::undecoded(raw_batch([None::<Vec<u8>>; 0]));
    assert!(encode(&mut make(), &empty).await.messages.is_empty());
}
