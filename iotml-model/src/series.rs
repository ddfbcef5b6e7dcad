//! The metrics of one version on one task.

use iotml_core::metrics::{Buckets, Counter, Gauge, Metrics};

use crate::evaluation::Pass;
use crate::manifest::Manifest;
use crate::model::Model;

const INFO: &str = "iotml_score_model_info";
const ROWS: &str = "iotml_score_rows";
const ANOMALIES: &str = "iotml_score_anomalies";
const VALUE: &str = "iotml_score_value";
const SECONDS: &str = "iotml_score_batch_seconds";
const ERRORS: &str = "iotml_score_errors";

/// Why a row has no score.
const ROW: &str = "row";
const SCORE: &str = "score";
const BATCH: &str = "batch";

/// A batch takes far less than what waits for a far side, so there are finer bounds than elsewhere.
const SECONDS_BOUNDS: [f64; 15] =
    [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Counts what a version makes of rows, once a batch.
#[derive(Debug, Default)]
pub(crate) struct Series {
    info: Gauge,
    rows: Counter,
    anomalies: Counter,
    values: Buckets,
    seconds: Buckets,
    bad_rows: Counter,
    bad_scores: Counter,
    failed: Counter,
    /// Scores of rows that have one, where not all have.
    known: Vec<f32>,
}

impl Series {
    /// Counts under the labels of `metrics` and of `model`, whose verdicts begin at `limit`.
    pub(crate) fn new(model: &Model, limit: Option<f32>, metrics: &Metrics) -> Self {
        Self::of(model.manifest(), model.engine(), limit, metrics)
    }

    /// The same for what `manifest` describes.
    pub(crate) fn of(manifest: &Manifest, engine: &str, limit: Option<f32>, metrics: &Metrics) -> Self {
        let labels = labels(manifest, engine);
        let by = &labels[..2];
        let errors = |kind| {
            let help = "Rows without a score: they cannot be seen, their score is no number, or their batch failed.";
            metrics.counter(ERRORS, help, &[by[0], by[1], ("kind", kind)])
        };
        Series {
            info: metrics.gauge(INFO, "The model in service.", &labels),
            rows: metrics.counter(ROWS, "Rows scored.", by),
            anomalies: metrics.counter(ANOMALIES, "Rows whose verdict is that they are anomalies.", by),
            values: metrics.histogram(VALUE, "Scores.", by, &bounds(manifest, limit)),
            seconds: metrics.histogram(SECONDS, "Scoring one batch.", by, &SECONDS_BOUNDS),
            bad_rows: errors(ROW),
            bad_scores: errors(SCORE),
            failed: errors(BATCH),
            known: Vec::new(),
        }
    }

    /// Takes the series of a model away.
    pub(crate) fn remove(model: &Model, metrics: &Metrics) {
        let labels = labels(model.manifest(), model.engine());
        let by = &labels[..2];
        metrics.remove(INFO, &labels);
        [ROWS, ANOMALIES, VALUE, SECONDS].iter().for_each(|name| metrics.remove(name, by));
        [ROW, SCORE, BATCH].iter().for_each(|kind| metrics.remove(ERRORS, &[by[0], by[1], ("kind", kind)]));
    }

    /// Whether it is in service.
    pub(crate) fn serves(&self, serves: bool) {
        self.info.set(i64::from(serves));
    }

    /// Takes the scores of a batch.
    pub(crate) fn scored(&mut self, pass: &Pass, n_anomalies: u64) {
        let n_bad = pass.bad.len();
        self.count(pass.scores.len() - n_bad, n_anomalies, n_bad - pass.n_not_finite, pass.n_not_finite);
        if n_bad == 0 && pass.is_known.is_empty() {
            self.values.observe_all(&pass.scores);
            return;
        }
        let known = (0..pass.scores.len()).filter(|row| pass.is_known(*row) && !pass.is_bad(*row));
        self.observe(known.map(|row| pass.scores[row]));
    }

    /// Counts the rows of a batch: those that it took, those of them that are anomalies, those that cannot be seen, and those whose score
    /// is no number.
    pub(crate) fn count(&self, n_rows: usize, n_anomalies: u64, n_bad_rows: usize, n_bad_scores: usize) {
        self.rows.inc_by(n_rows as u64);
        self.anomalies.inc_by(n_anomalies);
        self.bad_rows.inc_by(n_bad_rows as u64);
        self.bad_scores.inc_by(n_bad_scores as u64);
    }

    /// Takes the scores of the rows of a batch that have one.
    pub(crate) fn observe(&mut self, scores: impl Iterator<Item = f32>) {
        self.known.clear();
        self.known.extend(scores);
        self.values.observe_all(&self.known);
    }

    /// Takes the time of a batch.
    pub(crate) fn took(&self, seconds: f64) {
        self.seconds.observe(seconds);
    }

    /// A batch failed as a whole.
    pub(crate) fn failed(&self, n_rows: usize) {
        self.failed.inc_by(n_rows as u64);
    }
}

fn labels<'a>(manifest: &'a Manifest, engine: &'a str) -> [(&'a str, &'a str); 3] {
    [("model", &manifest.name), ("version", &manifest.version), ("engine", engine)]
}

/// Where scores lie: as in training with the limit among them, else around the limit by powers of two, else by powers of ten.
fn bounds(manifest: &Manifest, limit: Option<f32>) -> Vec<f64> {
    let limit = limit.map(f64::from);
    let trained = manifest.distribution.as_ref().and_then(|distribution| distribution.score.as_ref());
    match (trained, limit) {
        (Some(trained), limit) => {
            let mut bounds = trained.edges.clone();
            bounds.extend(limit);
            bounds.sort_by(f64::total_cmp);
            bounds.dedup();
            bounds
        }
        (None, Some(limit)) if limit > 0.0 => (-8..=7).map(|power| limit * f64::powi(2.0, power)).collect(),
        (None, _) => (-4..=3).map(|power| f64::powi(10.0, power)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use crate::manifest::{Distribution, ScoreDistribution};

    #[test]
    fn bounds_are_around_what_is_known() {
        let builder = Manifest::builder(Kind::Score, "m").feature("x", None);
        let plain = builder.clone().build().unwrap();
        assert_eq!(bounds(&plain, None), [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(bounds(&plain, Some(-1.0)).len(), 8);
        let around = bounds(&plain, Some(256.0));
        assert_eq!((around[0], around[8], around[15], around.len()), (1.0, 256.0, 32768.0, 16));
        let score = Some(ScoreDistribution { edges: vec![0.1, 0.5], shares: vec![0.9, 0.1, 0.0], anomalies: None });
        let trained = builder.distribution(Distribution { score, ..Distribution::default() }).build().unwrap();
        assert_eq!(bounds(&trained, Some(0.25)), [0.1, 0.25, 0.5]);
        assert_eq!(bounds(&trained, Some(0.5)), [0.1, 0.5]);
        assert_eq!(bounds(&trained, None), [0.1, 0.5]);
    }
}
