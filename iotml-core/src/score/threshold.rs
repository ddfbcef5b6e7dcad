//! When a score is an anomaly.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rule by which rows are judged, as it stands in a configuration or a model's manifest.
///
/// ```toml
/// threshold = { value = 3.2 }
/// threshold = { method = "quantile", quantile = 0.99, value = 0.0123 }
/// threshold = { method = "per_feature", per_feature = { engine_vibration = 0.5, coolant_temp = 0.2 } }
/// ```
///
/// A row is an anomaly if its score reaches `value`, or the error of one of its features reaches that feature's limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// How the limits were found.
    #[serde(default)]
    pub method: ThresholdMethod,
    /// `quantile` only: which quantile of a sample of scores the value is, between 0 and 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// The score from which on a row is an anomaly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The error of a feature from which on a row is an anomaly, by the feature's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_feature: BTreeMap<String, f64>,
}

/// How a threshold was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ThresholdMethod {
    /// Somebody chose it.
    #[default]
    Fixed,
    /// It is a quantile of a sample of scores.
    Quantile,
    /// One limit per feature error, beside an optional limit on the score.
    PerFeature,
}

/// Why a threshold cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// A fixed threshold or a quantile has no value.
    #[error("the threshold has no `value`")]
    NoValue,
    /// `per_feature` names no feature.
    #[error("`per_feature` names no feature")]
    NoFeature,
    /// A limit is NaN or infinite.
    #[error("the limit of {of} is {limit}; it must be finite")]
    NonFinite {
        /// `value` or a feature.
        of: String,
        /// The limit.
        limit: f64,
    },
    /// The quantile is not between 0 and 1.
    #[error("`quantile` is {0}; it must be between 0 and 1")]
    QuantileRange(f64),
    /// A quantile was asked of a sample without a finite score.
    #[error("the sample holds no finite score to take a quantile of")]
    EmptySample,
    /// A limit is for a feature that there is not.
    #[error("there is no feature {feature:?} to limit; there are {known}")]
    UnknownFeature {
        /// The feature.
        feature: String,
        /// The features there are.
        known: String,
    },
}

impl Threshold {
    /// A score from `value` on is an anomaly.
    pub fn fixed(value: f64) -> Self {
        Self { value: Some(value), ..Self::default() }
    }

    /// A score from this [`quantile`] of a sample of scores on is an anomaly.
    pub fn quantile(of: f64, sample: &[f64]) -> Result<Self, ThresholdError> {
        let value = quantile(sample, of)?;
        Ok(Self { method: ThresholdMethod::Quantile, quantile: Some(of), value: Some(value), ..Self::default() })
    }

    /// An error from its feature's limit on is an anomaly.
    pub fn per_feature<N: Into<String>>(limits: impl IntoIterator<Item = (N, f64)>) -> Self {
        let per_feature = limits.into_iter().map(|(name, limit)| (name.into(), limit)).collect();
        Self { method: ThresholdMethod::PerFeature, per_feature, ..Self::default() }
    }

    /// Says what is wrong with the rule by itself, if anything is.
    pub fn check(&self) -> Result<(), ThresholdError> {
        match (self.method, self.quantile) {
            (_, Some(of)) if !(0.0..=1.0).contains(&of) => return Err(ThresholdError::QuantileRange(of)),
            (ThresholdMethod::PerFeature, _) if self.per_feature.is_empty() => return Err(ThresholdError::NoFeature),
            (ThresholdMethod::Fixed | ThresholdMethod::Quantile, _) if self.value.is_none() => {
                return Err(ThresholdError::NoValue);
            }
            _ => {}
        }
        let value = self.value.map(|limit| ("`value`".to_owned(), limit));
        let limits = self.per_feature.iter().map(|(name, limit)| (format!("feature {name:?}"), *limit));
        match value.into_iter().chain(limits).find(|(_, limit)| !limit.is_finite()) {
            Some((of, limit)) => Err(ThresholdError::NonFinite { of, limit }),
            None => Ok(()),
        }
    }

    /// The rule for rows with these features, in this order.
    pub fn limits<N: AsRef<str>>(&self, features: &[N]) -> Result<Limits, ThresholdError> {
        self.check()?;
        let bind = |(name, limit): (&String, &f64)| {
            let at = features.iter().position(|feature| feature.as_ref() == name);
            let at = at.ok_or_else(|| {
                let known = features.iter().map(|feature| format!("{:?}", feature.as_ref())).collect::<Vec<_>>();
                ThresholdError::UnknownFeature { feature: name.clone(), known: known.join(", ") }
            })?;
            Ok((at, *limit as f32))
        };
        Ok(Limits {
            score: self.value.map(|value| value as f32),
            per_feature: self.per_feature.iter().map(bind).collect::<Result<_, _>>()?,
        })
    }
}

/// A [`Threshold`] bound to the order of the features: what a scorer asks for every row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    score: Option<f32>,
    per_feature: Vec<(usize, f32)>,
}

impl Limits {
    /// The limit on the score.
    pub fn score(&self) -> Option<f32> {
        self.score
    }

    /// The same limits with another one on the score.
    pub fn with_score(mut self, limit: f32) -> Self {
        self.score = Some(limit);
        self
    }

    /// Whether [`decide`](Limits::decide) looks at the errors of features.
    pub fn needs_errors(&self) -> bool {
        !self.per_feature.is_empty()
    }

