//! What the training rows were like, for whoever watches how live ones differ.

use std::collections::BTreeSet;

use iotml_core::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use super::check::invalid;
use super::{Feature, ManifestError};

/// The most edges that a distribution may have.
const MAX_EDGES: usize = 32;

/// By how much shares may miss 1, since they are written with few digits.
const ROUNDING: f64 = 1e-3;

/// The training rows, as shares of bins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// How many rows there were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// The raw values of features, before scaling; those that are not named are not watched.
    #[serde(default)]
    pub features: Vec<FeatureDistribution>,
    /// The scores that the model gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<ScoreDistribution>,
}

/// The raw values of one feature. A value is in the bin behind the last edge that is not above it, so there is one bin more than there are edges.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeatureDistribution {
    /// The feature.
    pub name: String,
    /// Where the bins meet, rising, at most 32, each another number in single precision.
    pub edges: Vec<f64>,
    /// The share of each bin among the rows that have a value; in all 1.
    pub shares: Vec<f64>,
    /// The share of rows that have no value.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing: f64,
}

/// Scores, in bins as those of a feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreDistribution {
    /// Where the bins meet, rising, at most 32, each another number in single precision.
    pub edges: Vec<f64>,
    /// The share of each bin; in all 1.
    pub shares: Vec<f64>,
    /// The share of rows whose verdict is that they are anomalies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomalies: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Distribution {
    /// Checks it beside the `features` of its manifest.
    pub(super) fn check(&self, features: &[Feature]) -> Result<(), ManifestError> {
        let mut names = BTreeSet::new();
        for (index, FeatureDistribution { name, edges, shares, missing }) in self.features.iter().enumerate() {
            let field = |of: &str| format!("distribution.features[{index}].{of} ({name})");
            let Some(feature) = features.iter().find(|feature| feature.name == *name) else {
                return invalid(field("name"), "is none of the manifest's features");
            };
            if feature.constant.is_some() {
                return invalid(field("name"), "is constant, so no column is read that could be compared");
            }
            if !names.insert(name.as_str()) {
                return invalid(field("name"), "comes twice");
            }
            check_bins(&field, edges, shares)?;
            if !is_share(*missing) {
                return invalid(field("missing"), format!("is {missing}, but a share between 0 and 1 is needed"));
            }
        }
        let Some(ScoreDistribution { edges, shares, anomalies }) = &self.score else { return Ok(()) };
        let field = |of: &str| format!("distribution.score.{of}");
        check_bins(&field, edges, shares)?;
        match anomalies {
            Some(share) if !is_share(*share) => {
                invalid(field("anomalies"), format!("is {share}, but a share between 0 and 1 is needed"))
            }
            _ => Ok(()),
        }
    }
}

fn is_share(share: f64) -> bool {
    (0.0..=1.0).contains(&share)
}

