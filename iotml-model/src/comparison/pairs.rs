//! Rows that two models scored, brought together.

use std::collections::{HashMap, VecDeque};
use std::mem;

use super::Side;

/// What one model said of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Half {
    /// The model, by its number in the comparison.
    pub version: usize,
    pub score: Option<f32>,
    pub anomaly: Option<bool>,
}

/// Rows that wait for the other model's word on them. Of rows that come under one id, the first of one side belongs to the first of
/// the other, for both wrote them in the same order.
#[derive(Debug)]
pub(super) struct Pairs {
    /// Those that came last, and those that came before; when the young are half of all that may wait, the old are given up.
    young: HashMap<u64, Waiting>,
    old: HashMap<u64, Waiting>,
    n_young: usize,
    max: usize,
    /// Rows that were given up, by side.
    given_up: [u64; 2],
}

/// Rows of one id and one side.
#[derive(Debug)]
struct Waiting {
    side: Side,
    first: Half,
    more: VecDeque<Half>,
}

impl Pairs {
    /// At most about `max` rows wait.
    pub fn new(max: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Pairs { young, old, n_young: 0, max: max.max(2), given_up: [0; 2] }
    }

    /// Adds a row, and gives the acting and the shadow's half if it was waited for.
    pub fn add(&mut self, side: Side, id: u64, half: Half) -> Option<(Half, Half)> {
        for rows in [&mut self.old, &mut self.young] {
            if let Some(other) = take(rows, id, side) {
                return Some(match side {
                    Side::Acting => (half, other),
                    Side::Shadow => (other, half),
                });
            }
        }
        if self.n_young >= self.max / 2 {
            let old = mem::replace(&mut self.old, mem::take(&mut self.young));
            self.give_up(&old);
            self.n_young = 0;
        }
        self.n_young += 1;
        let new = Waiting { side, first: half, more: VecDeque::new() };
        self.young.entry(id).and_modify(|waiting| waiting.more.push_back(half)).or_insert(new);
        None
    }

    /// Rows of which the other model said nothing, or too late: acting, shadow.
    pub fn finish(mut self) -> [u64; 2] {
        let (young, old) = (mem::take(&mut self.young), mem::take(&mut self.old));
        self.give_up(&young);
        self.give_up(&old);
        self.given_up
    }

    fn give_up(&mut self, rows: &HashMap<u64, Waiting>) {
        rows.values().for_each(|waiting| self.given_up[waiting.side as usize] += 1 + waiting.more.len() as u64);
    }
}

/// The first row of `id` that waits for one of `side`.
fn take(rows: &mut HashMap<u64, Waiting>, id: u64, side: Side) -> Option<Half> {
    let waiting = rows.get_mut(&id).filter(|waiting| waiting.side != side)?;
    let first = waiting.first;
    match waiting.more.pop_front() {
        Some(next) => waiting.first = next,
        None => _ = rows.remove(&id),
    }
    Some(first)
}

/// How far two models agree on the rows that both scored.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreement {
    pub n_pairs: u64,
    /// Verdicts: neither, the acting one's alone, the shadow's alone, both.
    pub verdicts: [u64; 4],
    /// Rows with both scores.
    pub n_scored: u64,
    pub n_only_acting_scored: u64,
    pub n_only_shadow_scored: u64,
    /// Means, and sums of products of the distances from them, of acting and shadow (Welford).
    means: [f64; 2],
    squares: [f64; 2],
    products: f64,
}

impl Agreement {
    pub fn add(&mut self, acting: Half, shadow: Half) {
        self.n_pairs += 1;
        if let (Some(acting), Some(shadow)) = (acting.anomaly, shadow.anomaly) {
            self.verdicts[usize::from(acting) + 2 * usize::from(shadow)] += 1;
        }
        match (acting.score, shadow.score) {
            (Some(acting), Some(shadow)) => self.add_scores([acting, shadow].map(f64::from)),
            (Some(_), None) => self.n_only_acting_scored += 1,
            (None, Some(_)) => self.n_only_shadow_scored += 1,
            (None, None) => {}
        }
    }