    /// Whether the row is an anomaly; `None` where there is no limit to judge it by, or where no limit is reached and a
    /// number to compare is NaN.
    ///
    /// `errors` holds one number per feature, in the order of [`Threshold::limits`]; it may be empty unless
    /// [`needs_errors`](Limits::needs_errors).
    ///
    /// # Panics
    /// If `errors` is too short.
    #[inline]
    pub fn decide(&self, score: f32, errors: &[f32]) -> Option<bool> {
        let score = self.score.map(|limit| (score, limit));
        let errors = self.per_feature.iter().map(|(at, limit)| (errors[*at], *limit));
        let mut verdict = None;
        let mut has_nan = false;
        for (number, limit) in score.into_iter().chain(errors) {
            if number >= limit {
                return Some(true);
            }
            has_nan |= number.is_nan();
            verdict = Some(false);
        }
        if has_nan { None } else { verdict }
    }
}

/// The quantile `of` (0 to 1) of the finite numbers of a sample, exactly: the sample is sorted, and between the two
/// neighbours of rank `of * (n - 1)` it is interpolated linearly, as NumPy does by default.
pub fn quantile(sample: &[f64], of: f64) -> Result<f64, ThresholdError> {
    if !(0.0..=1.0).contains(&of) {
        return Err(ThresholdError::QuantileRange(of));
    }
    let mut sorted: Vec<f64> = sample.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (Some(first), Some(last)) = (sorted.first(), sorted.len().checked_sub(1)) else {
        return Err(ThresholdError::EmptySample);
    };
    let rank = of * last as f64;
    let below = rank.floor() as usize;
    let (low, high) = (sorted.get(below).unwrap_or(first), sorted[(below + 1).min(last)]);
    // Weighted instead of `low + (high - low) * part`, whose difference may overflow.
    let part = rank - rank.floor();
    Ok(low * (1.0 - part) + high * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_numpys() {
        // numpy.quantile(x, q) for the same numbers.
        let sample = [15.0, 20.0, 35.0, 40.0, 50.0];
        for (of, want) in [(0.0, 15.0), (0.25, 20.0), (0.4, 29.0), (0.5, 35.0), (0.99, 49.6), (1.0, 50.0)] {
            let got = quantile(&sample, of).unwrap();
            assert!((got - want).abs() < 1e-12, "{of}: {got}");
        }
        assert_eq!(quantile(&[4.0, f64::NAN, 1.0, f64::INFINITY, 3.0, 2.0], 0.9), Ok(3.7));
        assert_eq!(quantile(&[7.0], 0.3), Ok(7.0));
        assert_eq!(quantile(&[f64::MAX, -f64::MAX], 0.5), Ok(0.0));
        assert_eq!(quantile(&[f64::NAN], 0.5), Err(ThresholdError::EmptySample));
        assert_eq!(quantile(&sample, 1.5), Err(ThresholdError::QuantileRange(1.5)));
    }

    #[test]
    fn a_score_at_the_limit_is_an_anomaly() {
        let limits = Threshold::fixed(2.0).limits::<&str>(&[]).unwrap();
        assert_eq!([1.0, 2.0, 3.0].map(|score| limits.decide(score, &[])), [Some(false), Some(true), Some(true)]);
        assert_eq!(limits.decide(f32::NAN, &[]), None);
        assert_eq!(limits.decide(f32::INFINITY, &[]), Some(true));
        assert_eq!(Limits::default().decide(9.0, &[]), None);
    }

    #[test]
    fn one_feature_at_its_limit_is_enough() {
        let mut threshold = Threshold::per_feature([("b", 4.0)]);
        threshold.value = Some(10.0);
        let limits = threshold.limits(&["a", "b"]).unwrap();
        assert!(limits.needs_errors());
        assert_eq!(limits.decide(1.0, &[9.0, 1.0]), Some(false));
        assert_eq!(limits.decide(1.0, &[0.0, 4.0]), Some(true));
        assert_eq!(limits.decide(10.0, &[0.0, 0.0]), Some(true));
        assert_eq!(limits.decide(1.0, &[0.0, f32::NAN]), None);
        assert_eq!(limits.decide(10.0, &[0.0, f32::NAN]), Some(true));
        let error = threshold.limits(&["a"]).unwrap_err();
        assert_eq!(error.to_string(), "there is no feature \"b\" to limit; there are \"a\"");
    }

    #[test]
    fn a_rule_that_cannot_judge_is_refused() {
        assert_eq!(Threshold::default().check(), Err(ThresholdError::NoValue));
        assert_eq!(Threshold::per_feature::<&str>([]).check(), Err(ThresholdError::NoFeature));
        assert!(matches!(Threshold::fixed(f64::NAN).check(), Err(ThresholdError::NonFinite { .. })));
        assert!(matches!(Threshold::quantile(2.0, &[1.0]), Err(ThresholdError::QuantileRange(_))));
    }

    #[test]
    fn a_manifests_form_round_trips() {
        let json = r#"{"method":"quantile","quantile":0.99,"value":0.0123}"#;
        let threshold: Threshold = serde_json::from_str(json).unwrap();
        assert_eq!((threshold.quantile, threshold.value), (Some(0.99), Some(0.0123)));
        assert_eq!(serde_json::to_string(&threshold).unwrap(), json);
        assert!(serde_json::from_str::<Threshold>(r#"{"valu":1}"#).is_err());
    }
}
