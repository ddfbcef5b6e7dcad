//! One pass of a model over a batch: features in, scores out. Serving and the golden rows go through the same code.

use iotml_core::batch::{Batch, Lane};
use iotml_core::error::{Cause, Reason};

use crate::EngineError;
use crate::engine::Engine;
use crate::feature::{BadRow, FeatureError, FeatureSpec, Missing};
use crate::manifest::{Kind, Manifest};
use crate::next_event::Windows;
use crate::precheck::Signature;
use crate::row_scorer::Rows;
use crate::{classifier, reconstruction, score};

/// What a pass runs over.
pub(crate) struct Input<'r, 'k> {
    pub(crate) rows: Rows<'r>,
    pub(crate) keys: Keys<'k>,
}

/// Whose rows they are, which only `next_event` asks.
pub(crate) enum Keys<'a> {
    /// Keys and partitions of a batch.
    Batch(&'a Batch),
    /// The same of some rows of a batch, in their order.
    Rows(&'a Batch, &'a [u32]),
    /// One key a row, all of one partition.
    Given(&'a [&'a [u8]]),
    /// No row has a key.
    None,
}

impl<'a> From<&'a Batch> for Input<'a, 'a> {
    fn from(batch: &'a Batch) -> Self {
        Input { rows: Rows::Columns(batch.columns()), keys: Keys::Batch(batch) }
    }
}

impl Keys<'_> {
    /// The key of `row`.
    pub(crate) fn key(&self, row: usize) -> Option<&[u8]> {
        match self {
            Keys::Batch(batch) => batch.key(row),
            Keys::Rows(batch, rows) => batch.key(rows[row] as usize),
            Keys::Given(keys) => keys.get(row).copied(),
            Keys::None => None,
        }
    }

    /// The lane that `row` came by, if it came by one.
    pub(crate) fn lane(&self, row: usize) -> Option<Lane> {
        match self {
            Keys::Batch(batch) => Some(batch.raw().lane(batch.origin(row))),
            Keys::Rows(batch, rows) => Some(batch.raw().lane(batch.origin(rows[row] as usize))),
            Keys::Given(_) | Keys::None => None,
        }
    }
}

/// What a pass shall keep besides the scores.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wants {
    /// The squared error of every feature, if the kind has them.
    pub errors: bool,
    /// The model's output; of a predicted sequence, its last step.
    pub output: bool,
}

/// What a pass found, row by row.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// The score; meaningless where `is_known` is false.
    pub(crate) scores: Vec<f32>,
    /// Whether the row has a score; empty if all have.
    pub(crate) is_known: Vec<bool>,
    /// `[n, n_features]` if wanted and the kind has them, else empty.
    pub(crate) errors: Vec<f32>,
    /// `[n, output_width]` if wanted, else empty.
    pub(crate) output: Vec<f32>,
    /// The most likely class of a classifier, else empty.
    pub(crate) labels: Vec<u32>,
    /// Rows that cannot be scored, in order.
    pub(crate) bad: Vec<BadRow>,
    /// Of those, the ones to which the model gave a score that is no number.
    pub(crate) n_not_finite: usize,
}

impl Pass {
    fn clear(&mut self) {
        self.scores.clear();
        self.is_known.clear();
        self.errors.clear();
        self.output.clear();
        self.labels.clear();
        self.bad.clear();
        self.n_not_finite = 0;
    }

    /// Whether `row` has a score.
    pub(crate) fn is_known(&self, row: usize) -> bool {
        self.is_known.is_empty() || self.is_known[row]
    }

    /// How many rows have a score.
    pub(crate) fn n_scored(&self) -> usize {
        match self.is_known.is_empty() {
            true => self.scores.len() - self.bad.len(),
            false => (0..self.scores.len()).filter(|row| self.is_known(*row) && !self.is_bad(*row)).count(),
        }
    }

    /// Whether `row` is one of those that could not be scored.
    pub(crate) fn is_bad(&self, row: usize) -> bool {
        self.bad.binary_search_by_key(&row, |bad| bad.row).is_ok()
    }
}

