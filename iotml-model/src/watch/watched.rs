//! One version of a model, and the window of rows that all tasks count into.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use iotml_core::clock::now_millis;
use iotml_core::metrics::{Counter, Metrics, RealGauge};
use iotml_core::model::{AnomalyRate, FeatureDrift, ModelDrift, ModelFeed};
use iotml_core::pipeline::TaskContext;

use super::bins::Bins;
use super::config::WatchConfig;
use super::tally::Tally;
use super::trigger::{Rule, Trigger};
use crate::manifest::{Distribution, Manifest};

/// Features that have gauges; those behind them are watched all the same.
const MAX_GAUGES: usize = 64;

const PSI: &str = "iotml_score_drift_psi";
const KS: &str = "iotml_score_drift_ks";
const WINDOWS: &str = "iotml_score_drift_windows";
const REPORTS: &str = "iotml_score_drift_reports";

/// How many count into each series: the same version may be announced again with another distribution, and the new one is there before
/// the old one goes.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<BTreeMap<Vec<String>, usize>>);

impl Shown {
    /// Makes a series by `make`, or takes part in it.
    fn add<T>(&self, name: &str, labels: &[(&str, &str)], make: impl FnOnce() -> T) -> T {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *shown.entry(key(name, labels)).or_default() += 1;
        make()
    }

    /// Takes a series away by `remove`, unless another counts into it.
    fn leave(&self, name: &str, labels: &[(&str, &str)], remove: impl FnOnce()) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(name, labels);
        match shown.get_mut(&key) {
            Some(others @ 2..) => *others -= 1,
            _ => {
                shown.remove(&key);
                remove();
            }
        }
    }
}

fn key(name: &str, labels: &[(&str, &str)]) -> Vec<String> {
    std::iter::once(name).chain(labels.iter().map(|(_, value)| *value)).map(str::to_owned).collect()
}

/// A version that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    name: String,
    version: String,
    distribution: Distribution,
    features: Vec<WatchedFeature>,
    /// Anomalies per row, as the manifest expects them.
    expected: Option<f64>,
    config: Arc<WatchConfig>,
    feed: Option<Arc<dyn ModelFeed>>,
    task: TaskContext,
    metrics: Metrics,
    shown: Arc<Shown>,
    windows: Counter,
    reports: Counter,
    state: Mutex<State>,
}

/// A feature whose values are compared.
#[derive(Debug)]
pub(super) struct WatchedFeature {
    /// Its place among the manifest's features.
    pub(super) at: usize,
    name: String,
    pub(super) bins: Bins,
    gauges: Option<(RealGauge, RealGauge)>,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    window: Tally,
    trigger: Trigger,
}

impl Watched {
    /// Begins to watch a version; `None` if its manifest has nothing to compare with.
    pub(super) fn new(
        manifest: &Manifest,
        config: Arc<WatchConfig>,
        feed: Option<Arc<dyn ModelFeed>>,
        shown: Arc<Shown>,
        task: &TaskContext,
    ) -> Option<Self> {
        let distribution = manifest.distribution.clone()?;
        // All tasks count together.
        let metrics = task.metrics.without("task");
        let labels = [("model", manifest.name.as_str()), ("version", manifest.version.as_str())];
        let feature = |(index, of): (usize, &crate::manifest::FeatureDistribution)| {
            let at = manifest.features.iter().position(|feature| feature.name == of.name)?;
            let labels = [labels[0], labels[1], ("feature", of.name.as_str())];
            let gauge = |name, help| shown.add(name, &labels, || metrics.real_gauge(name, help, &labels));
            let psi = || gauge(PSI, "PSI of live rows against training rows, in the last window.");
            let ks = || gauge(KS, "KS distance of live rows to training rows, in the last window.");
            let gauges = (index < MAX_GAUGES).then(|| (psi(), ks()));
            Some(WatchedFeature {
                at,
                name: of.name.clone(),
                bins: Bins::new(&of.edges, &of.shares, of.missing),
                gauges,
            })
        };
        let features: Vec<WatchedFeature> = distribution.features.iter().enumerate().filter_map(feature).collect();
        let window = Tally { features: unseen(&features), ..Tally::default() };
        let counter = |name, help| shown.add(name, &labels, || metrics.counter(name, help, &labels));
        Some(Watched {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            features,
            expected: distribution.score.as_ref().and_then(|score| score.anomalies),
            distribution,
            config,
            feed,
            task: task.clone(),
            windows: counter(WINDOWS, "Windows compared with the training rows."),
            reports: counter(REPORTS, "Reports that rows have drifted."),
            metrics,
            shown,
            state: Mutex::new(State { begun: Instant::now(), window, trigger: Trigger::default() }),
        })
    }

    /// Whether it is what `manifest` describes.
    pub(super) fn is(&self, manifest: &Manifest) -> bool {
        self.name == manifest.name
            && self.version == manifest.version
            && manifest.distribution.as_ref() == Some(&self.distribution)
    }

