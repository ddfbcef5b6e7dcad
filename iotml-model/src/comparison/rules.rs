//! What becomes of a version, by rules over a comparison.

use iotml_core::cli::clap::{self, Args};
use iotml_core::plugin::HumanDuration;
use serde::Serialize;

use super::sample::wilson;
use super::{Report, Version};

/// What a version must show before it scores everything, and what costs it its place.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rules")]
pub(crate) struct Rules {
    /// Its rows must span as much time as this
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    pub min_time: HumanDuration,
    /// It must have scored as many rows as this; before that no other rule is looked at
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub min_rows: u64,
    /// It may see as many times the share of anomalies that the other sees; broken where chance is ruled out
    #[arg(long, value_name = "RATIO", default_value_t = 2.0)]
    pub max_anomaly_ratio: f64,
    /// It must see as much of the share of anomalies that the other sees; without it, it may see none
    #[arg(long, value_name = "RATIO")]
    pub min_anomaly_ratio: Option<f64>,
    /// It may fail to score this share of its rows, or the share that the other fails to score, if that is more
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    pub max_bad_share: f64,
    /// Its scores may be distributed so differently: the statistic of Kolmogorov and Smirnov, from 0 to 1
    #[arg(long, value_name = "DISTANCE")]
    pub max_ks: Option<f64>,
    /// A shadow must give the verdict of the version that acts for this share of the rows
    #[arg(long, value_name = "SHARE")]
    pub min_agreement: Option<f64>,
    /// So many of its rows must have labels before precision and recall count
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub min_labels: u64,
    /// So many of its anomalies must be some, by the labels
    #[arg(long, value_name = "SHARE")]
    pub min_precision: Option<f64>,
    /// So many of the anomalies must be found, by the labels
    #[arg(long, value_name = "SHARE")]
    pub min_recall: Option<f64>,
}

/// What is to become of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It holds all rules.
    Promote,
    /// It breaks one.
    Retire,
    /// It cannot be said yet.
    Wait,
}

/// How one rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Holds,
    Broken,
    /// There is too little to say.
    Open,
}

/// One rule, looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub rule: &'static str,
    pub limit: f64,
    pub found: Option<f64>,
    pub state: State,
}

/// What the rules say of a version.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judgement {
    pub outcome: Outcome,
    pub findings: Vec<Finding>,
}

impl Rules {
    /// Judges `version`, a shadow or not, beside `against`.
    pub fn judge(&self, report: &Report, version: &str, is_shadow: bool, against: &str) -> Judgement {
        let candidate = report.version(version, is_shadow);
        let mut look = Look { rules: self, candidate, against: report.version(against, false), findings: Vec::new() };
        look.amount();
        look.anomalies();
        look.failures();
        look.labels();
        if let Some(limit) = self.max_ks {
            let arm = report.arms.iter().find(|arm| arm.version == version && arm.against == against);
            let shadow = || report.shadows.iter().find(|it| it.shadow == version && it.acting == against);
            let ks = if is_shadow { shadow().and_then(|it| it.ks) } else { arm.and_then(|arm| arm.ks) };
            look.limit("max_ks", limit, ks.filter(|_| look.is_enough()), |found| found <= limit);
        }
        if let (true, Some(limit)) = (is_shadow, self.min_agreement) {
            // With whatever acted: canaries act, too.
            let beside = || report.shadows.iter().filter(|it| it.shadow == version);
            let n: u64 = beside().map(|it| it.n_judged).sum();
            let n_equal: u64 = beside().map(|it| it.n_both + it.n_neither).sum();
            let share = (n > 0 && n >= self.min_rows).then(|| n_equal as f64 / n as f64);
            look.limit("min_agreement", limit, share, |found| found >= limit);
        }
        let findings = look.findings;
        let is = |state| findings.iter().any(|finding: &Finding| finding.state == state);
        let outcome = match (is(State::Broken), is(State::Open)) {
            (true, _) => Outcome::Retire,
            (false, true) => Outcome::Wait,
            (false, false) => Outcome::Promote,
        };
        Judgement { outcome, findings }
    }
}

/// One look at a version.
struct Look<'a> {
    rules: &'a Rules,
    candidate: Option<&'a Version>,
    against: Option<&'a Version>,
    findings: Vec<Finding>,
}