/// Why no row of a batch can be scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluationError {
    /// The rows are not of the model's form.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The part of a model that is not its engine: features, kind, and what the kind remembers.
#[derive(Debug)]
pub(crate) struct Evaluation {
    spec: FeatureSpec,
    method: Method,
    wants: Wants,
    pass: Pass,
}

#[derive(Debug)]
enum Method {
    Reconstruction,
    NextEvent(Box<Windows>),
    Score,
    Classifier { positive: usize },
}

impl Evaluation {
    /// `max_keys` bounds what `next_event` remembers for one partition.
    pub(crate) fn new(
        manifest: &Manifest,
        signature: &Signature,
        missing: Missing,
        wants: Wants,
        max_keys: usize,
    ) -> Self {
        let method = match manifest.kind {
            Kind::Reconstruction => Method::Reconstruction,
            Kind::NextEvent => Method::NextEvent(Box::new(Windows::new(manifest, signature, max_keys))),
            Kind::Score => Method::Score,
            Kind::Classifier => Method::Classifier { positive: classifier::positive(manifest) },
        };
        let spec = FeatureSpec::new(&manifest.features, missing);
        Evaluation { spec, method, wants, pass: Pass::default() }
    }

    /// What the kind remembers, if it does.
    pub(crate) fn windows(&mut self) -> Option<&mut Windows> {
        match &mut self.method {
            Method::NextEvent(windows) => Some(windows),
            _ => None,
        }
    }

    /// The same, to look at.
    pub(crate) fn windows_ref(&self) -> Option<&Windows> {
        match &self.method {
            Method::NextEvent(windows) => Some(windows),
            _ => None,
        }
    }

    /// How columns become rows.
    pub(crate) fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// What the next passes shall keep.
    pub(crate) fn keep(&mut self, wants: Wants) {
        self.wants = wants;
    }

    /// Scores all rows of `input`. A row in `bad` has left no trace in what the kind remembers.
    pub(crate) fn run(&mut self, input: &Input<'_, '_>, engine: &mut dyn Engine) -> Result<&mut Pass, EvaluationError> {
        let Evaluation { spec, method, wants, pass } = self;
        let n_features = spec.n_features();
        let n_rows = input.rows.len();
        pass.clear();
        if n_rows == 0 {
            // The columns are checked all the same: a wrong pipeline shows on its first batch.
            spec.fill_from(input.rows, &mut [])?;
            return Ok(pass);
        }
        if let Method::NextEvent(windows) = method {
            windows.score(input, spec, engine, *wants, pass)?;
        } else {
            pass.bad = spec.fill_from(input.rows, engine.input(n_rows)?)?;
            let (input, output) = engine.run()?;
            match method {
                Method::Classifier { positive } => classifier::read(output, n_rows, *positive, pass),
                Method::Score => score::read(output, pass),
                _ => reconstruction::read(input, output, n_features, *wants, pass),
            }
            if wants.output {
                pass.output.extend_from_slice(output);
            }
        }
        reject_not_finite(pass);
        Ok(pass)
    }
}

/// A score that is no number is no verdict either: such a row is rejected like one whose features are none.
fn reject_not_finite(pass: &mut Pass) {
    let all_finite = pass.scores.iter().fold(true, |all, score| all & score.is_finite());
    if all_finite {
        return;
    }
    for row in 0..pass.scores.len() {
        let score = pass.scores[row];
        if !score.is_finite() && pass.bad.iter().all(|bad| bad.row != row) {
            let cause = Cause::new(Reason::NonFinite, format!("the model gives the score {score}"));
            pass.bad.push(BadRow { row, cause });
            pass.n_not_finite += 1;
        }
    }
    pass.bad.sort_by_key(|bad| bad.row);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_score_are_not_counted() {
        let bad = |row| BadRow { row, cause: Cause::new(Reason::NonFinite, "no number") };
        let pass = Pass { scores: vec![0.0; 4], bad: vec![bad(2)], ..Pass::default() };
        assert_eq!(pass.n_scored(), 3);
        let pass = Pass { is_known: vec![false, true, true, false], ..pass };
        assert_eq!(pass.n_scored(), 1, "one is bad, and of two too little is known");
    }
}
