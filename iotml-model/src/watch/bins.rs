//! How many values are in which bin, and how far that is from training.

/// The least share that counts: an empty bin must not make the index infinite.
const LEAST_SHARE: f64 = 1e-4;

/// The bins of a feature, and the share of each in training.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bins {
    edges: Vec<f32>,
    shares: Vec<f64>,
    missing: f64,
}

/// What was seen of a feature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// How many values reach each edge.
    reached: Vec<u64>,
    /// How many values there are.
    n: u64,
    /// How many rows have none.
    missing: u64,
}

impl Bins {
    /// `shares` has one more than `edges`, which rise; the manifest's check saw to that.
    pub(super) fn new(edges: &[f64], shares: &[f64], missing: f64) -> Self {
        Bins { edges: edges.iter().map(|edge| *edge as f32).collect(), shares: shares.to_vec(), missing }
    }

    /// Nothing seen yet.
    pub(super) fn unseen(&self) -> Seen {
        Seen { reached: vec![0; self.edges.len()], ..Seen::default() }
    }

    /// Counts values, all of them finite. One pass for each edge is a few vector instructions for four values, where looking for the bin of
    /// each value would be a chain of branches.
    pub(super) fn count(&self, values: &[f32], seen: &mut Seen) {
        for (edge, reached) in self.edges.iter().zip(&mut seen.reached) {
            // A tile is far below four billion rows.
            let n: u32 = values.iter().map(|value| u32::from(*value >= *edge)).sum();
            *reached += u64::from(n);
        }
        seen.n += values.len() as u64;
    }

    /// The population stability index; rows without a value are a bin, too.
    pub(super) fn psi(&self, seen: &Seen) -> f64 {
        let rows = (seen.n + seen.missing) as f64;
        if rows == 0.0 {
            return 0.0;
        }
        let mut above = seen.n;
        let mut index = term(seen.missing as f64 / rows, self.missing);
        for (bin, share) in self.shares.iter().enumerate() {
            let reached = seen.reached.get(bin).copied().unwrap_or(0);
            index += term((above - reached) as f64 / rows, share * (1.0 - self.missing));
            above = reached;
        }
        index
    }

    /// The largest difference between the two cumulative shares, at the edges; 0 if no row has a value.
    pub(super) fn ks(&self, seen: &Seen) -> f64 {
        if seen.n == 0 {
            return 0.0;
        }
        let mut trained = 0.0;
        let mut distance: f64 = 0.0;
        for (reached, share) in seen.reached.iter().zip(&self.shares) {
            trained += share;
            let live = (seen.n - reached) as f64 / seen.n as f64;
            distance = distance.max((live - trained).abs());
        }
        distance
    }
}

/// One bin's part of the index.
fn term(live: f64, trained: f64) -> f64 {
    let (live, trained) = (live.max(LEAST_SHARE), trained.max(LEAST_SHARE));
    (live - trained) * (live / trained).ln()
}

impl Seen {
    pub(super) fn miss(&mut self, rows: u64) {
        self.missing += rows;
    }

    /// The share of rows without a value.
    pub(super) fn missing(&self) -> f64 {
        let rows = self.n + self.missing;
        if rows == 0 { 0.0 } else { self.missing as f64 / rows as f64 }
    }

    /// Adds what `other` saw.
    pub(super) fn add(&mut self, other: &Seen) {
        self.reached.iter_mut().zip(&other.reached).for_each(|(reached, other)| *reached += other);
        self.n += other.n;
        self.missing += other.missing;
    }

