//! Scoring rows outside a pipeline.

use iotml_core::arrow::array::RecordBatch;
use iotml_core::ndarray::ArrayView2;
use iotml_core::score::ThresholdError;

use crate::evaluation::{Evaluation, EvaluationError, Input, Keys, Pass, Wants};
use crate::feature::{BadRow, Missing};
use crate::model::Model;
use crate::verdict::Verdict;
use crate::{Kind, ModelError};

/// Raw, unscaled rows.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// Columns, found by the features' names.
    Columns(&'a RecordBatch),
    /// `[n, n_features]` in the order of the manifest's features; what stands in the place of a constant one is not read.
    F32(ArrayView2<'a, f32>),
    /// The same in double precision.
    F64(ArrayView2<'a, f64>),
}

impl Rows<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Rows::Columns(batch) => batch.num_rows(),
            Rows::F32(matrix) => matrix.nrows(),
            Rows::F64(matrix) => matrix.nrows(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A model that scores rows that come from anywhere, by the same code as in a pipeline.
///
/// ```no_run
/// use iotml_core::ndarray::array;
/// use iotml_model::feature::Missing;
/// use iotml_model::{Model, OpenOptions, RowScorer, Rows, Wants};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Model::open("pumps.onnx".as_ref(), &OpenOptions::default())?;
/// let mut scorer = RowScorer::new(model, Missing::Reject)?;
/// let rows = array![[2.5f32, 3.1], [11.0, 3.0]];
/// let scored = scorer.score(Rows::F32(rows.view()), None, Wants::default())?;
/// println!("{:?}", scored.scores());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RowScorer {
    model: Model,
    evaluation: Evaluation,
    verdict: Verdict,
    missing: Missing,
}

impl RowScorer {
    /// A scorer around an open model.
    ///
    /// # Errors
    /// [`ThresholdError`] if the manifest's threshold does not fit its features.
    pub fn new(model: Model, missing: Missing) -> Result<Self, ThresholdError> {
        let verdict = Verdict::new(model.manifest(), None)?;
        // What a call remembers is bounded by the rows that the caller holds.
        let max_keys = usize::MAX;
        let evaluation = Evaluation::new(&model.manifest, &model.signature, missing, Wants::default(), max_keys);
        Ok(RowScorer { model, evaluation, verdict, missing })
    }

    /// The same once more, for another thread; it remembers no keys.
    ///
    /// # Errors
    /// [`ModelError::Engine`] if the engine cannot open the model again.
    pub fn another(&self) -> Result<Self, ModelError> {
        let model = self.model.another()?;
        let evaluation = Evaluation::new(&model.manifest, &model.signature, self.missing, Wants::default(), usize::MAX);
        Ok(RowScorer { model, evaluation, verdict: self.verdict.clone(), missing: self.missing })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to run it bare.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// The score from which on a row is an anomaly, if the manifest's threshold names one.
    pub fn limit(&self) -> Option<f32> {
        self.verdict.limit()
    }

    /// `next_event` only: forgets the rows of all keys, so that the next ones are the first of theirs.
    pub fn forget(&mut self) {
        if let Some(windows) = self.evaluation.windows() {
            windows.clear();
        }
    }

    /// Scores `rows`. `keys` says whose rows they are, one key a row: a `next_event` model needs it, and looks at the rows
    /// of earlier calls too; the others ignore it.
    ///
    /// # Errors
    /// [`EvaluationError`] if the rows are not of the model's form, or the engine fails.
    pub fn score(
        &mut self,
        rows: Rows<'_>,
        keys: Option<&[&[u8]]>,
        wants: Wants,
    ) -> Result<Scored<'_>, EvaluationError> {
        let has_errors = self.model.manifest.kind.has_feature_errors();
        self.evaluation.keep(Wants { errors: wants.errors && has_errors, ..wants });
        let keys = match (self.model.manifest.kind, keys) {
            (Kind::NextEvent, Some(keys)) => Keys::Given(keys),
            _ => Keys::None,
        };
        let pass = self.evaluation.run(&Input { rows, keys }, self.model.engine.as_mut())?;
        let n_features = self.model.manifest.features.len();
        for (row, _) in pass.is_known.iter().enumerate().filter(|(_, is_known)| !**is_known) {
            pass.scores[row] = f32::NAN;
            for details in [&mut pass.errors, &mut pass.output] {
                if let Some(details) = details.get_mut(row * n_features..(row + 1) * n_features) {
                    details.fill(f32::NAN);
                }
            }
        }
        Ok(Scored { pass, verdict: &self.verdict })
    }
}

/// What came out, row by row.
#[derive(Debug)]
pub struct Scored<'a> {
    pass: &'a Pass,
    verdict: &'a Verdict,
}

impl Scored<'_> {
    /// `[n]`; NaN where a `next_event` model has not seen enough rows of the key yet. Rows in [`bad`](Self::bad) have none
    /// that means anything.
    pub fn scores(&self) -> &[f32] {
        &self.pass.scores
    }

    /// `[n, n_features]` squared errors in scaled units, if they were wanted and the kind has them, else empty.
    pub fn errors(&self) -> &[f32] {
        &self.pass.errors
    }

    /// `[n, width]`, if it was wanted, else empty. NaN, like the errors, where the score is NaN.
    pub fn output(&self) -> &[f32] {
        &self.pass.output
    }

    /// `[n]`, the most likely class of a classifier as an index into the manifest's, else empty.
    pub fn labels(&self) -> &[u32] {
        &self.pass.labels
    }

    /// The rows that cannot be scored, in order.
    pub fn bad(&self) -> &[BadRow] {
        &self.pass.bad
    }

    /// Whether `row` is an anomaly; `None` where it has no score or the manifest no threshold. The feature errors must have
    /// been wanted.
    pub fn is_anomaly(&self, row: usize) -> Option<bool> {
        self.verdict.decide(self.pass, row)
    }
}
