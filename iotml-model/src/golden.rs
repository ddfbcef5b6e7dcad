//! Golden rows: the model must compute here what it computed in training, before it scores anything else.

use std::sync::Arc;

use iotml_core::arrow::array::{ArrayRef, Float64Array, RecordBatch};
use iotml_core::batch::{Batch, Coordinate, Lane, Message, Position, RawBatch, RawMessage};

use crate::ModelError;
use crate::evaluation::{Evaluation, EvaluationError, Wants};
use crate::feature::Missing;
use crate::manifest::{Golden, Manifest};
use crate::model::Model;

/// The rows that are also run one by one.
const MAX_SINGLE_ROWS: usize = 64;

const WANTS: Wants = Wants { errors: false, output: true };

/// Runs the golden rows of `model`, if it has some, through the code that serves: all at once, and one by one.
pub(crate) fn check(model: &mut Model) -> Result<(), ModelError> {
    let Some(golden) = model.manifest.golden.clone() else { return Ok(()) };
    let mut check = Check { model, golden: &golden };
    let together = check.run_together()?;
    check.compare(&together)?;
    check.compare_with_single_rows(&together)
}

struct Check<'a> {
    model: &'a mut Model,
    golden: &'a Golden,
}

/// Score and output per row; `None` for a row that has no score.
type Results = Vec<Option<(f32, Vec<f32>)>>;

impl Check<'_> {
    fn evaluation(&self) -> Evaluation {
        let Model { manifest, signature, .. } = &*self.model;
        Evaluation::new(manifest, signature, Missing::Reject, WANTS, 2)
    }

    fn run_together(&mut self) -> Result<Results, ModelError> {
        let batch = batch(&self.model.manifest, self.golden);
        let mut evaluation = self.evaluation();
        self.run(&mut evaluation, &batch, 0)
    }

    fn run(&mut self, evaluation: &mut Evaluation, batch: &Batch, first_row: usize) -> Result<Results, ModelError> {
        let pass = evaluation.run(&batch.into(), self.model.engine.as_mut());
        let pass = match pass {
            Ok(pass) => pass,
            Err(EvaluationError::Engine(error)) => return Err(error.into()),
            Err(EvaluationError::Feature(error)) => {
                return Err(self.differs("features".to_owned(), first_row, "numbers".to_owned(), error.to_string()));
            }
        };
        if let Some(bad) = pass.bad.first() {
            let (row, found) = (first_row + bad.row, bad.cause.to_string());
            return Err(self.differs("score".to_owned(), row, "a number".to_owned(), found));
        }
        let width = pass.output.len() / batch.len();
        let result = |row: usize| {
            pass.is_known(row).then(|| (pass.scores[row], pass.output[row * width..(row + 1) * width].to_vec()))
        };
        Ok((0..batch.len()).map(result).collect())
    }

    fn compare(&self, results: &Results) -> Result<(), ModelError> {
        for (row, result) in results.iter().enumerate() {
            let score = self.golden.score.as_ref().map(|scores| scores[row]);
            let output = self.golden.output.as_ref().map(|outputs| outputs[row].as_deref());
            let (found_score, found_output) = match result {
                Some((score, output)) => (Some(f64::from(*score)), Some(output)),
                None => (None, None),
            };
            if let Some(expected) = score
                && !self.matches(expected, found_score)
            {
                return Err(self.differs("score".to_owned(), row, show(expected), show(found_score)));
            }
            let Some(expected) = output else { continue };
            let lengths = (expected.map(<[f64]>::len), found_output.map(Vec::len));
            if lengths.0 != lengths.1 {
                let count = |n: Option<usize>| n.map_or("absent".to_owned(), |n| format!("{n} numbers"));
                return Err(self.differs("output".to_owned(), row, count(lengths.0), count(lengths.1)));
            }
            let pairs = expected.into_iter().flatten().zip(found_output.into_iter().flatten());
            for (at, (expected, found)) in pairs.enumerate() {
                let (expected, found) = (Some(*expected), Some(f64::from(*found)));
                if !self.matches(expected, found) {
                    return Err(self.differs(format!("output[{at}]"), row, show(expected), show(found)));
                }
            }
        }
        Ok(())
    }

    /// A row's score must not depend on the rows beside it, or batching would change results.
    fn compare_with_single_rows(&mut self, together: &Results) -> Result<(), ModelError> {
        let batch = batch(&self.model.manifest, self.golden);
        let mut evaluation = self.evaluation();
        for (row, among) in together.iter().enumerate().take(MAX_SINGLE_ROWS) {
            let Ok(single) = batch.take(&[row as u32]) else { continue };
            let alone = self.run(&mut evaluation, &single, row)?.pop().flatten();
            let (Some((_, alone)), Some((_, among))) = (alone, among) else { continue };
            for (alone, among) in alone.into_iter().zip(among) {
                if !self.matches(Some(f64::from(alone)), Some(f64::from(*among))) {
                    return Err(ModelError::RowsDepend {
                        model: self.model.manifest.name.clone(),
                        engine: self.model.engine(),
                        row,
                        alone,
                        together: *among,
                    });
                }
            }
        }
        Ok(())
    }

    fn matches(&self, expected: Option<f64>, found: Option<f64>) -> bool {
        match (expected, found) {
            (Some(expected), Some(found)) => {
                (expected - found).abs() <= self.golden.tolerance * expected.abs().max(1.0)
            }
            (None, None) => true,
            _ => false,
        }
    }

    fn differs(&self, what: String, row: usize, expected: String, found: String) -> ModelError {
        let (model, engine) = (self.model.manifest.name.clone(), self.model.engine());
        ModelError::Golden { model, engine, what, row, expected, found }
    }
}

fn show(value: Option<f64>) -> String {
    value.map_or("absent".to_owned(), |value| value.to_string())
}

/// The golden rows as a batch: one key, one lane, columns named like the features.
fn batch(manifest: &Manifest, golden: &Golden) -> Batch {
    let n_rows = golden.input.len();
    let mut raw = RawBatch::with_capacity(n_rows, 0);
    for seq in 0..n_rows as u64 {
        raw.push(RawMessage {
            message: Message { key: Some(b"golden"), ..Message::default() },
            position: Position { lane: Lane(0), seq },
            coordinate: Coordinate::NONE,
        });
    }
    let column =
        |at: usize| -> ArrayRef { Arc::new(golden.input.iter().map(|row| Some(row[at])).collect::<Float64Array>()) };
    let named = manifest.features.iter().enumerate().map(|(at, feature)| (feature.name.as_str(), column(at)));
    #[expect(
        clippy::expect_used,
        reason = "the manifest was checked: names differ and every row has one number a feature"
    )]
    let columns = RecordBatch::try_from_iter(named).expect("columns of one length with names of their own");
    Batch::decoded(Arc::new(raw), (0..n_rows as u32).collect(), columns)
}