    pub(super) fn clear(&mut self) {
        self.reached.fill(0);
        (self.n, self.missing) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(bins: &Bins, values: &[f32], missing: u64) -> Seen {
        let mut seen = bins.unseen();
        bins.count(values, &mut seen);
        seen.miss(missing);
        seen
    }

    #[test]
    fn values_on_an_edge_are_in_the_bin_behind_it() {
        let bins = Bins::new(&[0.0, 1.0], &[0.25, 0.5, 0.25], 0.0);
        let seen = seen(&bins, &[-1.0, 0.0, 0.5, 1.0], 0);
        assert_eq!((&seen.reached[..], seen.n), (&[3, 1][..], 4));
        // One value below 0, two from 0 on, one from 1 on: as in training.
        assert_eq!((bins.psi(&seen), bins.ks(&seen)), (0.0, 0.0));
    }

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let bins = Bins::new(&[0.0, 10.0], &[0.5, 0.3, 0.2], 0.0);
        // Shares 0.2, 0.3, 0.5.
        let moved = seen(&bins, &[-1.0, -2.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 14.0], 0);
        // (0.2 - 0.5) ln(0.2 / 0.5) + 0 + (0.5 - 0.2) ln(0.5 / 0.2) = 0.6 ln 2.5 = 0.549774...
        assert!((bins.psi(&moved) - 0.549_774_439_1).abs() < 1e-9, "{}", bins.psi(&moved));
        // Cumulative 0.2, 0.5 against 0.5, 0.8.
        assert!((bins.ks(&moved) - 0.3).abs() < 1e-12);
        // All in the last bin: the others count as 1e-4.
        let away = seen(&bins, &[20.0; 8], 0);
        let by_hand = (1e-4_f64 - 0.5) * (1e-4_f64 / 0.5).ln()
            + (1e-4_f64 - 0.3) * (1e-4_f64 / 0.3).ln()
            + (1.0_f64 - 0.2) * (1.0_f64 / 0.2).ln();
        assert!((bins.psi(&away) - by_hand).abs() < 1e-9 && (7.94..7.95).contains(&by_hand), "{by_hand}");
        assert!((bins.ks(&away) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn rows_without_a_value_are_a_bin_of_their_own() {
        let bins = Bins::new(&[0.0], &[0.5, 0.5], 0.2);
        let same = seen(&bins, &[-1.0, -1.0, 1.0, 1.0], 1);
        assert!(bins.psi(&same).abs() < 1e-12 && same.missing() == 0.2);
        // Shares 0.25, 0.25 and 0.5 missing against 0.4, 0.4 and 0.2.
        let more = seen(&bins, &[-1.0, 1.0], 2);
        let by_hand = 2.0 * (0.25 - 0.4) * (0.25_f64 / 0.4).ln() + (0.5 - 0.2) * (0.5_f64 / 0.2).ln();
        assert!((bins.psi(&more) - by_hand).abs() < 1e-12);
        assert_eq!(bins.ks(&more), 0.0, "those that have one are as they were");
        let none = seen(&bins, &[], 5);
        assert!(bins.psi(&none) > 1.0 && bins.ks(&none) == 0.0);
    }

    #[test]
    fn nothing_seen_is_no_drift() {
        let bins = Bins::new(&[0.0], &[0.5, 0.5], 0.0);
        assert_eq!((bins.psi(&bins.unseen()), bins.ks(&bins.unseen())), (0.0, 0.0));
    }

    proptest! {
        /// Counting by edges gives what looking for the bin of each value gives, in however many parts it is done.
        #[test]
        fn counting_is_that_of_a_search(
            mut edges in prop::collection::vec(-50f32..50.0, 1..32),
            values in prop::collection::vec(prop_oneof![-60f32..60.0, Just(0.0), Just(-0.0)], 0..300),
            cut in 0usize..300,
        ) {
            edges.sort_by(f32::total_cmp);
            edges.dedup();
            let wide: Vec<f64> = edges.iter().map(|edge| f64::from(*edge)).collect();
            let bins = Bins::new(&wide, &vec![1.0 / (edges.len() + 1) as f64; edges.len() + 1], 0.0);
            let mut counts = vec![0u64; edges.len() + 1];
            for value in &values {
                counts[edges.partition_point(|edge| edge <= value)] += 1;
            }
            let (one, other) = values.split_at(cut.min(values.len()));
            let mut found = seen(&bins, one, 0);
            found.add(&seen(&bins, other, 0));
            let reached: Vec<u64> = (1..counts.len()).map(|bin| counts[bin..].iter().sum()).collect();
            prop_assert_eq!(&found.reached, &reached);
            prop_assert_eq!(found.n, values.len() as u64);
        }

        /// Neither figure is negative, KS is a distance, and both are 0 for training's own shares only.
        #[test]
        fn figures_are_distances(shares in prop::collection::vec(1u32..50, 2..10), live in prop::collection::vec(0u32..50, 2..10)) {
            let n_bins = shares.len().min(live.len());
            let (shares, live) = (&shares[..n_bins], &live[..n_bins]);
            let total: u32 = shares.iter().sum();
            let edges: Vec<f64> = (1..n_bins).map(|edge| edge as f64).collect();
            let of_training: Vec<f64> = shares.iter().map(|share| f64::from(*share) / f64::from(total)).collect();
            let bins = Bins::new(&edges, &of_training, 0.0);
            let rows = |counts: &[u32]| -> Vec<f32> {
                counts.iter().enumerate().flat_map(|(bin, n)| std::iter::repeat_n(bin as f32 + 0.5, *n as usize)).collect()
            };
            let same = seen(&bins, &rows(shares), 0);
            prop_assert!(bins.psi(&same) < 1e-9 && bins.ks(&same) < 1e-9);
            let other = seen(&bins, &rows(live), 0);
            let (psi, ks) = (bins.psi(&other), bins.ks(&other));
            prop_assert!(psi >= 0.0 && psi.is_finite() && (0.0..=1.0).contains(&ks));
            prop_assert_eq!(psi < 1e-9, ks < 1e-9 , "psi {} ks {}", psi, ks);
        }
    }
}
