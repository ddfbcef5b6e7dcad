//! A histogram that takes whole batches.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::family::MetricConstructor;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// More bounds than this are more series than anybody looks at.
const MAX_BOUNDS: usize = 32;

/// A histogram with bounds of its own; cheap to clone.
///
/// It takes a lock once a batch, where the library's [`Histogram`](super::Histogram) takes one for every value.
#[derive(Clone, Debug)]
pub struct Buckets(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Vec<f64>,
    /// The same in the precision of scores.
    narrow: Vec<f32>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// How many values are not above each bound.
    below: [u64; MAX_BOUNDS],
    n: u64,
    sum: f64,
}

impl Default for Buckets {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Buckets {
    /// A histogram with the upper `bounds` of its buckets; what is not finite or does not rise is left out, and so is what is over 32.
    pub fn new(bounds: &[f64]) -> Self {
        let mut kept: Vec<f64> = Vec::with_capacity(bounds.len());
        for bound in bounds.iter().filter(|bound| bound.is_finite()).take(MAX_BOUNDS) {
            if kept.last().is_none_or(|last| last < bound) {
                kept.push(*bound);
            }
        }
        let narrow = kept.iter().map(|bound| *bound as f32).collect();
        Self(Arc::new(Inner { bounds: kept, narrow, seen: Mutex::default() }))
    }

    /// Takes one value.
    pub fn observe(&self, value: f64) {
        let mut seen = self.lock();
        for (below, bound) in seen.below.iter_mut().zip(&self.0.bounds) {
            *below += u64::from(value <= *bound);
        }
        seen.n += 1;
        seen.sum += value;
    }

    /// Takes all values that are numbers.
    pub fn observe_all(&self, values: &[f32]) {
        let mut below = [0u64; MAX_BOUNDS];
        for (below, bound) in below.iter_mut().zip(&self.0.narrow) {
            *below = count(values, |value| value <= *bound);
        }
        let n = count(values, |value| !value.is_nan());
        let sum = sum(values);
        let mut seen = self.lock();
        seen.below.iter_mut().zip(below).for_each(|(seen, below)| *seen += below);
        seen.n += n;
        seen.sum += sum;
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing between the statements below a lock can panic.
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without a branch, so that the compiler makes it a vector loop.
fn count(values: &[f32], is: impl Fn(f32) -> bool) -> u64 {
    // A batch is far below four billion rows.
    u64::from(values.iter().map(|value| u32::from(is(*value))).sum::<u32>())
}

/// In several sums at once, since each addition waits for the one before it.
fn sum(values: &[f32]) -> f64 {
    let number = |value: &f32| if value.is_nan() { 0.0 } else { f64::from(*value) };
    let mut sums = [0.0; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(number).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += number(value));
    }
    sums.iter().sum::<f64>() + rest
}

impl EncodeMetric for Buckets {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let seen = self.lock();
        let mut before = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(self.0.bounds.len() + 1);
        for (bound, below) in self.0.bounds.iter().zip(seen.below) {
            buckets.push((*bound, below - before));
            before = below;
        }
        buckets.push((f64::INFINITY, seen.n - before));
        encoder.encode_histogram::<NoLabelSet>(seen.sum, seen.n, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Buckets {
    const TYPE: MetricType = MetricType::Histogram;
}

/// What the next histogram of a family is made with.
#[derive(Clone, Debug, Default)]
pub(super) struct NextBounds(Arc<Mutex<Vec<f64>>>);

impl NextBounds {
    pub(super) fn set(&self, bounds: &[f64]) {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        next.clear();
        next.extend_from_slice(bounds);
    }
}

impl MetricConstructor<Buckets> for NextBounds {
    fn new_metric(&self) -> Buckets {
        Buckets::new(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
