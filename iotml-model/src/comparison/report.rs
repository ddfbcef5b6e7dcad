//! What a comparison found, as JSON.

use serde::Serialize;

use super::labels::{Truth, Unlabelled};
use super::pairs::Agreement;
use super::{Counts, Summary};

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub counts: Counts,
    /// Labels that were read.
    pub n_labels: u64,
    /// In the order in which they were met.
    pub versions: Vec<Version>,
    /// Shadows beside what acted, row by row.
    pub shadows: Vec<Shadow>,
    /// Acting versions beside one of them, each on its own rows.
    pub arms: Vec<Arm>,
    pub unmatched: Unmatched,
}

/// A version by itself. Times are of rows, in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Version {
    pub version: String,
    /// Whether it scored as a shadow.
    pub shadow: bool,
    /// What it is announced as now, where that is known.
    pub rollout: Option<String>,
    pub n_rows: u64,
    /// Rows with a verdict.
    pub n_judged: u64,
    pub n_anomalies: u64,
    /// Anomalies among the rows with a verdict.
    pub anomaly_rate: Option<f64>,
    /// Its 95 % interval, as if rows were independent of each other.
    pub anomaly_rate_interval: Option<[f64; 2]>,
    /// Rows that it failed to score; they are not among `n_rows`.
    pub n_failed: u64,
    pub first: Option<i64>,
    pub last: Option<i64>,
    pub score: Option<Summary>,
    /// The 0th to 100th percentile of its scores.
    pub score_percentiles: Vec<f64>,
    /// From the event time of rows until they were encoded, where rows tell it.
    pub latency_ms: Option<Summary>,
    pub labelled: Option<Truth>,
}

/// A shadow and an acting version on the same rows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Shadow {
    pub acting: String,
    pub shadow: String,
    /// Rows that both wrote.
    pub n_pairs: u64,
    /// Those with both verdicts.
    pub n_judged: u64,
    pub n_both: u64,
    pub n_neither: u64,
    pub n_only_acting: u64,
    pub n_only_shadow: u64,
    /// The share of equal verdicts.
    pub agreement: Option<f64>,
    /// Rows with both scores.
    pub n_scored: u64,
    pub n_only_acting_scored: u64,
    pub n_only_shadow_scored: u64,
    /// The shadow's score less the acting one's, on average.
    pub score_mean_difference: Option<f64>,
    pub score_correlation: Option<f64>,
    /// The largest distance of the distributions of their scores, of all rows of either.
    pub ks: Option<f64>,
}

/// An acting version beside another, each on rows of its own.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Arm {
    pub version: String,
    pub against: String,
    /// The largest distance of the distributions of their scores.
    pub ks: Option<f64>,
    pub anomaly_rate_difference: Option<f64>,
    /// `None` also where the other has no anomalies.
    pub anomaly_rate_ratio: Option<f64>,
}

/// What found no counterpart.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Unmatched {
    /// Rows of acting versions without a shadow's word, or with one that came too late; not counted where there is no shadow.
    pub acting: u64,
    /// Rows of a shadow.
    pub shadow: u64,
    pub labels: Unlabelled,
}

impl Shadow {
    pub(super) fn of(acting: &str, shadow: &str, agreement: &Agreement, ks: Option<f64>) -> Self {
        let [n_neither, n_only_acting, n_only_shadow, n_both] = agreement.verdicts;
        let n_judged = agreement.n_judged();
        Shadow {
            acting: acting.to_owned(),
            shadow: shadow.to_owned(),
            n_pairs: agreement.n_pairs,
            n_judged,
            n_both,
            n_neither,
            n_only_acting,
            n_only_shadow,
            agreement: (n_judged > 0).then(|| (n_both + n_neither) as f64 / n_judged as f64),
            n_scored: agreement.n_scored,
            n_only_acting_scored: agreement.n_only_acting_scored,
            n_only_shadow_scored: agreement.n_only_shadow_scored,
            score_mean_difference: agreement.mean_difference(),
            score_correlation: agreement.correlation(),
            ks,
        }
    }
}

impl Arm {
    pub(super) fn of(version: &Version, against: &Version, ks: Option<f64>) -> Self {
        let rates = version.anomaly_rate.zip(against.anomaly_rate);
        Arm {
            version: version.version.clone(),
            against: against.version.clone(),
            ks,
            anomaly_rate_difference: rates.map(|(own, other)| own - other),
            anomaly_rate_ratio: rates.filter(|(_, other)| *other > 0.0).map(|(own, other)| own / other),
        }
    }
}

impl Report {
    /// A version on one side.
    pub fn version(&self, version: &str, shadow: bool) -> Option<&Version> {
        self.versions.iter().find(|it| it.version == version && it.shadow == shadow)
    }
}
