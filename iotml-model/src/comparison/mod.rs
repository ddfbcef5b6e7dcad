//! What several versions of a model said of the rows of a stream, side by side.
//!
//! 1. [`Comparison`] takes rows as they were written, of acting versions and of shadows, and the truth about some of them; its memory
//!    does not grow with their number;
//! 2. a [`Report`] is what it found;
//! 3. [`Rules`] make of that what is to become of a version.

mod labels;
mod pairs;
mod report;
mod rules;
mod sample;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde::Serialize;

pub(crate) use labels::Labels;
pub(crate) use report::{Arm, Report, Shadow, Unmatched, Version};
pub(crate) use rules::{Finding, Judgement, Outcome, Rules, State};
pub(crate) use sample::Summary;

use self::labels::Hits;
use self::pairs::{Agreement, Half, Pairs};
use self::sample::{Sample, wilson};

/// Versions that are kept apart; rows of more are only counted.
const MAX_VERSIONS: usize = 64;
/// Scores that are kept of each version; of more a uniform sample.
const MAX_SCORES: usize = 100_000;
/// The same of latencies.
const MAX_LATENCIES: usize = 20_000;

/// Whose word on a row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    /// It was acted upon.
    Acting,
    /// A shadow's.
    Shadow,
}

/// What a version said of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub version: &'a str,
    /// Its key and time; the same for all that was said of it ([`row_id`]).
    pub id: u64,
    /// Its event time, in milliseconds since the Unix epoch.
    pub time: Option<i64>,
    pub score: Option<f32>,
    pub anomaly: Option<bool>,
    /// Milliseconds from its event time until it was encoded.
    pub latency: Option<i64>,
}

/// By what a row is known: its key and event time.
pub(crate) fn row_id(key: Option<&[u8]>, time: Option<i64>) -> u64 {
    // Without keys of its own, so that it is the same wherever it is asked for.
    let mut hasher = DefaultHasher::new();
    (key, time).hash(&mut hasher);
    hasher.finish()
}

/// Rows of several versions, added up.
pub(crate) struct Comparison {
    versions: Vec<Seen>,
    labels: Labels,
    pairs: Pairs,
    /// By acting version and shadow.
    agreements: BTreeMap<(usize, usize), Agreement>,
    counts: Counts,
}

/// What is counted of all versions together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// Rows with a version.
    pub n_rows: u64,
    /// Rows of other models.
    pub n_other_models: u64,
    /// Rows of the versions beyond those that are kept apart.
    pub n_other_versions: u64,
    /// Messages that are no rows.
    pub n_unreadable: u64,
    /// Rows that the shadow failed to score.
    pub n_shadow_failures: u64,
}

/// One version on one side.
struct Seen {
    version: String,
    side: Side,
    n_rows: u64,
    n_judged: u64,
    n_anomalies: u64,
    n_failed: u64,
    times: Option<(i64, i64)>,
    scores: Sample,
    latencies: Sample,
    hits: Hits,
}

impl Comparison {
    /// With the truth about rows, as far as it is known; at most about `max_waiting` rows wait for the other model's word.
    pub fn new(labels: Labels, max_waiting: usize) -> Self {
        let (agreements, counts) = (BTreeMap::new(), Counts::default());
        Comparison { versions: Vec::new(), labels, pairs: Pairs::new(max_waiting), agreements, counts }
    }

    /// What is counted of all versions together.
    pub fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Adds a row; `is_paired` if there is a shadow whose word on it is to be compared.
    pub fn add(&mut self, side: Side, row: Row<'_>, is_paired: bool) {
        self.counts.n_rows += 1;
        let Some(version) = self.number(side, row.version) else {
            self.counts.n_other_versions += 1;
            return;
        };
        let seen = &mut self.versions[version];
        let score = row.score.filter(|score| score.is_finite());
        seen.add(&row, score);
        if let (Some(truth), Some(said)) = (self.labels.of(row.id, side), row.anomaly) {
            seen.hits.add(truth, said);
        }
        if is_paired {
            let half = Half { version, score, anomaly: row.anomaly };
            if let Some((acting, shadow)) = self.pairs.add(side, row.id, half) {
                self.agreements.entry((acting.version, shadow.version)).or_default().add(acting, shadow);
            }
        }
    }

