//! The truth about rows, and how well a version found it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Serialize;

use super::Side;

/// What is known of rows, by their id.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    known: HashMap<u64, Label>,
    max: usize,
    /// Labels that found no room.
    n_beyond: u64,
}

#[derive(Clone, Copy, Debug)]
struct Label {
    is_anomaly: bool,
    /// An acting version has said something of it.
    is_met: bool,
}

/// What `Labels` came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Unlabelled {
    /// Labels of rows that no acting version scored.
    pub without_row: u64,
    /// Labels beyond those that are kept.
    pub beyond_limit: u64,
}

impl Labels {
    /// Keeps at most `max` labels.
    pub fn new(max: usize) -> Self {
        Labels { max, ..Labels::default() }
    }

    /// Adds one; of two about the same row the later counts.
    pub fn add(&mut self, id: u64, is_anomaly: bool) {
        let is_full = self.known.len() >= self.max;
        match self.known.entry(id) {
            Entry::Occupied(mut known) => known.get_mut().is_anomaly = is_anomaly,
            Entry::Vacant(_) if is_full => self.n_beyond += 1,
            Entry::Vacant(place) => _ = place.insert(Label { is_anomaly, is_met: false }),
        }
    }

    /// The truth about a row that was scored.
    pub fn of(&mut self, id: u64, side: Side) -> Option<bool> {
        let label = self.known.get_mut(&id)?;
        label.is_met |= side == Side::Acting;
        Some(label.is_anomaly)
    }

    /// How many there are, and what became of none.
    pub fn finish(&self) -> (u64, Unlabelled) {
        let without_row = self.known.values().filter(|label| !label.is_met).count() as u64;
        let n = self.known.len() as u64 + self.n_beyond;
        (n, Unlabelled { without_row, beyond_limit: self.n_beyond })
    }
}

/// How often verdicts and truth met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hits {
    /// By truth and verdict: true negatives, false positives, false negatives, true positives.
    counts: [u64; 4],
}

/// How well a version found what is true.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Truth {
    /// Rows with a label and a verdict.
    pub n: u64,
    pub true_positives: u64,
    pub false_positives: u64,
    pub false_negatives: u64,
    pub true_negatives: u64,
    /// The share of its anomalies that are some.
    pub precision: Option<f64>,
    /// The share of the anomalies that it found.
    pub recall: Option<f64>,
    /// The harmonic mean of both.
    pub f1: Option<f64>,
}

impl Hits {
    pub fn add(&mut self, truth: bool, said: bool) {
        self.counts[2 * usize::from(truth) + usize::from(said)] += 1;
    }

    /// `None` where no row has a label.
    pub fn finish(self) -> Option<Truth> {
        let [true_negatives, false_positives, false_negatives, true_positives] = self.counts;
        let n = self.counts.iter().sum();
        let share = |of: u64| (of > 0).then(|| true_positives as f64 / of as f64);
        let both = 2 * true_positives + false_positives + false_negatives;
        (n > 0).then(|| Truth {
            n,
            true_positives,
            false_positives,
            false_negatives,
            true_negatives,
            precision: share(true_positives + false_positives),
            recall: share(true_positives + false_negatives),
            f1: (both > 0).then(|| 2.0 * true_positives as f64 / both as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_labels_count_and_those_beyond_the_limit_are_told() {
        let mut labels = Labels::new(2);
        [(1, false), (2, true), (1, true), (3, true), (4, true)].into_iter().for_each(|(id, is)| labels.add(id, is));
        assert_eq!((labels.of(1, Side::Shadow), labels.of(2, Side::Acting)), (Some(true), Some(true)));
        assert_eq!(labels.of(3, Side::Acting), None);
        assert_eq!(labels.finish(), (4, Unlabelled { without_row: 1, beyond_limit: 2 }));
    }

    #[test]
    fn precision_and_recall_are_what_is_computed_by_hand() {
        let mut hits = Hits::default();
        for (truth, said, times) in [(true, true, 6), (false, true, 2), (true, false, 3), (false, false, 89)] {
            (0..times).for_each(|_| hits.add(truth, said));
        }
        let truth = hits.finish().unwrap();
        assert_eq!((truth.n, truth.true_positives, truth.false_positives), (100, 6, 2));
        assert_eq!((truth.false_negatives, truth.true_negatives), (3, 89));
        assert_eq!((truth.precision, truth.recall, truth.f1), (Some(0.75), Some(6.0 / 9.0), Some(12.0 / 17.0)));
        let mut silent = Hits::default();
        silent.add(false, false);
        let truth = silent.finish().unwrap();
        assert_eq!((truth.precision, truth.recall, truth.f1), (None, None, None));
        assert_eq!(Hits::default().finish(), None);
    }
}
