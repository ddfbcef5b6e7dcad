//! The conformance suite of [`Preprocessor`].

use arrow::array::{BinaryArray, RecordBatch};

use super::rows::{Fate, batch_of, fates, rows};
use crate::batch::Batch;
use crate::pipeline::TaskContext;
use crate::preprocess::Preprocessor;

/// Checks that the preprocessors which `make` makes keep the contract of [`Preprocessor`], for rows of these columns.
///
/// 1. every input row has exactly one fate, and two preprocessors of one configuration agree on it;
/// 2. rows of one key keep their order;
/// 3. n rows at once give what n times one row give, and nothing is kept from one call to the next;
/// 4. a rejected or filtered row leaves its neighbours as they are without it;
/// 5. rows are named by their place in the input, not by the message they came from;
/// 6. no rows are fine.
///
/// A sample should have rows of every fate.
///
/// # Panics
/// Where they do not.
pub async fn conforms(make: impl Fn() -> Box<dyn Preprocessor>, samples: &[RecordBatch]) {
    assert!(samples.iter().any(|sample| sample.num_rows() >= 2), "the suite needs a sample of two rows");
    for sample in samples {
        for batch in [batch_of(sample.clone()), two_devices(sample)] {
            let whole = apply(&mut *open(&make).await, &batch);
            assert_eq!(whole, apply(&mut *open(&make).await, &batch), "another one gives something else");
            batches_may_be_split_anywhere(&mut *open(&make).await, &batch, &whole);
            neighbours_are_unharmed(&mut *open(&make).await, &batch, &whole);
            rows_are_named_by_their_place(&mut *open(&make).await, &batch, &whole);
            no_rows_are_fine(&mut *open(&make).await, &batch);
        }
    }
}

async fn open(make: &impl Fn() -> Box<dyn Preprocessor>) -> Box<dyn Preprocessor> {
    let mut stage = make();
    stage.open(&TaskContext::single("conformance")).await.expect("open");
    stage
}

/// The same columns with two keys in turn and no key in every fifth row.
fn two_devices(sample: &RecordBatch) -> Batch {
    let key = |row: usize| (row % 5 != 4).then_some(["car-a", "car-b"][row % 2]);
    let keys: BinaryArray = (0..sample.num_rows()).map(key).collect();
    batch_of(sample.clone()).with_keys(keys).expect("as many keys as rows")
}

/// What became of every row of the batch.
fn apply(stage: &mut dyn Preprocessor, batch: &Batch) -> Vec<Fate> {
    let origins: Vec<usize> = (0..batch.len()).map(|row| batch.origin(row)).collect();
    let output = stage.apply(batch.clone()).unwrap_or_else(|error| panic!("apply failed: {error}"));
    let place = |row| origins.iter().position(|origin| *origin == output.batch.origin(row));
    keeps_order(&output.batch, |row| place(row).and_then(|input| batch.key(input)), place);
    keeps_order(&output.batch, |row| output.batch.key(row), place);
    fates(&origins, &output)
}

/// Rows of one key, as it was or as it is now, stand in the order they came in (invariant 11).
fn keeps_order<'a>(output: &Batch, key: impl Fn(usize) -> Option<&'a [u8]>, place: impl Fn(usize) -> Option<usize>) {
    let mut last = std::collections::HashMap::new();
    for row in 0..output.len() {
        let (Some(key), Some(place)) = (key(row), place(row)) else { continue };
        if let Some(before) = last.insert(key, place) {
            let key = String::from_utf8_lossy(key);
            assert!(before <= place, "of key {key:?}, input row {before} comes before input row {place}");
        }
    }
}

fn batches_may_be_split_anywhere(stage: &mut dyn Preprocessor, batch: &Batch, whole: &[Fate]) {
    for (row, fate) in whole.iter().enumerate() {
        let single = batch.take(&[row as u32]).expect("a row of the batch");
        assert_eq!(
            apply(stage, &single),
            std::slice::from_ref(fate),
            "row {row} alone and in a batch of {}",
            batch.len()
        );
    }
    let (left, right) = (0..batch.len() as u32).partition::<Vec<_>, _>(|row| (*row as usize) < batch.len() / 3);
    let parts = [left, right].map(|part| apply(stage, &batch.take(&part).expect("rows of the batch")));
    assert_eq!(parts.concat(), whole, "two parts and the whole");
}

fn neighbours_are_unharmed(stage: &mut dyn Preprocessor, batch: &Batch, whole: &[Fate]) {
    let kept = |fate: &Fate| matches!(fate, Fate::Kept(_));
    let good: Vec<u32> = (0..batch.len() as u32).filter(|row| kept(&whole[*row as usize])).collect();
    let alone = apply(stage, &batch.take(&good).expect("rows of the batch"));
    let want: Vec<Fate> = whole.iter().filter(|fate| kept(fate)).cloned().collect();
    assert_eq!(alone, want, "the kept rows without the others");
}

fn rows_are_named_by_their_place(stage: &mut dyn Preprocessor, batch: &Batch, whole: &[Fate]) {
    let backwards: Vec<u32> = (0..batch.len() as u32).rev().collect();
    let mut found = apply(stage, &batch.take(&backwards).expect("rows of the batch"));
    found.reverse();
    assert_eq!(found, whole, "the rows in reverse");
}

fn no_rows_are_fine(stage: &mut dyn Preprocessor, batch: &Batch) {
    let none = batch.take(&[]).expect("no rows of the batch");
    assert_eq!(apply(stage, &none), []);
    let output = stage.apply(Batch::undecoded(none.raw().clone()).take(&[]).expect("no rows")).expect("no columns");
    assert_eq!(rows(&output.batch).len(), 0, "no rows and no columns");
}
