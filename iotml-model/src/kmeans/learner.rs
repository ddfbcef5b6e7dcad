//! What one partition has learnt.

use super::clusters::Clusters;
use super::quantile::RunningQuantile;

/// What all partitions have in common.
#[derive(Debug, Clone)]
pub(super) struct Method {
    pub n_features: usize,
    pub n_centres: usize,
    pub warm_up: usize,
    pub update_rows: usize,
    /// What an older row's weight is multiplied with when the centres move.
    pub decay: f64,
    pub rule: Rule,
    pub learns_from_all: bool,
    pub seed: u64,
}

/// Where the limit comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rule {
    Fixed(f32),
    Quantile(f64),
}

/// What is said of one row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Seen {
    pub score: Option<f32>,
    pub limit: Option<f32>,
    pub is_anomaly: Option<bool>,
}

/// What one partition has learnt: the rows it has seen while they are few, then centres and a limit.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Learner {
    /// Rows, one behind the other.
    Warming(Vec<f32>),
    Warm(Box<Warm>),
}

/// Centres and scores.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Warm {
    pub clusters: Clusters,
    pub scores: RunningQuantile,
    /// The limit until the centres move next.
    pub limit: f32,
    /// Rows since they moved last.
    pub n_since: usize,
}

impl Default for Learner {
    fn default() -> Self {
        Learner::Warming(Vec::new())
    }
}

impl Learner {
    /// Judges a row, then learns from it; `None` if its distance is beyond all numbers, and then nothing is learnt. `errors`,
    /// unless it is empty, takes the squared distances by feature.
    pub fn see(&mut self, method: &Method, row: &[f32], errors: &mut [f32]) -> Option<Seen> {
        match self {
            Learner::Warming(rows) => {
                rows.extend_from_slice(row);
                if rows.len() >= method.warm_up * method.n_features {
                    *self = Learner::Warm(Box::new(Warm::new(method, rows)));
                }
                Some(Seen::default())
            }
            Learner::Warm(warm) => warm.see(method, row, errors),
        }
    }
}

impl Warm {
    /// What the first rows tell.
    fn new(method: &Method, rows: &[f32]) -> Self {
        let clusters = Clusters::of(rows, method);
        let mut scores = RunningQuantile::default();
        for row in rows.chunks_exact(method.n_features) {
            let (_, score) = clusters.nearest(row);
            if score.is_finite() {
                scores.add(score);
            }
        }
        let limit = limit(method.rule, &scores);
        Warm { clusters, scores, limit, n_since: 0 }
    }

    fn see(&mut self, method: &Method, row: &[f32], errors: &mut [f32]) -> Option<Seen> {
        let (nearest, score) = self.clusters.nearest(row);
        if !score.is_finite() {
            return None;
        }
        if !errors.is_empty() {
            let centre = self.clusters.centre(nearest);
            let squares = row.iter().zip(centre).map(|(value, centre)| (value - centre) * (value - centre));
            errors.iter_mut().zip(squares).for_each(|(slot, square)| *slot = square);
        }
        let is_anomaly = score >= self.limit;
        let seen = Seen { score: Some(score), limit: Some(self.limit), is_anomaly: Some(is_anomaly) };
        self.scores.add(score);
        if method.learns_from_all || !is_anomaly {
            self.clusters.add(nearest, row);
        }
        self.n_since += 1;
        if self.n_since >= method.update_rows {
            self.n_since = 0;
            self.clusters.update(method.decay);
            self.scores.decay(method.decay);
            self.limit = limit(method.rule, &self.scores);
        }
        Some(seen)
    }
}

fn limit(rule: Rule, scores: &RunningQuantile) -> f32 {
    match rule {
        Rule::Fixed(limit) => limit,
        Rule::Quantile(of) => scores.quantile(of),
    }
}
