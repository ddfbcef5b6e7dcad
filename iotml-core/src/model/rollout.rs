//! Which rows a version scores.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash64;

/// Which rows a version of a model scores.
///
/// Rows are shared out by a stable hash of their key, so that a device stays with its version over batches, restarts and
/// workers. Rows without a key count as rows of one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rollout {
    /// All rows that no canary takes.
    #[default]
    Full,
    /// The rows of a share of the keys. A larger share holds all keys of a smaller one.
    Canary {
        /// Above 0, at most 100.
        percent: f64,
    },
    /// A part of the rows that no canary takes, in proportion to the other weights: for comparing versions side by side.
    Weighted {
        /// Above 0.
        weight: f64,
    },
    /// All rows, beside the versions that act: its scores go to shadow routes and nowhere else.
    Shadow,
}

impl Rollout {
    /// Whether what it scores is acted upon.
    pub fn acts(self) -> bool {
        self != Rollout::Shadow
    }

    /// The word, as in announcements and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Rollout::Full => "full",
            Rollout::Canary { .. } => "canary",
            Rollout::Weighted { .. } => "weighted",
            Rollout::Shadow => "shadow",
        }
    }
}

/// The seeds differ, so that who is in a canary says nothing about who is in which arm of a comparison.
const CANARY_SEED: u64 = 0x6361_6e61_7279;
const WEIGHT_SEED: u64 = 0x7765_6967_6874;

/// Which of several acting versions scores the rows of a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Upper ends of the canaries' shares of the hashes, with the version's index; ascending.
    canaries: Vec<(u64, usize)>,
    /// The same of those that share the rest; the last one ends at the top.
    rest: Vec<(u64, usize)>,
}

impl Plan {
    /// Shares rows out among versions by their index in `acting`, which must be rollouts of a set that passes
    /// [`check`](super::ModelSet::check); shadows count as nothing.
    pub fn of(acting: &[Rollout]) -> Self {
        let (mut canaries, mut rest) = (Vec::new(), Vec::new());
        let mut percents = 0.0;
        let total: f64 = acting.iter().map(|rollout| weight(*rollout)).sum();
        let mut weights = 0.0;
        for (index, rollout) in acting.iter().enumerate() {
            match rollout {
                Rollout::Canary { percent } => {
                    percents += percent;
                    canaries.push((bound(percents / 100.0), index));
                }
                Rollout::Full | Rollout::Weighted { .. } => {
                    weights += weight(*rollout);
                    rest.push((bound(weights / total), index));
                }
                Rollout::Shadow => {}
            }
        }
        Self { canaries, rest }
    }

    /// Whether one version scores everything.
    pub fn is_single(&self) -> bool {
        self.canaries.is_empty() && self.rest.len() <= 1
    }

    /// The index of the version that scores the rows of `key`.
    pub fn version_of(&self, key: Option<&[u8]>) -> usize {
        let key = key.unwrap_or_default();
        let pick = |shares: &[(u64, usize)], seed| {
            let hash = XxHash64::oneshot(seed, key);
            shares.iter().find(|(end, _)| hash < *end).map(|(_, index)| *index)
        };
        let canary = if self.canaries.is_empty() { None } else { pick(&self.canaries, CANARY_SEED) };
        if let Some(index) = canary {
            return index;
        }
        let last = self.rest.last().map_or(0, |(_, index)| *index);
        if self.rest.len() <= 1 { last } else { pick(&self.rest, WEIGHT_SEED).unwrap_or(last) }
    }
}

fn weight(rollout: Rollout) -> f64 {
    match rollout {
        Rollout::Full => 1.0,
        Rollout::Weighted { weight } => weight,
        Rollout::Canary { .. } | Rollout::Shadow => 0.0,
    }
}

/// The end of the hashes that make up this share of all.
fn bound(share: f64) -> u64 {
    // Beyond the largest number the cast stops at it.
    (share * u64::MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(acting: &[Rollout]) -> Vec<f64> {
        let plan = Plan::of(acting);
        let mut counts = vec![0.0; acting.len()];
        (0..100_000u32).for_each(|key| counts[plan.version_of(Some(format!("car{key}").as_bytes()))] += 0.001);
        counts
    }

    #[track_caller]
    fn assert_shares(acting: &[Rollout], expected: &[f64]) {
        for (share, expected) in shares(acting).iter().zip(expected) {
            assert!((share - expected).abs() < 0.5, "{share} is not {expected} percent");
        }
    }

    #[test]
    fn every_version_gets_its_share_of_the_keys() {
        assert_shares(&[Rollout::Full], &[100.0]);
        assert_shares(&[Rollout::Full, Rollout::Canary { percent: 10.0 }], &[90.0, 10.0]);
        assert_shares(&[Rollout::Full, Rollout::Canary { percent: 100.0 }], &[0.0, 100.0]);
        assert_shares(&[Rollout::Weighted { weight: 3.0 }, Rollout::Weighted { weight: 1.0 }], &[75.0, 25.0]);
        let all =
            [Rollout::Weighted { weight: 1.0 }, Rollout::Weighted { weight: 1.0 }, Rollout::Canary { percent: 20.0 }];
        assert_shares(&all, &[40.0, 40.0, 20.0]);
    }

    #[test]
    fn a_key_stays_with_its_version_while_a_canary_grows() {
        let plan = |percent| Plan::of(&[Rollout::Full, Rollout::Canary { percent }]);
        let (small, large) = (plan(10.0), plan(50.0));
        for key in (0..10_000u32).map(|key| key.to_string()) {
            let key = Some(key.as_bytes());
            assert!(small.version_of(key) <= large.version_of(key));
            assert_eq!(small.version_of(key), plan(10.0).version_of(key));
        }
        // These numbers are a promise: another build of a worker must share out the same.
        let canaries = (0..100u32).filter(|key| small.version_of(Some(format!("car{key}").as_bytes())) == 1);
        assert_eq!(canaries.collect::<Vec<_>>(), [11, 13, 21, 29, 34, 37, 44, 71, 86, 98]);
    }

    #[test]
    fn rows_without_a_key_are_one_devices() {
        let plan = Plan::of(&[Rollout::Full, Rollout::Canary { percent: 100.0 }]);
        assert_eq!(plan.version_of(None), 1);
        assert!(Plan::of(&[Rollout::Full]).is_single());
        assert!(!plan.is_single());
    }
}
