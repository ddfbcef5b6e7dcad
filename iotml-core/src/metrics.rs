//! Metrics: one registry per process, handed to every stage by its task.
//!
//! Names are `iotml_<stage>_<noun>_<unit>`, in base units; counters get `_total` when written out.

mod buckets;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};

pub use buckets::Buckets;
use buckets::NextBounds;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// A gauge of a number that need not be whole.
pub type RealGauge = Gauge<f64, AtomicU64>;

type Labels = Vec<(String, String)>;
type Latency = Family<Labels, Histogram, fn() -> Histogram>;

/// Bounds of latency histograms in seconds, from 0.5 ms to 30 s.
const LATENCY_BOUNDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// A handle to the process's metrics with labels of its own; cheap to clone.
///
/// Counters are looked up once, when a stage opens, and then updated without a lock.
#[derive(Clone, Default)]
pub struct Metrics {
    families: Arc<Mutex<Families>>,
    labels: Labels,
}

#[derive(Default)]
struct Families {
    registry: Registry,
    counters: BTreeMap<String, Family<Labels, Counter>>,
    gauges: BTreeMap<String, Family<Labels, Gauge>>,
    real_gauges: BTreeMap<String, Family<Labels, RealGauge>>,
    latencies: BTreeMap<String, Latency>,
    histograms: BTreeMap<String, (NextBounds, Family<Labels, Buckets, NextBounds>)>,
}

impl Metrics {
    /// The same metrics with labels added to everything that is made from the result.
    pub fn with(&self, labels: &[(&str, &str)]) -> Self {
        Self { families: self.families.clone(), labels: self.merged(labels) }
    }

    /// The same metrics without a label, for what all tasks of a pipeline count together.
    pub fn without(&self, label: &str) -> Self {
        let labels = self.labels.iter().filter(|(name, _)| name != label).cloned().collect();
        Self { families: self.families.clone(), labels }
    }

    /// A counter; `name` without `_total`.
    pub fn counter(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        let mut families = self.lock();
        let Families { registry, counters, .. } = &mut *families;
        family(counters, registry, (name, help), Family::default).get_or_create(&self.merged(labels)).clone()
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        let mut families = self.lock();
        let Families { registry, gauges, .. } = &mut *families;
        family(gauges, registry, (name, help), Family::default).get_or_create(&self.merged(labels)).clone()
    }

    /// A gauge of a number that need not be whole.
    pub fn real_gauge(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> RealGauge {
        let mut families = self.lock();
        let Families { registry, real_gauges, .. } = &mut *families;
        family(real_gauges, registry, (name, help), Family::default).get_or_create(&self.merged(labels)).clone()
    }

    /// A histogram with the upper `bounds` of its buckets, at most 32; each series of a name may have its own, and keeps those that it was made
    /// with.
    pub fn histogram(&self, name: &str, help: &str, labels: &[(&str, &str)], bounds: &[f64]) -> Buckets {
        let mut families = self.lock();
        let Families { registry, histograms, .. } = &mut *families;
        let (next, family) = histograms.entry(name.to_owned()).or_insert_with(|| {
            let next = NextBounds::default();
            let family = Family::new_with_constructor(next.clone());
            registry.register(name, without_dot(help), family.clone());
            (next, family)
        });
        next.set(bounds);
        family.get_or_create(&self.merged(labels)).clone()
    }

    /// A histogram of seconds; `name` ends in `_seconds`.
    pub fn latency(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Histogram {
        let mut families = self.lock();
        let Families { registry, latencies, .. } = &mut *families;
        let make: fn() -> Histogram = || Histogram::new(LATENCY_BOUNDS);
        let new = || Family::new_with_constructor(make);
        family(latencies, registry, (name, help), new).get_or_create(&self.merged(labels)).clone()
    }

    /// Takes a series away, of whatever kind it is, so that one whose labels come and go does not pile up.
    pub fn remove(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = self.merged(labels);
        let families = self.lock();
        families.counters.get(name).map(|family| family.remove(&labels));
        families.gauges.get(name).map(|family| family.remove(&labels));
        families.real_gauges.get(name).map(|family| family.remove(&labels));
        families.latencies.get(name).map(|family| family.remove(&labels));
        families.histograms.get(name).map(|(_, family)| family.remove(&labels));
    }

    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.lock().registry)?;
        Ok(text)
    }

