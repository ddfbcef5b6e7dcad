//! Centres, and how they move.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use super::learner::Method;

/// How often the first rows are parted anew.
const ROUNDS: usize = 10;

/// A centre whose weight is so small a part of the heaviest one's is moved, since nothing comes near it any more.
const DEAD: f64 = 1e-6;

/// Centres with the weight of the rows behind them, and the rows since they moved last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clusters {
    n_features: usize,
    /// `[n_centres, n_features]`.
    pub centres: Vec<f32>,
    /// `[n_centres]`: how many rows, each counted less the older it is.
    pub weights: Vec<f64>,
    /// `[n_centres, n_features]`: sums of the rows since the centres moved last.
    pub sums: Vec<f64>,
    /// `[n_centres]`: how many rows these are.
    pub counts: Vec<u32>,
}

impl Clusters {
    pub fn new(n_features: usize, centres: Vec<f32>, weights: Vec<f64>) -> Self {
        let (sums, counts) = (vec![0.0; centres.len()], vec![0; weights.len()]);
        Clusters { n_features, centres, weights, sums, counts }
    }

    /// The clusters of `rows`: k-means++ to begin with, then some rounds of Lloyd's.
    pub fn of(rows: &[f32], method: &Method) -> Self {
        let n_features = method.n_features;
        let centres = first_centres(rows, method);
        let mut clusters = Clusters::new(n_features, centres, vec![0.0; method.n_centres]);
        for _ in 0..ROUNDS {
            for row in rows.chunks_exact(n_features) {
                let (nearest, _) = clusters.nearest(row);
                clusters.add(nearest, row);
            }
            clusters.weights.fill(0.0);
            clusters.update(1.0);
        }
        clusters
    }

    pub fn centre(&self, at: usize) -> &[f32] {
        &self.centres[at * self.n_features..(at + 1) * self.n_features]
    }

    /// The centre nearest to `row`, and the mean squared distance to it.
    pub fn nearest(&self, row: &[f32]) -> (usize, f32) {
        let mut best = (0, f32::INFINITY);
        for (at, centre) in self.centres.chunks_exact(self.n_features).enumerate() {
            let squares = row.iter().zip(centre).map(|(value, centre)| (value - centre) * (value - centre));
            let distance = squares.sum::<f32>();
            if distance < best.1 {
                best = (at, distance);
            }
        }
        (best.0, best.1 / self.n_features as f32)
    }

    /// Notes a row for the centre `at`.
    pub fn add(&mut self, at: usize, row: &[f32]) {
        let sums = &mut self.sums[at * self.n_features..(at + 1) * self.n_features];
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        self.counts[at] += 1;
    }

    /// Moves the centres to the mean of what was noted and of what they stand for, whose weight is multiplied with `decay`.
    pub fn update(&mut self, decay: f64) {
        let centres = self.centres.chunks_exact_mut(self.n_features).zip(self.sums.chunks_exact(self.n_features));
        for ((centre, sums), (weight, count)) in centres.zip(self.weights.iter_mut().zip(&self.counts)) {
            let old = *weight * decay;
            *weight = old + f64::from(*count);
            if *count > 0 {
                let all = *weight;
                for (value, sum) in centre.iter_mut().zip(sums) {
                    *value = ((f64::from(*value) * old + sum) / all) as f32;
                }
            }
        }
        self.sums.fill(0.0);
        self.counts.fill(0);
        self.replace_dead();
    }

    /// Moves a centre that has died beside the heaviest one, so that they share its rows.
    fn replace_dead(&mut self) {
        let by_weight = |a: &(usize, &f64), b: &(usize, &f64)| a.1.total_cmp(b.1);
        let lightest = self.weights.iter().enumerate().min_by(by_weight).map(|(at, weight)| (at, *weight));
        let heaviest = self.weights.iter().enumerate().max_by(by_weight).map(|(at, weight)| (at, *weight));
        let (Some((dead, least)), Some((full, most))) = (lightest, heaviest) else { return };
        if dead == full || least > most * DEAD {
            return;
        }
        for at in 0..self.n_features {
            let value = self.centres[full * self.n_features + at];
            let step = 1e-3 * value.abs().max(1.0);
            self.centres[dead * self.n_features + at] = value + step;
            self.centres[full * self.n_features + at] = value - step;
        }
        self.weights[dead] = most / 2.0;
        self.weights[full] = most / 2.0;
    }
}

