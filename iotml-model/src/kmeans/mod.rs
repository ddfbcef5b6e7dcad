//! Streaming k-means: a scorer that learns from the rows it scores, and forgets.
//!
//! Each partition has centres of its own, which move with its state. The first rows of a partition are only looked at; then
//! they are parted into clusters, and from there on
//!
//! - a row's score is the mean squared distance to the nearest centre, in scaled units: the same as a reconstruction's;
//! - after every `update_rows` rows the centres move towards the rows that were nearest to them. A row's weight halves with
//!   every `half_life` rows that come after it, so the centres follow what changes slowly;
//! - the limit is fixed, or a quantile of the scores so far, which forget at the same pace.
//!
//! All of it counts rows, never batches or time, so what comes out does not depend on how rows come together.

mod clusters;
mod config;
mod learner;
mod quantile;
mod snapshot;

pub use config::{KMeansScorerConfig, KMeansThreshold, Learn};

use std::sync::Arc;
use std::time::Instant;

use iotml_core::arrow::array::{Array as _, ArrayRef, BooleanArray, Float32Array};
use iotml_core::async_trait;
use iotml_core::batch::{Batch, LaneInfo, StageOutput};
use iotml_core::error::{Cause, ConfigError, Reason};
use iotml_core::pipeline::TaskContext;
use iotml_core::score::{ScoreError, Scorer};
use iotml_core::state::{StateError, Stateful};

use crate::columns::{Appender, Constant, ConstantValue};
use crate::feature::{BadRow, FeatureSpec};
use crate::manifest::Manifest;
use crate::next_event::fingerprint;
use crate::partitions::Partitions;
use crate::series::Series;
use crate::work::{append, errors_field, list, prefixed, verdict_fields};
use learner::{Learner, Method, Rule, Seen};

/// In the place of the engine's name, which it has none of.
const ENGINE: &str = "kmeans";

/// Scores rows by their distance to centres that it learns from them; see the [module](self).
pub struct KMeansScorer {
    spec: FeatureSpec,
    learners: Learners,
    appender: Appender,
    name: Constant,
    version: Constant,
    manifest: Manifest,
    wants_errors: bool,
    rows: Vec<f32>,
    errors: Vec<f32>,
    series: Series,
}

/// What is learnt, by partition.
struct Learners {
    method: Method,
    fingerprint: u64,
    partitions: Partitions<Learner>,
}

impl KMeansScorer {
    /// A scorer that has not seen a row yet.
    ///
    /// # Errors
    /// [`ConfigError`] with the key at fault.
    pub fn new(config: KMeansScorerConfig) -> Result<Self, ConfigError> {
        let manifest = config.check()?;
        let n_features = manifest.features.len();
        let mut fields = verdict_fields();
        if config.feature_errors {
            fields.push(errors_field(n_features));
        }
        Ok(KMeansScorer {
            spec: FeatureSpec::new(&manifest.features, config.missing),
            learners: Learners {
                method: config.method(),
                fingerprint: fingerprint(&manifest),
                partitions: Partitions::new(),
            },
            appender: Appender::new(prefixed(&config.prefix, fields)),
            name: Constant::new(ConstantValue::Text(config.name)),
            version: Constant::new(ConstantValue::Text(config.version)),
            manifest,
            wants_errors: config.feature_errors,
            rows: Vec::new(),
            errors: Vec::new(),
            series: Series::default(),
        })
    }
}

#[async_trait]
impl Scorer for KMeansScorer {
    async fn open(&mut self, task: &TaskContext) -> Result<(), ScoreError> {
        let limit = match self.learners.method.rule {
            Rule::Fixed(limit) => Some(limit),
            // It moves with the rows, each partition's for itself.
            Rule::Quantile(_) => None,
        };
        self.series = Series::of(&self.manifest, ENGINE, limit, &task.metrics);
        self.series.serves(true);
        Ok(())
    }

    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        let begun = Instant::now();
        let (n_rows, n_features) = (batch.len(), self.spec.n_features());
        self.rows.resize(n_rows * n_features, 0.0);
        let bad = self.spec.fill_rows(batch.columns(), &mut self.rows);
        let mut bad = bad.map_err(|error| {
            self.series.failed(n_rows);
            ScoreError::fatal_from(error.to_string(), error)
        })?;
        let n_unseen = bad.len();
        if self.wants_errors {
            self.errors.clear();
            self.errors.resize(n_rows * n_features, 0.0);
        }
        let seen = self.learners.learn(&batch, &self.rows, &mut self.errors, &mut bad);
        let n_anomalies = seen.iter().filter(|seen| seen.is_anomaly == Some(true)).count() as u64;
        self.series.count(n_rows - bad.len(), n_anomalies, n_unseen, bad.len() - n_unseen);
        self.series.observe(seen.iter().filter_map(|seen| seen.score));

        let scores = Float32Array::from_iter(seen.iter().map(|seen| seen.score));
        let limits = Float32Array::from_iter(seen.iter().map(|seen| seen.limit));
        let verdicts = BooleanArray::from_iter(seen.iter().map(|seen| seen.is_anomaly));
        let validity = scores.nulls().cloned();
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(scores),
            Arc::new(limits),
            Arc::new(verdicts),
            self.name.rows(n_rows),
            self.version.rows(n_rows),
        ];
        if self.wants_errors {
            arrays.push(list(&mut self.errors, n_features, validity));
        }
        self.series.took(begun.elapsed().as_secs_f64());
        append(batch, &mut self.appender, arrays, bad)
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        Some(&mut self.learners)
    }
}

impl Learners {
    /// Goes over the rows in order, each by the learner of its partition, and adds to `bad` those that are too far off to have
    /// a distance. Neither a bad row nor one without a score leaves a verdict.
    fn learn(&mut self, batch: &Batch, rows: &[f32], errors: &mut [f32], bad: &mut Vec<BadRow>) -> Vec<Seen> {
        let n_features = self.method.n_features;
        let mut unscorable = std::mem::take(bad).into_iter().peekable();
        let mut seen = Vec::with_capacity(batch.len());
        for (row, values) in rows.chunks_exact(n_features).enumerate() {
            if let Some(known) = unscorable.next_if(|bad| bad.row == row) {
                bad.push(known);
                seen.push(Seen::default());
                continue;
            }
            let lane = batch.raw().lane(batch.origin(row));
            let errors = errors.get_mut(row * n_features..(row + 1) * n_features).unwrap_or_default();
            let see = |learner: &mut Learner| learner.see(&self.method, values, errors);
            seen.push(self.partitions.with(Some(lane), Learner::default, see).unwrap_or_else(|| {
                let cause = Cause::new(Reason::OutOfRange, "row is too far from every centre to have a distance");
                bad.push(BadRow { row, cause });
                Seen::default()
            }));
        }
        seen
    }
}

impl Stateful for Learners {
    fn assigned(&mut self, lanes: &[LaneInfo]) {
        self.partitions.assigned(lanes);
    }

    fn snapshot(&self, partition: &str) -> Result<Option<Vec<u8>>, StateError> {
        let learner = self.partitions.get(partition);
        Ok(learner.map(|learner| snapshot::write(learner, &self.method, self.fingerprint)))
    }

    fn restore(&mut self, partition: &str, snapshot: &[u8]) -> Result<(), StateError> {
        let learner = snapshot::read(snapshot, &self.method, self.fingerprint)?;
        self.partitions.restore(partition, learner, "other features or centres");
        Ok(())
    }

    fn forget(&mut self, partition: &str) {
        self.partitions.forget(partition);
    }
}
