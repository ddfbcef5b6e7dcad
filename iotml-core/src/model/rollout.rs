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
const SPARE_SEED: u64 = 0x0073_7061_7265;

/// Which of several acting versions scores the rows of a key.
///
/// Each canary takes its share of all keys from those that the canaries before it leave. The first one takes the lowest hashes;
/// each further one has an order of its own, in which nobody else's share can shift it, so that few keys change hands when one
/// of several grows or goes. Where the first one goes, the next has its order from then on.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In the order in which they choose.
    canaries: Vec<Canary>,
    /// Upper ends of the shares of those that share the rest; ascending, and the last one ends at the top.
    rest: Vec<(u64, Option<usize>)>,
    /// The same of those of them that are here, for the keys of one that is not.
    spare: Vec<(u64, usize)>,
}

/// A canary takes the keys whose hash by its seed is below its end.
#[derive(Clone, Debug, PartialEq)]
struct Canary {
    seed: u64,
    end: u64,
    /// `None` if it is not here.
    index: Option<usize>,
}

impl Plan {
    /// Shares rows out among all versions that are announced, by name and rollout, in the order of a set that passes
    /// [`check`](super::ModelSet::check); shadows count as nothing.
    ///
    /// `index_of` gives the index of a version at the place that scores, or `None` for one that is not there, because it was
    /// refused. The keys of such a one go to those that score what no canary takes, and all others keep their version, so that
    /// places which refuse different versions agree about them.
    pub fn of(announced: &[(&str, Rollout)], index_of: impl Fn(&str) -> Option<usize>) -> Self {
        let (mut canaries, mut arms) = (Vec::new(), Vec::new());
        let mut left = 100.0;
        for (version, rollout) in announced {
            match rollout {
                Rollout::Canary { percent } => {
                    let seed = match canaries.is_empty() {
                        true => CANARY_SEED,
                        false => XxHash64::oneshot(CANARY_SEED, version.as_bytes()),
                    };
                    // Sums of fractions are not exact, and nobody can take more than what is left.
                    let end = bound(percent / f64::max(left, *percent));
                    canaries.push(Canary { seed, end, index: index_of(version) });
                    left -= percent;
                }
                Rollout::Full => arms.push((1.0, index_of(version))),
                Rollout::Weighted { weight } => arms.push((*weight, index_of(version))),
                Rollout::Shadow => {}
            }
        }
        // The last ones need not be asked for keys that go to the rest all the same.
        let n_asked = canaries.iter().rposition(|canary| canary.index.is_some()).map_or(0, |last| last + 1);
        canaries.truncate(n_asked);
        let spare = arms.iter().filter_map(|(weight, index)| Some((*weight, (*index)?))).collect();
        Self { canaries, rest: ends(arms), spare: ends(spare) }
    }

    /// Whether one version scores everything.
    pub fn is_single(&self) -> bool {
        self.canaries.is_empty() && self.spare.len() <= 1
    }

    /// The index of the version that scores the rows of `key`.
    pub fn version_of(&self, key: Option<&[u8]>) -> usize {
        let key = key.unwrap_or_default();
        let canary = self.canaries.iter().find(|canary| XxHash64::oneshot(canary.seed, key) < canary.end);
        if let Some(index) = canary.and_then(|canary| canary.index) {
            return index;
        }
        // Without any of the rest, the first version has what is left.
        let last = self.spare.last().map_or(0, |(_, index)| *index);
        if self.spare.len() <= 1 {
            return last;
        }
        match pick(&self.rest, XxHash64::oneshot(WEIGHT_SEED, key)) {
            Some(Some(index)) => index,
            Some(None) => pick(&self.spare, XxHash64::oneshot(SPARE_SEED, key)).unwrap_or(last),
            None => last,
        }
    }
}

/// Upper ends of the shares of the hashes that are in proportion to weights.
fn ends<T>(weighted: Vec<(f64, T)>) -> Vec<(u64, T)> {
    let total: f64 = weighted.iter().map(|(weight, _)| weight).sum();
    let mut sum = 0.0;
    let end = |(weight, of)| {
        sum += weight;
        (bound(sum / total), of)
    };
    weighted.into_iter().map(end).collect()
}

/// Whose share of the hashes this one is in.
fn pick<T: Copy>(shares: &[(u64, T)], hash: u64) -> Option<T> {
    shares.iter().find(|(end, _)| hash < *end).map(|(_, of)| *of)
}

/// The end of the hashes that make up this share of all.
fn bound(share: f64) -> u64 {
    // Beyond the largest number the cast stops at it.
    (share * u64::MAX as f64) as u64
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
