//! From scores to verdicts.

use iotml_core::arrow::array::BooleanArray;
use iotml_core::arrow::buffer::{BooleanBuffer, NullBuffer};

use crate::evaluation::Pass;
use crate::manifest::Manifest;

/// The limits in force: one on the score, and perhaps one on the errors of some features.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// A score from here on is an anomaly.
    pub(crate) limit: Option<f32>,
    /// A squared error of this feature (by index) from here on is one, too.
    per_feature: Vec<(usize, f32)>,
    n_features: usize,
}

impl Verdict {
    /// The limits of the manifest; `limit` takes the place of the one on the score.
    pub(crate) fn new(manifest: &Manifest, limit: Option<f64>) -> Self {
        let threshold = manifest.threshold.as_ref();
        let index = |name: &String| manifest.features.iter().position(|feature| &feature.name == name);
        let per_feature = threshold.into_iter().flat_map(|threshold| &threshold.per_feature);
        Verdict {
            limit: limit.or_else(|| threshold?.value).map(|value| value as f32),
            per_feature: per_feature.filter_map(|(name, limit)| Some((index(name)?, *limit as f32))).collect(),
            n_features: manifest.features.len(),
        }
    }

    /// Whether the squared error of every feature is needed.
    pub(crate) fn needs_errors(&self) -> bool {
        !self.per_feature.is_empty()
    }

    /// One verdict a row; null where there is no score or no limit at all.
    pub(crate) fn judge(&self, pass: &Pass) -> BooleanArray {
        let n_rows = pass.scores.len();
        if self.limit.is_none() && self.per_feature.is_empty() {
            return BooleanArray::new_null(n_rows);
        }
        let limit = self.limit.unwrap_or(f32::INFINITY);
        let exceeds = |row: usize| {
            let errors = |at: usize| pass.errors[row * self.n_features + at];
            pass.scores[row] >= limit || self.per_feature.iter().any(|(at, limit)| errors(*at) >= *limit)
        };
        BooleanArray::new(BooleanBuffer::collect_bool(n_rows, exceeds), known(pass))
    }
}

/// The rows that have a score, as Arrow's validity; `None` if all have.
pub(crate) fn known(pass: &Pass) -> Option<NullBuffer> {
    (!pass.is_known.is_empty()).then(|| NullBuffer::from(pass.is_known.as_slice()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::manifest::{Kind, Threshold, ThresholdMethod};

    fn pass(scores: &[f32], is_known: &[bool], errors: &[f32]) -> Pass {
        Pass { scores: scores.into(), is_known: is_known.into(), errors: errors.into(), ..Pass::default() }
    }

    fn verdicts(verdict: &Verdict, pass: &Pass) -> Vec<Option<bool>> {
        verdict.judge(pass).iter().collect()
    }

    #[test]
    fn a_score_at_the_limit_is_an_anomaly_and_the_configured_limit_wins() {
        let manifest = Manifest::builder(Kind::Score, "m").feature("x", None).fixed_threshold(2.0).build().unwrap();
        let pass = pass(&[1.0, 2.0, 3.0], &[], &[]);
        assert_eq!(verdicts(&Verdict::new(&manifest, None), &pass), [Some(false), Some(true), Some(true)]);
        assert_eq!(verdicts(&Verdict::new(&manifest, Some(2.5)), &pass), [Some(false), Some(false), Some(true)]);
    }

    #[test]
    fn without_a_score_or_a_limit_there_is_no_verdict() {
        let builder = Manifest::builder(Kind::Score, "m").feature("x", None);
        let pass = pass(&[9.0, 9.0], &[false, true], &[]);
        let none = builder.clone().build().unwrap();
        assert_eq!(verdicts(&Verdict::new(&none, None), &pass), [None, None]);
        let fixed = builder.fixed_threshold(1.0).build().unwrap();
        assert_eq!(verdicts(&Verdict::new(&fixed, None), &pass), [None, Some(true)]);
    }

    #[test]
    fn one_feature_out_of_its_limit_is_enough() {
        let threshold = Threshold {
            method: ThresholdMethod::PerFeature,
            quantile: None,
            value: Some(10.0),
            per_feature: BTreeMap::from([("b".to_owned(), 4.0)]),
        };
        let manifest = Manifest::builder(Kind::Reconstruction, "m")
            .feature("a", None)
            .feature("b", None)
            .threshold(threshold)
            .build()
            .unwrap();
        let verdict = Verdict::new(&manifest, None);
        assert!(verdict.needs_errors());
        let pass = pass(&[1.0, 2.0, 11.0], &[], &[9.0, 1.0, 0.0, 4.0, 0.0, 0.0]);
        assert_eq!(verdicts(&verdict, &pass), [Some(false), Some(true), Some(true)]);
    }
}
