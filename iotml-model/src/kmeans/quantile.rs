//! A quantile of all scores so far, of which old ones count less.

use std::collections::BTreeMap;

/// Bins for each doubling of the score, so that a quantile is off by 3 percent at most.
const BINS_BITS: u32 = 5;

/// The bits of a single-precision number below those that name its bin.
const SHIFT: u32 = f32::MANTISSA_DIGITS - 1 - BINS_BITS;

/// Weights are made smaller when they get so large.
const LARGE: f64 = 1e100;

/// Counts of scores in bins that grow with the score: memory is bounded by the span of the scores, not by their number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunningQuantile {
    /// The weight of the scores in a bin, by its number, which is that of its lower edge's upper bits.
    bins: BTreeMap<u16, f64>,
    /// The weight of the next score; it grows, instead of all bins shrinking each time.
    unit: f64,
}

impl Default for RunningQuantile {
    fn default() -> Self {
        RunningQuantile { bins: BTreeMap::new(), unit: 1.0 }
    }
}

impl RunningQuantile {
    /// How many bins there can be: a score is finite and not negative.
    pub const N_BINS: u16 = (f32::INFINITY.to_bits() >> SHIFT) as u16;

    /// Puts together again what [`bins`](Self::bins) and [`unit`](Self::unit) told.
    pub fn of(bins: impl IntoIterator<Item = (u16, f64)>, unit: f64) -> Self {
        RunningQuantile { bins: bins.into_iter().collect(), unit }
    }

    /// The bins and their weights.
    pub fn bins(&self) -> impl ExactSizeIterator<Item = (u16, f64)> {
        self.bins.iter().map(|(bin, weight)| (*bin, *weight))
    }

    /// The weight of the next score.
    pub fn unit(&self) -> f64 {
        self.unit
    }

    /// Adds a score, which is finite and not negative.
    pub fn add(&mut self, score: f32) {
        *self.bins.entry((score.max(0.0).to_bits() >> SHIFT) as u16).or_default() += self.unit;
    }

    /// Lets all scores so far count `decay` times as much.
    pub fn decay(&mut self, decay: f64) {
        self.unit /= decay;
        if self.unit > LARGE {
            let unit = std::mem::replace(&mut self.unit, 1.0);
            self.bins.values_mut().for_each(|weight| *weight /= unit);
            // What weighs nothing any more has no quantile.
            self.bins.retain(|_, weight| *weight > 1e-12);
        }
    }

    /// The quantile `of`, between 0 and 1; 0 where there are no scores.
    pub fn quantile(&self, of: f64) -> f32 {
        let mut left = self.bins.values().sum::<f64>() * of;
        for (bin, weight) in &self.bins {
            if left <= *weight {
                let part = (left / weight) as f32;
                return edge(*bin) + (edge(bin + 1) - edge(*bin)) * part;
            }
            left -= weight;
        }
        self.bins.keys().next_back().map_or(0.0, |bin| edge(bin + 1))
    }
}

/// Where a bin begins; the last one ends with the largest number.
fn edge(bin: u16) -> f32 {
    f32::from_bits(u32::from(bin) << SHIFT).min(f32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_near_the_exact_one() {
        let mut running = RunningQuantile::default();
        let scores: Vec<f64> = (0..10_000u32).map(|at| f64::from(at.wrapping_mul(2_654_435_761) >> 8) * 1e-6).collect();
        scores.iter().for_each(|score| running.add(*score as f32));
        for of in [0.01, 0.5, 0.9, 0.99, 0.999] {
            let exact = iotml_core::score::quantile(&scores, of).unwrap();
            let found = f64::from(running.quantile(of));
            assert!((found / exact - 1.0).abs() < 0.03, "{of}: {found} for {exact}");
        }
    }

    #[test]
    fn old_scores_are_forgotten_and_memory_is_bounded() {
        let mut running = RunningQuantile::default();
        for round in 0..20_000u32 {
            running.add(if round < 10_000 { 100.0 } else { 1.0 + round as f32 * 1e-5 });
            running.decay(0.99);
        }
        assert!(running.quantile(0.999) < 2.0, "{}", running.quantile(0.999));
        for exponent in -126..127 {
            running.add(2f32.powi(exponent));
        }
        assert!(running.bins().len() < 300, "{}", running.bins().len());
    }

    #[test]
    fn what_was_told_is_the_same_again() {
        let mut running = RunningQuantile::default();
        for at in 0..1_000 {
            running.add(at as f32);
            running.decay(0.999);
        }
        assert_eq!(RunningQuantile::of(running.bins(), running.unit()), running);
        let mut huge = RunningQuantile::default();
        huge.add(f32::MAX);
        assert!(huge.quantile(0.999).is_finite() && huge.bins().all(|(bin, _)| bin < RunningQuantile::N_BINS));
        assert_eq!(RunningQuantile::default().quantile(0.9), 0.0);
        let mut zeros = RunningQuantile::default();
        zeros.add(0.0);
        assert!(zeros.quantile(0.5) < 1e-30);
    }
}
