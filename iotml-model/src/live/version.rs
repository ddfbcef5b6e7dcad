//! One version of a model, ready for one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use iotml_core::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use iotml_core::arrow::compute::{nullif, take};
use iotml_core::arrow::datatypes::SchemaRef;
use iotml_core::batch::Batch;
use iotml_core::metrics::Metrics;
use iotml_core::model::Digest;
use iotml_core::plugin::HumanDuration;
use iotml_core::score::ScoreError;

use super::check::show;
use super::refused::{Outlook, Refused};
use super::sample::Sample;
use crate::evaluation::{EvaluationError, Input, Keys};
use crate::model::Model;
use crate::row_scorer::Rows;
use crate::scorer::OnnxScorerConfig;
use crate::work::{Scores, Work};

/// What makes two announcements mean the same model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) version: String,
    pub(crate) file: Digest,
    /// The digest of the manifest that was announced, if one was.
    pub(crate) manifest: Option<Digest>,
}

/// A model with all that a task needs to score with it.
pub(crate) struct Version {
    pub(crate) id: Id,
    pub(crate) model: Model,
    pub(crate) work: Work,
    /// Rows that it is shown before it scores them, for one that was loaded before there were any to look at.
    pub(crate) trial: Option<Trial>,
    /// The columns of its features in the batches seen last.
    columns: Option<Projection>,
}

/// What a model has made of the first rows so far.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Whether it has passed, before any task.
    proof: Arc<AtomicBool>,
    n_rows: usize,
    n_not_finite: usize,
    n_late: u32,
}

/// How a trial stands.
pub(crate) enum Verdict {
    /// It may score them.
    Goes,
    /// It was too slow, which on a busy machine may pass: the rows come again.
    Again(Refused),
    /// It must not score any.
    Fails(Refused),
}

/// How often a model may be late before its first rows.
const MAX_LATE: u32 = 3;

/// Fewer rows say nothing of a model: they may be of one device that sends monstrous numbers.
const TRIAL_ROWS: usize = 32;

impl Trial {
    /// The trial of a model that is known to fit the stream once `proof` says so; `None` if it does.
    pub(crate) fn unless(proof: &Arc<AtomicBool>) -> Option<Self> {
        let proven = proof.load(Ordering::Relaxed);
        (!proven).then(|| Trial { proof: proof.clone(), n_rows: 0, n_not_finite: 0, n_late: 0 })
    }
}

struct Projection {
    of: SchemaRef,
    at: Vec<usize>,
    schema: SchemaRef,
}

impl Version {
    pub(crate) fn new(id: Id, model: Model, work: Work, trial: Option<Trial>) -> Self {
        Version { id, model, work, trial, columns: None }
    }

    /// Shows the first rows of a batch to one that is on trial.
    pub(crate) fn prove(&mut self, sample: &Sample, config: &OnnxScorerConfig, limit: HumanDuration) -> Verdict {
        let Some(trial) = &mut self.trial else { return Verdict::Goes };
        if trial.proof.load(Ordering::Relaxed) {
            self.trial = None;
            return Verdict::Goes;
        }
        // Of its own, since it remembers what it sees.
        let work = Work::new(&self.model.manifest, &self.model.signature, config);
        let work = work.map_err(|error| Refused::for_good(error.to_string()));
        let shown = work.and_then(|work| show(&mut self.model, work, sample, limit));
        match shown {
            Ok(n_not_finite) => trial.n_not_finite += n_not_finite,
            Err(refused) if refused.outlook == Outlook::AFewTries && trial.n_late + 1 < MAX_LATE => {
                trial.n_late += 1;
                return Verdict::Again(refused);
            }
            Err(refused) => return Verdict::Fails(refused),
        }
        trial.n_rows += sample.columns.num_rows();
        let Trial { n_rows, n_not_finite, .. } = *trial;
        if n_rows < TRIAL_ROWS {
            return Verdict::Goes;
        }
        if n_not_finite * 2 > n_rows {
            let why = "of the first rows of the stream it gives more than half a score that is no finite number";
            return Verdict::Fails(Refused::for_good(format!("{why}; train it again, or look at its scaling")));
        }
        trial.proof.store(true, Ordering::Relaxed);
        self.trial = None;
        Verdict::Goes
    }

