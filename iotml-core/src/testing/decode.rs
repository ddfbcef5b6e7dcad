//! The conformance suite of [`Decoder`].

use std::sync::Arc;

use super::rows::{Fate, fates, raw_batch};
use crate::batch::RawBatch;
use crate::decode::Decoder;
use crate::error::Reason;

/// Payloads to run the suite with.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Payloads that decode; at least two different ones. For a decoder that infers its columns, the first decides.
    pub good: Vec<Vec<u8>>,
    /// Payloads that are rejected, and why. `None` is a tombstone.
    pub bad: Vec<(Option<Vec<u8>>, Reason)>,
}

/// Checks that the decoders which `make` makes keep the contract of [`Decoder`].
///
/// # Panics
/// Where they do not.
pub async fn conforms<D: Decoder>(make: impl Fn() -> D, samples: &Samples) {
    assert!(samples.good.len() >= 2, "the suite needs two good payloads");
    let good: Vec<Option<Vec<u8>>> = samples.good.iter().cloned().map(Some).collect();
    good_rows_keep_their_order(&make, &good).await;
    a_bad_row_is_rejected_by_itself(&make, &good, &samples.bad).await;
    batches_may_be_split_anywhere(&make, &good, &samples.bad).await;
    garbage_never_panics(&make, &good).await;
    an_empty_batch_is_fine(&make).await;
}

async fn decode<D: Decoder>(decoder: &mut D, raw: &Arc<RawBatch>) -> Vec<Fate> {
    decoder.prepare(raw).await.unwrap_or_else(|error| panic!("prepare failed: {error}"));
    let output = decoder.decode(raw).unwrap_or_else(|error| panic!("decode failed: {error}"));
    assert!(output.filtered.is_empty(), "a decoder filters nothing");
    let origins: Vec<usize> = (0..output.batch.len()).map(|row| output.batch.origin(row)).collect();
    assert!(origins.is_sorted_by(|a, b| a < b), "row order is not kept: {origins:?}");
    let all: Vec<usize> = (0..raw.len()).collect();
    fates(&all, &output)
}

async fn good_rows_keep_their_order<D: Decoder>(make: &impl Fn() -> D, good: &[Option<Vec<u8>>]) {
    let raw = raw_batch(good.iter().cloned());
    let (mut one, mut two) = (make(), make());
    let first = decode(&mut one, &raw).await;
    for (row, fate) in first.iter().enumerate() {
        assert!(matches!(fate, Fate::Kept(rows) if rows.len() == 1), "good row {row} became {fate:?}");
    }
    assert_eq!(first, decode(&mut two, &raw).await, "another decoder gives something else");
    assert_eq!(first, decode(&mut one, &raw).await, "the same decoder gives something else the second time");
}

/// Puts each bad payload between good ones: they must come out as if it were not there (invariant 7).
async fn a_bad_row_is_rejected_by_itself<D: Decoder>(
    make: &impl Fn() -> D,
    good: &[Option<Vec<u8>>],
    bad: &[(Option<Vec<u8>>, Reason)],
) {
    for (payload, reason) in bad {
        let mixed = [good[0].clone(), payload.clone(), good[1].clone(), payload.clone()];
        let fates_mixed = decode(&mut make(), &raw_batch(mixed)).await;
        let alone = decode(&mut make(), &raw_batch([good[0].clone(), good[0].clone(), good[1].clone()])).await;
        let shown =
            payload.as_ref().map(|payload| String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned());
        assert_eq!(fates_mixed[1], Fate::Rejected(*reason), "payload {shown:?}");
        assert_eq!(fates_mixed[3], Fate::Rejected(*reason), "payload {shown:?} at the end");
        assert_eq!((&fates_mixed[0], &fates_mixed[2]), (&alone[0], &alone[2]), "neighbours of {shown:?}");
    }
}

async fn batches_may_be_split_anywhere<D: Decoder>(
    make: &impl Fn() -> D,
    good: &[Option<Vec<u8>>],
    bad: &[(Option<Vec<u8>>, Reason)],
) {
    let mut payloads = good.to_vec();
    for (n, (payload, _)) in bad.iter().enumerate() {
        payloads.insert((1 + n * 2).min(payloads.len()), payload.clone());
    }
    let whole = decode(&mut make(), &raw_batch(payloads.iter().cloned())).await;
    let mut decoder = make();
    for (row, payload) in payloads.iter().enumerate() {
        let single = decode(&mut decoder, &raw_batch([payload.clone()])).await;
        assert_eq!(without_envelope(&single[0]), without_envelope(&whole[row]), "row {row} alone and in a batch");
    }
}

/// Key and time are made from the row's number in its batch, so they differ between a batch and its parts.
fn without_envelope(fate: &Fate) -> Fate {
    match fate {
        Fate::Kept(rows) => {
            let strip =
                |row: &super::rows::Row| row.clone().into_iter().filter(|(name, _)| !name.starts_with('@')).collect();
            Fate::Kept(rows.iter().map(strip).collect())
        }
        other => other.clone(),
    }
}

/// Cuts good payloads short and flips their bits: whatever becomes of those rows, their neighbours are untouched.
async fn garbage_never_panics<D: Decoder>(make: &impl Fn() -> D, good: &[Option<Vec<u8>>]) {
    let Some(sample) = &good[1] else { return };
    let mut payloads = Vec::new();
    for at in 0..sample.len().min(300) {
        payloads.push(sample[..at].to_vec());
        for bit in [0x01, 0x80, 0xff] {
            let mut flipped = sample.clone();
            flipped[at] ^= bit;
            payloads.push(flipped);
        }
    }
    // The sound rows come first and between, so that a decoder which infers its columns has seen one.
    let between = payloads.into_iter().flat_map(|payload| [good[0].clone(), Some(payload)]);
    let found = decode(&mut make(), &raw_batch(between)).await;
    let expected = decode(&mut make(), &raw_batch([good[0].clone()])).await;
    for fate in found.iter().step_by(2) {
        assert_eq!(without_envelope(fate), without_envelope(&expected[0]), "a sound row next to garbage");
    }
}

async fn an_empty_batch_is_fine<D: Decoder>(make: &impl Fn() -> D) {
    assert!(decode(&mut make(), &raw_batch([None::<Vec<u8>>; 0])).await.is_empty());
}
