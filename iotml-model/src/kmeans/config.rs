//! What streaming k-means is told.

use iotml_core::error::ConfigError;
use iotml_core::schemars::{self, JsonSchema};
use serde::{Deserialize, Serialize};

use super::learner::{Method, Rule};
use crate::feature::Missing;
use crate::manifest::{Feature, Kind, Manifest, ManifestBuilder};

/// The configuration of a [`KMeansScorer`](super::KMeansScorer), `type = "kmeans"`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KMeansScorerConfig {
    /// The input columns and how each is scaled, as in a model's manifest. Distances compare them, so scale them alike.
    pub features: Vec<Feature>,
    /// The model's name, repeated on every scored row.
    #[serde(default = "default_name")]
    pub name: String,
    /// The model's version, repeated on every scored row; what it learns meanwhile does not change it.
    #[serde(default = "default_version")]
    pub version: String,
    /// How many centres a partition has.
    #[serde(default = "default_centres")]
    pub centres: usize,
    /// How many rows of a partition are seen before the first of it has a score; they make the first centres.
    #[serde(default = "default_warm_up")]
    pub warm_up: usize,
    /// After how many rows of a partition its centres move.
    #[serde(default = "default_update_rows")]
    pub update_rows: usize,
    /// After how many rows of its partition a row counts half.
    #[serde(default = "default_half_life")]
    pub half_life: u64,
    /// From which score on a row is an anomaly.
    #[serde(default)]
    pub threshold: KMeansThreshold,
    /// From which rows it learns.
    #[serde(default)]
    pub learn: Learn,
    /// What becomes of a row in which a feature is missing or no finite number.
    #[serde(default)]
    pub missing: Missing,
    /// Append the squared distance of every feature to the nearest centre.
    #[serde(default)]
    pub feature_errors: bool,
    /// Put before the names of all appended columns, for a second scorer in one chain.
    #[serde(default)]
    pub prefix: String,
    /// Of the random numbers that choose the first centres.
    #[serde(default)]
    pub seed: u64,
}

/// From which score on a row is an anomaly: a fixed one, or a quantile of the scores so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KMeansThreshold {
    /// The score itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The quantile of the scores of the partition, between 0 and 1; 0.999 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
}

impl Default for KMeansThreshold {
    fn default() -> Self {
        KMeansThreshold { value: None, quantile: Some(0.999) }
    }
}

/// From which rows the centres learn. The running quantile learns from all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Learn {
    /// From those that are no anomalies, so that a fault that lasts does not become the rule too soon.
    #[default]
    Normal,
    /// From all.
    All,
}

fn default_name() -> String {
    "kmeans".to_owned()
}

fn default_version() -> String {
    "1".to_owned()
}

fn default_centres() -> usize {
    8
}

fn default_warm_up() -> usize {
    1_000
}

fn default_update_rows() -> usize {
    100
}

fn default_half_life() -> u64 {
    100_000
}

impl KMeansScorerConfig {
    /// The defaults for `features`.
    pub fn new(features: Vec<Feature>) -> Self {
        KMeansScorerConfig {
            features,
            name: default_name(),
            version: default_version(),
            centres: default_centres(),
            warm_up: default_warm_up(),
            update_rows: default_update_rows(),
            half_life: default_half_life(),
            threshold: KMeansThreshold::default(),
            learn: Learn::default(),
            missing: Missing::default(),
            feature_errors: false,
            prefix: String::new(),
            seed: 0,
        }
    }

    /// Checks every value; the features as a manifest, which says the same of them.
    pub(super) fn check(&self) -> Result<Manifest, ConfigError> {
        let builder = Manifest::builder(Kind::Reconstruction, &self.name).version(&self.version);
        let manifest = self.features.iter().cloned().fold(builder, ManifestBuilder::push).build();
        let manifest = manifest.map_err(|source| ConfigError::with(source.to_string(), source))?;
        for (key, found, least) in [
            ("centres", self.centres, 1),
            ("warm_up", self.warm_up, self.centres),
            ("update_rows", self.update_rows, 1),
            ("half_life", usize::try_from(self.half_life).unwrap_or(usize::MAX), 1),
        ] {
            if found < least {
                return Err(ConfigError::new(format!("{key} is {found}, but at least {least} is needed")).of_key(key));
            }
        }
        let wrong = |reason: &str| Err(ConfigError::new(format!("`threshold`: {reason}")).of_key("threshold"));
        match self.threshold {
            KMeansThreshold { value: Some(_), quantile: Some(_) } => wrong("has both a `value` and a `quantile`"),
            KMeansThreshold { value: None, quantile: None } => wrong("has neither a `value` nor a `quantile`"),
            KMeansThreshold { value: Some(value), .. } if !(value.is_finite() && value > 0.0) => {
                wrong("`value` must be above 0")
            }
            KMeansThreshold { quantile: Some(of), .. } if !(of > 0.0 && of < 1.0) => {
                wrong("`quantile` must be between 0 and 1")
            }
            _ => Ok(manifest),
        }
    }

    pub(super) fn method(&self) -> Method {
        let rule = match self.threshold {
            KMeansThreshold { value: Some(value), .. } => Rule::Fixed(value as f32),
            KMeansThreshold { quantile, .. } => Rule::Quantile(quantile.unwrap_or(1.0)),
        };
        Method {
            n_features: self.features.len(),
            n_centres: self.centres,
            warm_up: self.warm_up,
            update_rows: self.update_rows,
            decay: 0.5f64.powf(self.update_rows as f64 / self.half_life as f64),
            rule,
            learns_from_all: self.learn == Learn::All,
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &str) -> Feature {
        Feature { name: name.to_owned(), scale: None, constant: None, impute: None }
    }

    #[track_caller]
    fn refuses(change: impl FnOnce(&mut KMeansScorerConfig), says: &str) {
        let mut config = KMeansScorerConfig::new(vec![feature("a")]);
        change(&mut config);
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(KMeansScorerConfig::new(vec![feature("a")]).check().is_ok());
        refuses(|config| config.features.clear(), "features: is empty");
        refuses(|config| config.features.push(feature("a")), "features[1].name: a comes twice");
        refuses(|config| config.centres = 0, "centres is 0, but at least 1 is needed");
        refuses(|config| config.warm_up = 7, "warm_up is 7, but at least 8 is needed");
        refuses(|config| config.update_rows = 0, "update_rows is 0");
        refuses(|config| config.half_life = 0, "half_life is 0");
        refuses(|config| config.threshold.value = Some(1.0), "both a `value` and a `quantile`");
        refuses(|config| config.threshold = KMeansThreshold { value: None, quantile: None }, "neither");
        refuses(|config| config.threshold.quantile = Some(1.0), "between 0 and 1");
        refuses(|config| config.threshold = KMeansThreshold { value: Some(f64::NAN), quantile: None }, "above 0");
    }
}