    fn merged(&self, labels: &[(&str, &str)]) -> Labels {
        let own = self.labels.iter().cloned();
        own.chain(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Families> {
        // Families are only ever added to, so a panic elsewhere cannot leave them half changed.
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// The registry ends every description with a dot of its own.
fn without_dot(help: &str) -> &str {
    help.trim_end_matches('.')
}

/// The family of a name, registered when it is first asked for.
fn family<'a, M, C>(
    known: &'a mut BTreeMap<String, Family<Labels, M, C>>,
    registry: &mut Registry,
    (name, help): (&str, &str),
    new: impl FnOnce() -> Family<Labels, M, C>,
) -> &'a Family<Labels, M, C>
where
    Family<Labels, M, C>: Clone + Metric,
{
    known.entry(name.to_owned()).or_insert_with(|| {
        let family = new();
        registry.register(name, without_dot(help), family.clone());
        family
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_labels_are_the_same_counter() {
        let metrics = Metrics::default();
        let task = metrics.with(&[("pipeline", "p")]);
        task.counter("iotml_sink_rows", "Rows.", &[("sink", "kafka")]).inc();
        task.counter("iotml_sink_rows", "Rows.", &[("sink", "kafka")]).inc();
        let text = metrics.text().unwrap();
        assert!(text.contains("# HELP iotml_sink_rows Rows.\n"), "{text}");
        assert!(text.contains("iotml_sink_rows_total{pipeline=\"p\",sink=\"kafka\"} 2"), "{text}");
    }

    #[test]
    fn what_is_removed_is_shown_no_more() {
        let metrics = Metrics::default().with(&[("task", "0")]);
        metrics.gauge("iotml_score_model_info", "Models.", &[("version", "1")]).set(1);
        metrics.gauge("iotml_score_model_info", "Models.", &[("version", "2")]).set(1);
        metrics.remove("iotml_score_model_info", &[("version", "1")]);
        metrics.remove("iotml_nothing", &[]);
        let text = metrics.text().unwrap();
        assert!(!text.contains("version=\"1\"") && text.contains("version=\"2\""), "{text}");
    }

    #[test]
    fn a_histogram_counts_batches_as_it_counts_values() {
        let metrics = Metrics::default().with(&[("task", "0")]);
        let whole = metrics.histogram("whole", "W.", &[("version", "1")], &[0.5, 1.0, f64::NAN, 1.0, 4.0]);
        let single = metrics.histogram("single", "S.", &[], &[0.5, 1.0, 4.0]);
        let values: Vec<f32> = (0..19).map(|at| at as f32 / 4.0).collect();
        whole.observe_all(&values);
        whole.observe_all(&[f32::NAN]);
        values.iter().for_each(|value| single.observe(f64::from(*value)));
        let other = metrics.without("task").histogram("whole", "W.", &[("version", "2")], &[9.0]);
        other.observe(1.0);
        let text = metrics.text().unwrap();
        let lines = |name: &str, labels: &str, le: &str| {
            let start = format!("{name}_bucket{{le=\"{le}\",{labels}}} ");
            text.lines()
                .find_map(|line| line.strip_prefix(&start))
                .unwrap_or_else(|| panic!("{start}: {text}"))
                .to_owned()
        };
        for (le, n) in [("0.5", "3"), ("1.0", "5"), ("4.0", "17"), ("+Inf", "19")] {
            assert_eq!(lines("whole", "task=\"0\",version=\"1\"", le), n, "{le}");
            assert_eq!(lines("single", "task=\"0\"", le), n, "{le}");
        }
        assert_eq!(lines("whole", "version=\"2\"", "9.0"), "1", "bounds of its own");
        assert!(text.contains("whole_sum{task=\"0\",version=\"1\"} 42.75"), "{text}");
        metrics.remove("whole", &[("version", "1")]);
        assert!(!metrics.text().unwrap().contains("version=\"1\""));
    }

    #[test]
    fn a_real_gauge_need_not_be_whole() {
        let metrics = Metrics::default();
        metrics.real_gauge("psi", "P.", &[("feature", "speed")]).set(0.25);
        assert!(metrics.text().unwrap().contains("psi{feature=\"speed\"} 0.25"));
        metrics.remove("psi", &[("feature", "speed")]);
        assert!(!metrics.text().unwrap().contains("speed"));
    }
}
