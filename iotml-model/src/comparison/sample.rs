//! Numbers of which not all are kept.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
use serde::Serialize;

/// The distribution of numbers, all of them while they are few, and then a uniform sample.
#[derive(Debug)]
pub(crate) struct Sample {
    max: usize,
    n: u64,
    sum: f64,
    min: f32,
    max_seen: f32,
    kept: Vec<f32>,
    random: Pcg64,
}

/// Some numbers about numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub n: u64,
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// A sample in ascending order.
#[derive(Debug, Default)]
pub(crate) struct Sorted(Vec<f32>);

impl Sample {
    /// Keeps at most `max` numbers. The same numbers in the same order give the same sample.
    pub fn new(max: usize) -> Self {
        let random = Pcg64::seed_from_u64(7);
        Sample { max, n: 0, sum: 0.0, min: f32::INFINITY, max_seen: f32::NEG_INFINITY, kept: Vec::new(), random }
    }

    /// Adds a finite number.
    pub fn add(&mut self, number: f32) {
        self.n += 1;
        self.sum += f64::from(number);
        self.min = self.min.min(number);
        self.max_seen = self.max_seen.max(number);
        if self.kept.len() < self.max {
            self.kept.push(number);
            return;
        }
        // Every number so far is kept with the same probability.
        let place = self.random.next_u64() % self.n;
        if let Some(kept) = usize::try_from(place).ok().and_then(|place| self.kept.get_mut(place)) {
            *kept = number;
        }
    }

    /// What is kept, in order; and a summary, if there is anything.
    pub fn finish(mut self) -> (Sorted, Option<Summary>) {
        self.kept.sort_unstable_by(f32::total_cmp);
        let sorted = Sorted(self.kept);
        let summary = (self.n > 0).then(|| Summary {
            n: self.n,
            mean: self.sum / self.n as f64,
            min: f64::from(self.min),
            p50: sorted.quantile(0.5),
            p90: sorted.quantile(0.9),
            p99: sorted.quantile(0.99),
            p999: sorted.quantile(0.999),
            max: f64::from(self.max_seen),
        });
        (sorted, summary)
    }
}

impl Sorted {
    /// A quantile as NumPy's, between two neighbours in proportion; 0 where there is nothing.
    fn quantile(&self, of: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return 0.0 };
        let rank = of * last as f64;
        let (below, part) = (rank.floor() as usize, rank - rank.floor());
        let (low, high) = (f64::from(self.0[below]), f64::from(self.0[(below + 1).min(last)]));
        low * (1.0 - part) + high * part
    }

    /// Its 0th, 1st, ... and 100th percentile; none where there is nothing.
    pub fn percentiles(&self) -> Vec<f64> {
        let n = if self.0.is_empty() { 0 } else { 101 };
        (0..n).map(|percent| self.quantile(f64::from(percent) / 100.0)).collect()
    }

    /// The two-sample statistic of Kolmogorov and Smirnov: the largest distance of the two distributions, from 0 to 1.
    pub fn ks(&self, other: &Self) -> Option<f64> {
        let (one, other) = (&self.0, &other.0);
        if one.is_empty() || other.is_empty() {
            return None;
        }
        let (mut i, mut j, mut largest) = (0, 0, 0.0_f64);
        while i < one.len() && j < other.len() {
            let at = one[i].min(other[j]);
            i += one[i..].iter().take_while(|number| **number <= at).count();
            j += other[j..].iter().take_while(|number| **number <= at).count();
            let distance = i as f64 / one.len() as f64 - j as f64 / other.len() as f64;
            largest = largest.max(distance.abs());
        }
        Some(largest)
    }
}

/// The 95 % interval of a share, by Wilson's score: between 0 and 1 also where nothing or everything was counted.
pub(crate) fn wilson(count: u64, n: u64) -> Option<[f64; 2]> {
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return None;
    }
    let (n, share) = (n as f64, count as f64 / n as f64);
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some([((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(numbers: &[f32]) -> Sorted {
        let mut sample = Sample::new(1000);
        numbers.iter().for_each(|number| sample.add(*number));
        sample.finish().0
    }

    #[test]
    fn few_numbers_are_summed_up_exactly() {
        let mut sample = Sample::new(5);
        [35.0, 15.0, 50.0, 20.0, 40.0].into_iter().for_each(|number| sample.add(number));
        let (sorted, summary) = sample.finish();
        let summary = summary.unwrap();
        // numpy.quantile of the same numbers.
        assert_eq!((summary.n, summary.mean, summary.min, summary.p50, summary.max), (5, 32.0, 15.0, 35.0, 50.0));
        assert!((summary.p99 - 49.6).abs() < 1e-9 && (summary.p90 - 46.0).abs() < 1e-9, "{summary:?}");
        let percentiles = sorted.percentiles();
        assert_eq!((percentiles.len(), percentiles[0], percentiles[25], percentiles[100]), (101, 15.0, 20.0, 50.0));
        assert_eq!(Sample::new(5).finish().1, None);
        assert!(Sample::new(5).finish().0.percentiles().is_empty());
    }

    #[test]
    fn of_many_numbers_a_fair_sample_is_kept() {
        let mut sample = Sample::new(2_000);
        (0..200_000u32).for_each(|number| sample.add(number as f32));
        assert_eq!(sample.kept.len(), 2_000);
        let (sorted, summary) = sample.finish();
        let summary = summary.unwrap();
        assert_eq!((summary.n, summary.min, summary.max), (200_000, 0.0, 199_999.0));
        assert!((summary.p50 - 100_000.0).abs() < 6_000.0, "{summary:?}");
        let mut early = Sample::new(2_000);
        (0..2_000u32).for_each(|number| early.add(number as f32 * 100.0));
        assert!(sorted.ks(&early.finish().0).unwrap() < 0.05);
    }

    #[test]
    fn distances_of_distributions_are_scipys() {
        // scipy.stats.ks_2samp of the same numbers.
        assert_eq!(sorted(&[1.0, 2.0, 3.0, 4.0]).ks(&sorted(&[3.0, 4.0, 5.0, 6.0])), Some(0.5));
        assert_eq!(sorted(&[1.0, 2.0]).ks(&sorted(&[3.0])), Some(1.0));
        assert_eq!(sorted(&[1.0, 1.0, 2.0]).ks(&sorted(&[1.0, 1.0, 2.0, 1.0, 1.0, 2.0])), Some(0.0));
        let uneven = sorted(&[0.0, 1.0, 1.0, 1.0, 5.0]).ks(&sorted(&[1.0, 2.0, 3.0])).unwrap();
        assert!((uneven - (0.8 - 1.0 / 3.0)).abs() < 1e-12, "{uneven}");
        assert_eq!(sorted(&[]).ks(&sorted(&[1.0])), None);
    }

    #[test]
    fn an_interval_of_a_share_is_statsmodels() {
        // statsmodels.stats.proportion.proportion_confint(10, 100, method="wilson").
        let [low, high] = wilson(10, 100).unwrap();
        assert!((low - 0.055_229).abs() < 1e-6 && (high - 0.174_366).abs() < 1e-6, "{low} {high}");
        let [low, high] = wilson(0, 9_000).unwrap();
        assert!(low == 0.0 && (high - 0.000_426_6).abs() < 1e-6, "{high}");
        assert_eq!(wilson(0, 0), None);
    }
}