impl Look<'_> {
    fn n_rows(&self) -> u64 {
        self.candidate.map_or(0, |version| version.n_rows + version.n_failed)
    }

    fn is_enough(&self) -> bool {
        self.n_rows() >= self.rules.min_rows
    }

    /// Rows and time only ever grow, so that they break nothing.
    fn amount(&mut self) {
        let state = |is_enough| if is_enough { State::Holds } else { State::Open };
        let n_rows = self.n_rows();
        let (rule, limit) = ("min_rows", self.rules.min_rows as f64);
        self.findings.push(Finding { rule, limit, found: Some(n_rows as f64), state: state(self.is_enough()) });
        let times = self.candidate.and_then(|version| Some((version.first?, version.last?)));
        let seconds = times.map_or(0.0, |(first, last)| (last - first) as f64 / 1e3);
        let (rule, limit) = ("min_time", self.rules.min_time.0.as_secs_f64());
        self.findings.push(Finding { rule, limit, found: Some(seconds), state: state(seconds >= limit) });
    }

    /// By the ends of the intervals that lie nearest to each other, so that chance promotes and retires nobody.
    fn anomalies(&mut self) {
        let judged = |version: &Version| version.n_judged > 0 && version.n_judged >= self.rules.min_rows;
        let both = self.candidate.filter(|it| judged(it)).zip(self.against.filter(|it| it.n_judged > 0));
        let rates = both.and_then(|(own, other)| Some((own.anomaly_rate?, other.anomaly_rate?)));
        // Without anomalies of the other there is no ratio, but the intervals can be compared all the same.
        let ratio = rates.map(|(own, other)| own / other);
        let ends = both.and_then(|(own, other)| Some((own.anomaly_rate_interval?, other.anomaly_rate_interval?)));
        let limit = self.rules.max_anomaly_ratio;
        let holds = ends.map(|([own_low, _], [_, other_high])| own_low <= limit * other_high);
        self.decide("max_anomaly_ratio", limit, ratio, holds);
        if let Some(limit) = self.rules.min_anomaly_ratio {
            let holds = ends.map(|([_, own_high], [other_low, _])| own_high >= limit * other_low);
            self.decide("min_anomaly_ratio", limit, ratio, holds);
        }
    }

    /// Rows whose features are no good fail in both, which is neither's fault.
    fn failures(&mut self) {
        let counts = |version: &Version| (version.n_failed, version.n_rows + version.n_failed);
        let share = |(n_failed, n): (u64, u64)| if n == 0 { 0.0 } else { n_failed as f64 / n as f64 };
        let own = self.candidate.map(counts).filter(|_| self.is_enough());
        let other = self.against.map_or(0.0, |other| share(counts(other)));
        let limit = self.rules.max_bad_share.max(other);
        let low = own.and_then(|(n_failed, n)| wilson(n_failed, n)).map(|[low, _]| low);
        self.decide("max_bad_share", limit, own.map(share), low.map(|low| low <= limit));
    }

    fn labels(&mut self) {
        let labelled = self.candidate.and_then(|it| it.labelled.as_ref()).filter(|it| it.n >= self.rules.min_labels);
        let (precision, recall) = (labelled.and_then(|it| it.precision), labelled.and_then(|it| it.recall));
        if let Some(limit) = self.rules.min_precision {
            self.limit("min_precision", limit, precision, |found| found >= limit);
        }
        if let Some(limit) = self.rules.min_recall {
            self.limit("min_recall", limit, recall, |found| found >= limit);
        }
    }

    fn limit(&mut self, rule: &'static str, limit: f64, found: Option<f64>, holds: impl Fn(f64) -> bool) {
        let holds = found.filter(|_| self.is_enough()).map(holds);
        self.decide(rule, limit, found, holds);
    }

    fn decide(&mut self, rule: &'static str, limit: f64, found: Option<f64>, holds: Option<bool>) {
        let state = match holds {
            None => State::Open,
            Some(true) => State::Holds,
            Some(false) => State::Broken,
        };
        self.findings.push(Finding { rule, limit, found: found.filter(|found| found.is_finite()), state });
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