    fn add_scores(&mut self, scores: [f64; 2]) {
        self.n_scored += 1;
        let n = self.n_scored as f64;
        let before = [scores[0] - self.means[0], scores[1] - self.means[1]];
        (0..2).for_each(|side| self.means[side] += before[side] / n);
        let after = [scores[0] - self.means[0], scores[1] - self.means[1]];
        (0..2).for_each(|side| self.squares[side] += before[side] * after[side]);
        self.products += before[0] * after[1];
    }

    /// Rows with both verdicts.
    pub fn n_judged(&self) -> u64 {
        self.verdicts.iter().sum()
    }

    /// The shadow's mean score less the acting one's.
    pub fn mean_difference(&self) -> Option<f64> {
        (self.n_scored > 0).then(|| self.means[1] - self.means[0])
    }

    /// Pearson's correlation of the scores; `None` where one of them never changes.
    pub fn correlation(&self) -> Option<f64> {
        let scale = (self.squares[0] * self.squares[1]).sqrt();
        // Rounding may take what belongs together perfectly a little beyond it.
        (scale > 0.0).then(|| (self.products / scale).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(score: f32) -> Half {
        Half { version: 0, score: Some(score), anomaly: Some(score > 2.0) }
    }

    #[test]
    fn rows_of_one_id_meet_in_their_order_whoever_comes_first() {
        let mut pairs = Pairs::new(100);
        assert_eq!(pairs.add(Side::Acting, 7, half(1.0)), None);
        assert_eq!(pairs.add(Side::Acting, 7, half(2.0)), None);
        assert_eq!(pairs.add(Side::Shadow, 7, half(10.0)), Some((half(1.0), half(10.0))));
        assert_eq!(pairs.add(Side::Acting, 7, half(3.0)), None);
        assert_eq!(pairs.add(Side::Shadow, 7, half(20.0)), Some((half(2.0), half(20.0))));
        assert_eq!(pairs.add(Side::Shadow, 7, half(30.0)), Some((half(3.0), half(30.0))));
        assert_eq!(pairs.add(Side::Shadow, 7, half(40.0)), None);
        assert_eq!(pairs.add(Side::Acting, 7, half(4.0)), Some((half(4.0), half(40.0))));
        assert_eq!(pairs.add(Side::Acting, 8, half(4.0)), None);
        assert_eq!(pairs.finish(), [1, 0]);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_given_up_is_counted() {
        let mut pairs = Pairs::new(1_000);
        for id in 0..10_000 {
            assert_eq!(pairs.add(Side::Acting, id, half(1.0)), None);
            assert!(pairs.young.len() + pairs.old.len() <= 1_000);
        }
        // The youngest half at least still waits.
        assert!((9_500..10_000).all(|id| pairs.add(Side::Shadow, id, half(1.0)).is_some()));
        assert_eq!(pairs.add(Side::Shadow, 3, half(1.0)), None);
        assert_eq!(pairs.finish(), [9_500, 1]);
    }

    #[test]
    fn agreement_is_what_is_computed_by_hand() {
        let mut agreement = Agreement::default();
        // numpy.corrcoef([1, 2, 3, 4], [2, 1, 4, 5]) is 0.8485281.
        for (acting, shadow) in [(1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (4.0, 5.0)] {
            agreement.add(half(acting), half(shadow));
        }
        agreement.add(half(3.0), Half { score: None, anomaly: None, ..half(0.0) });
        assert_eq!((agreement.n_pairs, agreement.n_judged(), agreement.n_scored), (5, 4, 4));
        assert_eq!((agreement.verdicts, agreement.n_only_acting_scored), ([2, 0, 0, 2], 1));
        assert_eq!(agreement.mean_difference(), Some(0.5));
        assert!((agreement.correlation().unwrap() - 0.848_528_1).abs() < 1e-6, "{:?}", agreement.correlation());
        let mut same = Agreement::default();
        (1..2000).map(|n| n as f32 * 0.1).for_each(|score| same.add(half(score), half(score * 1.1)));
        let correlation = same.correlation().unwrap();
        assert!((0.999..=1.0).contains(&correlation), "{correlation}");
        let mut constant = Agreement::default();
        (0..3).for_each(|_| constant.add(half(1.0), half(2.0)));
        assert_eq!(constant.correlation(), None);
    }
}
