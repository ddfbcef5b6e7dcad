//! The conformance suite of [`Scorer`].

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float32Type};

use super::rows::batch_of;
use crate::batch::{Batch, StageOutput};
use crate::error::Reason;
use crate::pipeline::TaskContext;
use crate::score::{Scorer, column};

/// Rows to run the suite with.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Rows that get a score; at least two. They are given to two devices in turn.
    pub good: RecordBatch,
    /// Single rows with the same columns that are rejected, and why.
    pub bad: Vec<(RecordBatch, Reason)>,
    /// Put before the names of the columns that the scorer appends.
    pub prefix: String,
    /// How far apart two scores of one row may be, relative to scores above 1: a kernel may add up in another order for
    /// another number of rows.
    pub tolerance: f32,
}

/// Checks that the scorers which `make` makes keep the contract of [`Scorer`].
///
/// 1. columns are appended, among them the score, with the types that [`mod@column`] says; all others and the order of rows
///    stay as they were;
/// 2. the verdict is null where the score is, and every row names the same model version (invariant 8);
/// 3. n rows at once give what n times one row give;
/// 4. a bad row is rejected with its reason, and its neighbours are scored as if it were not there (invariant 7);
/// 5. rows are named by their place in the input, not by the message they came from;
/// 6. no rows are fine.
///
/// # Panics
/// Where they do not.
pub async fn conforms(make: impl Fn() -> Box<dyn Scorer>, samples: &Samples) {
    assert!(samples.good.num_rows() >= 2, "the suite needs two good rows");
    let suite = Suite { samples };
    let good = suite.devices(&samples.good);
    let (mut scorer, mut again) = (open(&make).await, open(&make).await);
    let whole = suite.score(&mut *scorer, &good);
    assert!(whole.rejected.is_empty() && whole.filtered.is_empty(), "good rows are rejected: {:?}", whole.rejected);
    suite.assert_same(&suite.score(&mut *again, &good).batch, &whole.batch, "another scorer");
    suite.rows_come_one_by_one(&mut *open(&make).await, &good, &whole.batch);
    for (bad, reason) in &samples.bad {
        suite.a_bad_row_is_rejected_by_itself(&mut *open(&make).await, bad, *reason, &whole.batch);
    }
    let none = good.take(&[]).expect("no rows");
    assert!(suite.score(&mut *open(&make).await, &none).batch.is_empty(), "no rows");
}

async fn open(make: &impl Fn() -> Box<dyn Scorer>) -> Box<dyn Scorer> {
    let mut scorer = make();
    scorer.open(&TaskContext::single("conformance")).await.expect("open");
    scorer
}

struct Suite<'a> {
    samples: &'a Samples,
}

