//! The random numbers of one car: a small seeded generator whose stream is the car's index.

use rand::RngExt;
use rand_pcg::Pcg64;

/// Draws of one car. PCG keeps 32 bytes of state, so that 100,000 cars stay small, and is the same on every platform.
#[derive(Clone, Debug)]
pub(crate) struct Noise(Pcg64);

impl Noise {
    /// The stream of this car under this seed; streams of different cars do not overlap.
    pub(crate) fn new(seed: u64, car: u32) -> Self {
        let state = (u128::from(seed) << 64) | 0x9e37_79b9_7f4a_7c15;
        let mut rng = Pcg64::new(state, (u128::from(car) << 1) ^ 0x0a02_bdbf_7bb3_c0a7);
        // Neighbouring streams start alike: a few draws part them.
        for _ in 0..8 {
            let _: u64 = rng.random();
        }
        Self(rng)
    }

    /// Uniform in `low..high`.
    pub(crate) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.0.random::<f64>() < p
    }

    /// About normal with mean 0 and deviation `sigma`; the sum of four uniforms, so never beyond 3.5 sigma: sensors have no far outliers.
    pub(crate) fn normal(&mut self, sigma: f64) -> f64 {
        let sum: f64 = (0..4).map(|_| self.0.random::<f64>() - 0.5).sum();
        sum * sigma * 3f64.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_has_the_stated_mean_and_deviation() {
        let mut noise = Noise::new(1, 0);
        let draws: Vec<f64> = (0..20_000).map(|_| noise.normal(2.0)).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let deviation = (draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0).sqrt();
        assert!(mean.abs() < 0.06, "{mean}");
        assert!((deviation - 2.0).abs() < 0.06, "{deviation}");
    }

    #[test]
    fn neighbouring_cars_draw_differently() {
        let first: Vec<f64> = (0..1_000).map(|car| Noise::new(5, car).uniform(0.0, 1.0)).collect();
        let mean = first.iter().sum::<f64>() / 1_000.0;
        assert!((mean - 0.5).abs() < 0.05, "{mean}");
        assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