    /// Counts a row that an acting version could not score.
    pub fn add_failure(&mut self, version: &str) {
        match self.number(Side::Acting, version) {
            Some(version) => self.versions[version].n_failed += 1,
            None => self.counts.n_other_versions += 1,
        }
    }

    fn number(&mut self, side: Side, version: &str) -> Option<usize> {
        let known = self.versions.iter().position(|seen| seen.side == side && seen.version == version);
        if known.is_none() && self.versions.len() < MAX_VERSIONS {
            self.versions.push(Seen::new(version, side));
            return Some(self.versions.len() - 1);
        }
        known
    }

    /// What was found; acting versions are compared with `against`, or else with the one that scored most rows.
    pub fn finish(mut self, against: Option<&str>) -> Report {
        // A row without a version cannot say whose it is; there is one shadow at a time.
        let shadows: Vec<usize> =
            (0..self.versions.len()).filter(|at| self.versions[*at].side == Side::Shadow).collect();
        if let [shadow] = shadows[..] {
            self.versions[shadow].n_failed = self.counts.n_shadow_failures;
        }
        let (n_labels, unmatched_labels) = self.labels.finish();
        let [acting, shadow] = self.pairs.finish();
        let unmatched = Unmatched { acting, shadow, labels: unmatched_labels };
        let (versions, scores): (Vec<_>, Vec<_>) = self.versions.into_iter().map(Seen::finish).unzip();
        let shadows = self.agreements.iter().map(|((acting, shadow), agreement)| {
            let ks = scores[*acting].ks(&scores[*shadow]);
            Shadow::of(&versions[*acting].version, &versions[*shadow].version, agreement, ks)
        });
        let shadows = shadows.collect();
        let acting = || versions.iter().enumerate().filter(|(_, version)| !version.shadow);
        let named = against.and_then(|name| acting().find(|(_, version)| version.version == name));
        let reference = named.or_else(|| acting().max_by_key(|(at, version)| (version.n_rows, usize::MAX - at)));
        let arms = match reference {
            None => Vec::new(),
            Some((base, reference)) => acting()
                .filter(|(at, _)| *at != base)
                .map(|(at, version)| Arm::of(version, reference, scores[at].ks(&scores[base])))
                .collect(),
        };
        Report { counts: self.counts, n_labels, versions, shadows, arms, unmatched }
    }
}

impl Seen {
    fn new(version: &str, side: Side) -> Self {
        Seen {
            version: version.to_owned(),
            side,
            n_rows: 0,
            n_judged: 0,
            n_anomalies: 0,
            n_failed: 0,
            times: None,
            scores: Sample::new(MAX_SCORES),
            latencies: Sample::new(MAX_LATENCIES),
            hits: Hits::default(),
        }
    }

    fn add(&mut self, row: &Row<'_>, score: Option<f32>) {
        self.n_rows += 1;
        self.n_judged += u64::from(row.anomaly.is_some());
        self.n_anomalies += u64::from(row.anomaly == Some(true));
        if let Some(score) = score {
            self.scores.add(score);
        }
        if let Some(latency) = row.latency {
            self.latencies.add(latency as f32);
        }
        if let Some(time) = row.time {
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
    }

    fn finish(self) -> (Version, sample::Sorted) {
        let (sorted, score) = self.scores.finish();
        let share = |count: u64, n: u64| (n > 0).then(|| count as f64 / n as f64);
        let version = Version {
            version: self.version,
            shadow: self.side == Side::Shadow,
            rollout: None,
            n_rows: self.n_rows,
            n_judged: self.n_judged,
            n_anomalies: self.n_anomalies,
            anomaly_rate: share(self.n_anomalies, self.n_judged),
            anomaly_rate_interval: wilson(self.n_anomalies, self.n_judged),
            n_failed: self.n_failed,
            first: self.times.map(|(first, _)| first),
            last: self.times.map(|(_, last)| last),
            score,
            score_percentiles: sorted.percentiles(),
            latency_ms: self.latencies.finish().1,
            labelled: self.hits.finish(),
        };
        (version, sorted)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