impl Suite<'_> {
    /// The rows as those of two devices in turn.
    fn devices(&self, rows: &RecordBatch) -> Batch {
        with_devices(rows, |row| row % 2)
    }

    /// Scores and checks everything that can be seen of one call.
    fn score(&self, scorer: &mut dyn Scorer, input: &Batch) -> StageOutput {
        let output = scorer.score(input.clone()).unwrap_or_else(|error| panic!("score failed: {error}"));
        assert!(output.rejected.is_sorted_by(|a, b| a.row < b.row), "rejected rows are not in ascending order");
        assert!(output.filtered.is_sorted_by(|a, b| a < b), "filtered rows are not in ascending order");
        let gone: Vec<u32> = output.rejected.iter().map(|row| row.row).chain(output.filtered.iter().copied()).collect();
        let kept: Vec<u32> = (0..input.len() as u32).filter(|row| !gone.contains(row)).collect();
        assert_eq!(kept.len() + gone.len(), input.len(), "rows with two fates: {gone:?}");
        let want = input.take(&kept).expect("rows of the batch");
        assert_eq!(output.batch.len(), want.len(), "rows that were neither scored nor named");
        for row in 0..want.len() {
            let envelope = |batch: &Batch| (batch.origin(row), batch.key(row).map(<[u8]>::to_vec), batch.time(row));
            assert_eq!(envelope(&output.batch), envelope(&want), "order and envelope of scored row {row}");
        }
        let (before, after) = (want.columns(), output.batch.columns());
        for (at, field) in before.schema().fields().iter().enumerate() {
            assert_eq!(after.schema().field(at), field.as_ref(), "a column of the input");
            assert_eq!(after.column(at), before.column(at), "the values of column {:?}", field.name());
        }
        if !want.is_empty() {
            self.check_appended(&output.batch);
        }
        output
    }

    fn appended<'b>(&self, batch: &'b Batch, name: &str) -> Option<&'b ArrayRef> {
        batch.column(&format!("{}{name}", self.samples.prefix))
    }

    fn check_appended(&self, batch: &Batch) {
        let types = [
            (column::SCORE, DataType::Float32),
            (column::THRESHOLD, DataType::Float32),
            (column::ANOMALY, DataType::Boolean),
            (column::MODEL, DataType::Utf8),
            (column::MODEL_VERSION, DataType::Utf8),
        ];
        for (name, want) in types {
            if let Some(array) = self.appended(batch, name) {
                assert_eq!(*array.data_type(), want, "the type of column {name:?}");
            }
        }
        let scores = self.appended(batch, column::SCORE).unwrap_or_else(|| panic!("no column {:?}", column::SCORE));
        if let Some(verdicts) = self.appended(batch, column::ANOMALY) {
            let is_unfounded = |row: &usize| scores.is_null(*row) && verdicts.is_valid(*row);
            let unfounded = (0..batch.len()).find(is_unfounded);
            assert_eq!(unfounded, None, "a row with a verdict and without a score");
        }
        if let Some(versions) = self.appended(batch, column::MODEL_VERSION) {
            let versions = versions.as_string::<i32>();
            let first = versions.value(0);
            assert!(versions.iter().all(|version| version == Some(first)), "inv 8: one model version: {versions:?}");
        }
    }

    fn rows_come_one_by_one(&self, scorer: &mut dyn Scorer, good: &Batch, whole: &Batch) {
        for row in 0..good.len() as u32 {
            let single = self.score(scorer, &good.take(&[row]).expect("a row"));
            self.assert_same(&single.batch, &whole.take(&[row]).expect("a row"), &format!("row {row} alone"));
        }
    }

    /// Puts the bad row before, between and behind good ones, and turns the input over, so that no row's place is that of
    /// its message.
    fn a_bad_row_is_rejected_by_itself(
        &self,
        scorer: &mut dyn Scorer,
        bad: &RecordBatch,
        reason: Reason,
        whole: &Batch,
    ) {
        let good = &self.samples.good;
        let n_good = good.num_rows();
        let parts: Vec<RecordBatch> = (0..n_good).flat_map(|row| [bad.clone(), good.slice(row, 1)]).collect();
        let parts = parts.iter().chain([bad]).rev();
        let mixed = concat_batches(&good.schema(), parts).expect("bad rows with the columns of the good ones");
        // Before turning over, the good row n stood at 2n + 1; the device of a bad row is that of the good one behind it.
        let mixed = with_devices(&mixed, |row| ((2 * n_good - row) / 2) % 2);
        let backwards: Vec<u32> = (0..mixed.len() as u32).rev().collect();
        let output = self.score(scorer, &mixed.take(&backwards).expect("rows of the batch"));
        let rejected: Vec<_> = output.rejected.iter().map(|row| (row.row, row.cause.reason)).collect();
        let want: Vec<_> = (0..=n_good as u32).map(|n| (2 * n, reason)).collect();
        assert_eq!(rejected, want, "bad rows by their place");
        self.assert_same(&output.batch, whole, &format!("neighbours of a row rejected as {reason}"));
    }

    /// The appended columns are the same, scores and feature errors within the tolerance.
    fn assert_same(&self, got: &Batch, want: &Batch, what: &str) {
        let first = self.samples.good.num_columns();
        let (got, want) = (got.columns(), want.columns());
        assert_eq!(got.schema().fields()[first..], want.schema().fields()[first..], "columns: {what}");
        for at in first..want.num_columns() {
            let (got, want, schema) = (got.column(at), want.column(at), want.schema());
            let name = schema.field(at).name();
            match (numbers(got), numbers(want)) {
                (Some(left), Some(right)) => {
                    let near = |(a, b): (&Option<f32>, &Option<f32>)| match (a, b) {
                        (Some(a), Some(b)) => a == b || (a - b).abs() <= self.samples.tolerance * b.abs().max(1.0),
                        (a, b) => a == b,
                    };
                    let same = left.len() == right.len() && left.iter().zip(&right).all(near);
                    assert!(same, "column {name:?}: {what}: {left:?} instead of {right:?}");
                }
                _ => assert_eq!(got, want, "column {name:?}: {what}"),
            }
        }
    }
}

/// The rows with the key of one of two devices.
fn with_devices(rows: &RecordBatch, device: impl Fn(usize) -> usize) -> Batch {
    let keys: BinaryArray = (0..rows.num_rows()).map(|row| Some(["car-a", "car-b"][device(row)])).collect();
    batch_of(rows.clone()).with_keys(keys).expect("as many keys as rows")
}

/// A column of float32, or of lists of them, as one list.
fn numbers(array: &ArrayRef) -> Option<Vec<Option<f32>>> {
    if let Some(numbers) = array.as_primitive_opt::<Float32Type>() {
        return Some(numbers.iter().collect());
    }
    let lists = array.as_fixed_size_list_opt()?;
    let width = lists.value_length() as usize;
    let values = lists.values().as_primitive_opt::<Float32Type>()?;
    let value = |at: usize| (lists.is_valid(at / width) && values.is_valid(at)).then(|| values.value(at));
    Some((0..lists.len() * width).map(value).collect())
}
