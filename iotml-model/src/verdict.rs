//! From scores to verdicts.

use iotml_core::arrow::array::BooleanArray;
use iotml_core::arrow::buffer::NullBuffer;
use iotml_core::score::{Limits, Threshold, ThresholdError};

use crate::evaluation::Pass;
use crate::manifest::Manifest;

/// The limits in force, bound to the model's features.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    limits: Limits,
    n_features: usize,
}

impl Verdict {
    /// The rule `configured`, or else the manifest's.
    pub(crate) fn new(manifest: &Manifest, configured: Option<&Threshold>) -> Result<Self, ThresholdError> {
        let names: Vec<&str> = manifest.features.iter().map(|feature| feature.name.as_str()).collect();
        let rule = configured.or(manifest.threshold.as_ref());
        let limits = rule.map(|rule| rule.limits(&names)).transpose()?.unwrap_or_default();
        Ok(Verdict { limits, n_features: names.len() })
    }

    /// The limit on the score.
    pub(crate) fn limit(&self) -> Option<f32> {
        self.limits.score()
    }

    /// Whether the squared error of every feature is needed.
    pub(crate) fn needs_errors(&self) -> bool {
        self.limits.needs_errors()
    }

    /// One verdict a row; null where there is no score or no limit at all.
    pub(crate) fn judge(&self, pass: &Pass) -> BooleanArray {
        (0..pass.scores.len()).map(|row| self.decide(pass, row)).collect()
    }

    /// The verdict on one row.
    pub(crate) fn decide(&self, pass: &Pass, row: usize) -> Option<bool> {
        let errors = match self.needs_errors() {
            true => pass.errors.get(row * self.n_features..(row + 1) * self.n_features).unwrap_or_default(),
            false => &[],
        };
        pass.is_known(row).then(|| self.limits.decide(pass.scores[row], errors)).flatten()
    }
}

/// The rows that have a score, as Arrow's validity; `None` if all have.
pub(crate) fn known(pass: &Pass) -> Option<NullBuffer> {
    (!pass.is_known.is_empty()).then(|| NullBuffer::from(pass.is_known.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Kind;

    fn pass(scores: &[f32], is_known: &[bool], errors: &[f32]) -> Pass {
        Pass { scores: scores.into(), is_known: is_known.into(), errors: errors.into(), ..Pass::default() }
    }

    fn verdicts(manifest: &Manifest, configured: Option<&Threshold>, pass: &Pass) -> Vec<Option<bool>> {
        Verdict::new(manifest, configured).unwrap().judge(pass).iter().collect()
    }

    #[test]
    fn the_configured_rule_takes_the_place_of_the_manifests() {
        let manifest = Manifest::builder(Kind::Score, "m").feature("x", None).fixed_threshold(2.0).build().unwrap();
        let pass = pass(&[1.0, 2.0, 3.0], &[], &[]);
        assert_eq!(verdicts(&manifest, None, &pass), [Some(false), Some(true), Some(true)]);
        let configured = Threshold::fixed(2.5);
        assert_eq!(verdicts(&manifest, Some(&configured), &pass), [Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn without_a_score_or_a_limit_there_is_no_verdict() {
        let builder = Manifest::builder(Kind::Score, "m").feature("x", None);
        let pass = pass(&[9.0, 9.0], &[false, true], &[]);
        assert_eq!(verdicts(&builder.clone().build().unwrap(), None, &pass), [None, None]);
        assert_eq!(verdicts(&builder.fixed_threshold(1.0).build().unwrap(), None, &pass), [None, Some(true)]);
    }

    #[test]
    fn a_feature_is_judged_by_the_error_in_its_own_place() {
        let builder = Manifest::builder(Kind::Reconstruction, "m").feature("a", None).feature("b", None);
        let manifest = builder.threshold(Threshold::per_feature([("b", 4.0)])).build().unwrap();
        let pass = pass(&[1.0, 2.0, 11.0], &[], &[9.0, 1.0, 0.0, 4.0, 0.0, 0.0]);
        assert_eq!(verdicts(&manifest, None, &pass), [Some(false), Some(true), Some(false)]);
        let unknown = Threshold::per_feature([("c", 4.0)]);
        assert!(Verdict::new(&manifest, Some(&unknown)).is_err());
    }
}