    pub(super) fn features(&self) -> &[WatchedFeature] {
        &self.features
    }

    pub(super) fn every(&self) -> u32 {
        self.config.every
    }

    /// A tally of nothing.
    pub(super) fn unseen(&self) -> Tally {
        Tally { features: unseen(&self.features), ..Tally::default() }
    }

    /// Adds a batch to the window, empties it, and ends the window if it is long enough.
    pub(super) fn take(&self, batch: &mut Tally) {
        if let Some(drift) = self.add(batch, Instant::now()) {
            self.tell(drift);
        }
    }

    fn add(&self, batch: &mut Tally, now: Instant) -> Option<ModelDrift> {
        // A task that panics here leaves a window of which at most this batch is half counted.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { begun, window, trigger } = &mut *state;
        if window.extent.rows == 0 {
            *begun = now;
        }
        window.take_from(batch);
        let rows = window.extent.rows;
        let is_late = now.saturating_duration_since(*begun) >= self.config.window.0;
        if rows < self.config.window_rows && !(is_late && rows >= self.config.min_rows) {
            return None;
        }
        let features = self.compare(window);
        let anomaly_rate = self.anomaly_rate(window);
        self.windows.inc();
        let is_beyond = !features.is_empty() || anomaly_rate.is_some();
        let rule = Rule { windows: self.config.windows, cooldown: self.config.cooldown.0 };
        let is_time = trigger.pull(is_beyond, &window.extent, now, rule);
        window.clear();
        let (windows, extent) = trigger.lasts();
        is_time.then(|| ModelDrift {
            model: self.name.clone(),
            version: self.version.clone(),
            pipeline: self.task.pipeline.to_string(),
            instance: self.task.instance.to_string(),
            time: now_millis(),
            windows,
            rows: extent.rows,
            from: extent.from(),
            until: extent.until(),
            log: extent.log(),
            features,
            anomaly_rate,
        })
    }

    /// The features beyond a limit, those furthest away first; shows the figures of all.
    fn compare(&self, window: &Tally) -> Vec<FeatureDrift> {
        let mut beyond = Vec::new();
        for (feature, seen) in self.features.iter().zip(&window.features) {
            let (psi, ks) = (feature.bins.psi(seen), feature.bins.ks(seen));
            if let Some((psi_gauge, ks_gauge)) = &feature.gauges {
                psi_gauge.set(psi);
                ks_gauge.set(ks);
            }
            if psi > self.config.max_psi || ks > self.config.max_ks {
                beyond.push(FeatureDrift { name: feature.name.clone(), psi, ks, missing: seen.missing() });
            }
        }
        beyond.sort_by(|one, other| other.psi.total_cmp(&one.psi));
        beyond
    }

    /// The share of anomalies, if it is beyond the limit and by more than chance makes likely.
    fn anomaly_rate(&self, window: &Tally) -> Option<AnomalyRate> {
        let (ratio, expected) = (self.config.anomaly_ratio?, self.expected?);
        if window.judged == 0 {
            return None;
        }
        let (found, awaited) = (window.anomalies as f64, expected * window.judged as f64);
        // Three standard deviations of a Poisson number.
        let chance = 3.0 * awaited.sqrt();
        let is_beyond = (found > awaited * ratio && found > awaited + chance + 3.0)
            || (found < awaited / ratio && found < awaited - chance);
        is_beyond.then(|| AnomalyRate { found: found / window.judged as f64, expected })
    }

    fn tell(&self, drift: ModelDrift) {
        self.reports.inc();
        let features: Vec<String> =
            drift.features.iter().map(|it| format!("{} (PSI {:.2}, KS {:.2})", it.name, it.psi, it.ks)).collect();
        tracing::warn!(
            model = drift.model,
            version = drift.version,
            windows = drift.windows,
            rows = drift.rows,
            features = features.join(", "),
            anomaly_rate = drift.anomaly_rate.map(|rate| rate.found),
            "rows are not like those that the model was trained on"
        );
        if let Some(feed) = &self.feed {
            feed.drifted(drift);
        }
    }
}

fn unseen(features: &[WatchedFeature]) -> Vec<super::bins::Seen> {
    features.iter().map(|feature| feature.bins.unseen()).collect()
}

impl Drop for Watched {
    fn drop(&mut self) {
        let leave =
            |name, labels: &[(&str, &str)]| self.shown.leave(name, labels, || self.metrics.remove(name, labels));
        let labels = [("model", self.name.as_str()), ("version", self.version.as_str())];
        for WatchedFeature { name, .. } in self.features.iter().filter(|feature| feature.gauges.is_some()) {
            let labels = [labels[0], labels[1], ("feature", name.as_str())];
            leave(PSI, &labels);
            leave(KS, &labels);
        }
        leave(WINDOWS, &labels);
        leave(REPORTS, &labels);
    }
}