    /// Its name and version, as rows name them.
    pub(crate) fn says(&self) -> (&str, &str) {
        (&self.model.manifest.name, &self.model.manifest.version)
    }

    /// Scores all rows.
    pub(crate) fn score(&mut self, batch: &Batch) -> Result<Scores, ScoreError> {
        self.work.evaluate(&mut self.model, &batch.into()).map_err(fatal)
    }

    /// Scores `rows` of the batch, in this order. Only the columns of its features are copied.
    pub(crate) fn score_rows(&mut self, batch: &Batch, rows: &[u32]) -> Result<Scores, ScoreError> {
        let columns = batch.columns();
        if self.columns.as_ref().is_none_or(|projection| !same(&projection.of, columns.schema_ref())) {
            self.columns = Some(self.project(columns)?);
        }
        let Some(Projection { at, schema, .. }) = &self.columns else { return Err(ScoreError::fatal("no columns")) };
        let picked = UInt32Array::from_iter_values(rows.iter().copied());
        let arrays = at.iter().map(|at| take(columns.column(*at), &picked, None)).collect::<Result<Vec<_>, _>>();
        let misfit = |source| ScoreError::fatal_from("rows cannot be picked from the batch", source);
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let picked =
            RecordBatch::try_new_with_options(schema.clone(), arrays.map_err(misfit)?, &options).map_err(misfit)?;
        let input = Input { rows: Rows::Columns(&picked), keys: Keys::Rows(batch, rows) };
        self.work.evaluate(&mut self.model, &input).map_err(fatal)
    }

    fn project(&self, columns: &RecordBatch) -> Result<Projection, ScoreError> {
        let of = columns.schema();
        let features = self.model.manifest.features.iter().filter(|feature| feature.constant.is_none());
        // One that is missing is named by the features' own check.
        let mut at: Vec<usize> = features.filter_map(|feature| of.index_of(&feature.name).ok()).collect();
        at.sort_unstable();
        at.dedup();
        let schema = of.project(&at).map_err(|source| ScoreError::fatal_from("columns cannot be picked", source))?;
        Ok(Projection { of, at, schema: schema.into() })
    }

    /// Scores all rows as a shadow: what goes wrong leaves nulls, and harms nobody. The second value says whether it went well.
    pub(crate) fn shadow(&mut self, batch: &Batch) -> (Vec<ArrayRef>, bool) {
        let Ok(Scores { arrays, bad, .. }) = self.score(batch) else {
            let null = |field: &_| new_null_array(iotml_core::arrow::datatypes::Field::data_type(field), batch.len());
            return (self.work.fields().iter().map(null).collect(), false);
        };
        if bad.is_empty() {
            return (arrays, true);
        }
        let mut is_bad = vec![false; batch.len()];
        bad.iter().for_each(|bad| is_bad[bad.row] = true);
        let is_bad = is_bad.into();
        let nulls = arrays.iter().map(|array| nullif(array, &is_bad).unwrap_or_else(|_| array.clone()));
        (nulls.collect(), true)
    }

    /// Takes its series away, unless `other` counts under the same labels.
    pub(crate) fn unregister(&self, metrics: &Metrics, others: &[(String, String)]) {
        let (name, version) = self.says();
        if !others.iter().any(|(other, its)| other == name && its == version) {
            Work::unregister(&self.model, metrics);
        }
    }
}

fn same(one: &SchemaRef, other: &SchemaRef) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

fn fatal(error: EvaluationError) -> ScoreError {
    ScoreError::fatal_from(error.to_string(), error)
}