fn check_bins(field: &impl Fn(&str) -> String, edges: &[f64], shares: &[f64]) -> Result<(), ManifestError> {
    if edges.is_empty() || edges.len() > MAX_EDGES {
        return invalid(field("edges"), format!("are {}, but 1 to {MAX_EDGES} are needed", edges.len()));
    }
    if let Some(edge) = edges.iter().find(|edge| !(**edge as f32).is_finite()) {
        return invalid(field("edges"), format!("has {edge}, which is no finite number in single precision"));
    }
    if let Some(pair) = edges.windows(2).find(|pair| pair[0] as f32 >= pair[1] as f32) {
        return invalid(
            field("edges"),
            format!("do not rise: {} comes before {} (in single precision)", pair[0], pair[1]),
        );
    }
    if shares.len() != edges.len() + 1 {
        let (n, found) = (edges.len() + 1, shares.len());
        return invalid(field("shares"), format!("are {found}, but {} edges make {n} bins", edges.len()));
    }
    if let Some(share) = shares.iter().find(|share| !is_share(**share)) {
        return invalid(field("shares"), format!("has {share}, but a share between 0 and 1 is needed"));
    }
    let sum: f64 = shares.iter().sum();
    if (sum - 1.0).abs() > ROUNDING {
        return invalid(field("shares"), format!("are {sum} in all, but must be 1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Manifest, ManifestBuilder};
    use super::*;

    fn speed(edges: &[f64], shares: &[f64]) -> FeatureDistribution {
        FeatureDistribution { name: "speed".into(), edges: edges.into(), shares: shares.into(), missing: 0.0 }
    }

    fn with(features: Vec<FeatureDistribution>) -> ManifestBuilder {
        let builder = Manifest::builder(Kind::Score, "cars").feature("speed", None).constant("gear", 1.0);
        builder.distribution(Distribution { features, ..Distribution::default() })
    }

    fn reason(features: Vec<FeatureDistribution>) -> String {
        with(features).build().unwrap_err().to_string()
    }

    #[test]
    fn a_sound_one_is_read_back_as_it_was() {
        let mut manifest = with(vec![speed(&[0.0, 10.0], &[0.25, 0.5, 0.25])]).build().unwrap();
        assert!(!manifest.to_json().contains("missing"));
        if let Some(distribution) = &mut manifest.distribution {
            distribution.rows = Some(1000);
            distribution.features[0].missing = 0.125;
            distribution.score =
                Some(ScoreDistribution { edges: vec![0.1], shares: vec![0.9, 0.1], anomalies: Some(0.01) });
        }
        assert_eq!(Manifest::from_json(manifest.to_json().as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(
            reason(vec![speed(&[], &[1.0])]).contains("distribution.features[0].edges (speed): are 0, but 1 to 32")
        );
        assert!(reason(vec![speed(&[0.0; 33], &[1.0])]).contains("are 33"));
        assert!(reason(vec![speed(&[2.0, 1.0], &[0.0, 0.0, 1.0])]).contains("do not rise: 2 comes before 1"));
        let near = [16_777_216.0, 16_777_217.0];
        assert!(reason(vec![speed(&near, &[0.0, 0.0, 1.0])]).contains("(in single precision)"));
        assert!(reason(vec![speed(&[f64::NAN], &[0.0, 1.0])]).contains("has NaN"));
        assert!(reason(vec![speed(&[1e300], &[0.0, 1.0])]).contains("no finite number in single precision"));
        assert!(reason(vec![speed(&[1.0], &[1.0])]).contains("are 1, but 1 edges make 2 bins"));
        assert!(reason(vec![speed(&[1.0], &[-0.5, 1.5])]).contains("has -0.5"));
        assert!(reason(vec![speed(&[1.0], &[0.5, 0.4])]).contains("are 0.9 in all, but must be 1"));
        let twice = vec![speed(&[1.0], &[0.5, 0.5]), speed(&[1.0], &[0.5, 0.5])];
        assert!(reason(twice).contains("distribution.features[1].name (speed): comes twice"));
        let named = |name: &str| FeatureDistribution { name: name.into(), ..speed(&[1.0], &[0.5, 0.5]) };
        assert!(reason(vec![named("sped")]).contains("is none of the manifest's features"));
        assert!(reason(vec![named("gear")]).contains("is constant"));
        let missing = FeatureDistribution { missing: 1.5, ..named("speed") };
        assert!(reason(vec![missing]).contains("missing (speed): is 1.5"));
        let score = |edges: &[f64], anomalies| {
            let score = Some(ScoreDistribution { edges: edges.into(), shares: vec![0.5, 0.5], anomalies });
            let distribution = Distribution { score, ..Distribution::default() };
            let builder = Manifest::builder(Kind::Score, "cars").feature("speed", None).distribution(distribution);
            builder.build().unwrap_err().to_string()
        };
        assert!(score(&[1.0, 2.0], None).contains("distribution.score.shares: are 2"));
        assert!(score(&[1.0], Some(2.0)).contains("distribution.score.anomalies: is 2"));
    }
}