/// Rows far from each other: each next one is drawn with a chance that grows with its squared distance to those before.
fn first_centres(rows: &[f32], method: &Method) -> Vec<f32> {
    let Method { n_features, n_centres, seed, .. } = *method;
    let mut random = Pcg64::seed_from_u64(seed);
    let row = |at: usize| &rows[at * n_features..(at + 1) * n_features];
    let n_rows = rows.len() / n_features;
    let mut centres = row((random.next_u64() % n_rows as u64) as usize).to_vec();
    // In double precision, since the square of a single one may be beyond all numbers.
    let mut distances = vec![f64::INFINITY; n_rows];
    while centres.len() < n_centres * n_features {
        let last = &centres[centres.len() - n_features..];
        for (at, nearest) in distances.iter_mut().enumerate() {
            let squares = row(at).iter().zip(last).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
            *nearest = nearest.min(squares.sum());
        }
        let mut left = distances.iter().sum::<f64>() * (random.next_u64() as f64 / u64::MAX as f64);
        // Where all rows are alike, so are the centres; they part as soon as rows do.
        let drawn = distances.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        centres.extend_from_slice(row(drawn.unwrap_or(n_rows - 1)));
    }
    centres
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kmeans::learner::Rule;

    fn method(n_centres: usize) -> Method {
        Method {
            n_features: 1,
            n_centres,
            warm_up: 1,
            update_rows: 1,
            decay: 0.5,
            rule: Rule::Fixed(1.0),
            learns_from_all: true,
            seed: 7,
        }
    }

    #[test]
    fn separate_clusters_are_found() {
        let rows: Vec<f32> = (0..300).map(|at| [-10.0, 0.0, 25.0][at % 3] + (at as f32 * 0.7).sin() * 0.1).collect();
        let clusters = Clusters::of(&rows, &method(3));
        let mut centres = clusters.centres.clone();
        centres.sort_by(f32::total_cmp);
        for (found, expected) in centres.iter().zip([-10.0, 0.0, 25.0]) {
            assert!((found - expected).abs() < 0.05, "{centres:?}");
        }
        assert_eq!(clusters.weights, [100.0; 3]);
    }

    #[test]
    fn an_update_is_the_mean_with_forgetting() {
        let mut clusters = Clusters::new(1, vec![2.0], vec![4.0]);
        clusters.add(0, &[8.0]);
        clusters.add(0, &[8.0]);
        clusters.update(0.5);
        // 4 rows at 2 count as 2 now, and 2 came at 8.
        assert_eq!((clusters.centres[0], clusters.weights[0]), (5.0, 4.0));
        clusters.update(0.5);
        assert_eq!((clusters.centres[0], clusters.weights[0]), (5.0, 2.0));
    }

    #[test]
    fn a_centre_that_nothing_is_near_goes_where_rows_are() {
        let mut clusters = Clusters::new(1, vec![0.0, 1_000.0], vec![100.0, 100.0]);
        for round in 0..200 {
            for at in 0..10 {
                let value = if (round + at) % 2 == 0 { -1.0 } else { 1.0 };
                let (nearest, _) = clusters.nearest(&[value]);
                clusters.add(nearest, &[value]);
            }
            clusters.update(0.5);
        }
        let mut centres = clusters.centres.clone();
        centres.sort_by(f32::total_cmp);
        assert!((centres[0] + 1.0).abs() < 0.01 && (centres[1] - 1.0).abs() < 0.01, "{centres:?}");
    }

    #[test]
    fn rows_that_are_all_alike_are_one_cluster_until_others_come() {
        let mut clusters = Clusters::of(&[3.0; 50], &method(4));
        assert!(clusters.centres.iter().all(|centre| (centre - 3.0).abs() < 0.1), "{:?}", clusters.centres);
        for _ in 0..50 {
            for value in [3.0, 9.0] {
                let (nearest, _) = clusters.nearest(&[value]);
                clusters.add(nearest, &[value]);
            }
            clusters.update(0.9);
        }
        assert!(clusters.nearest(&[9.0]).1 < 0.1 && clusters.nearest(&[3.0]).1 < 0.1, "{:?}", clusters.centres);
    }
}
