//! A manifest written in code, for a model that came without one.

use std::collections::BTreeMap;

use super::{
    Distribution, Feature, Golden, InputSpec, Kind, MANIFEST_VERSION, Manifest, ManifestError, OutputSpec, Role, Scale,
    Threshold,
};

/// Builds a [`Manifest`] step by step; [`build`](Self::build) checks it as if it had been read from a file.
#[derive(Debug, Clone)]
#[must_use]
pub struct ManifestBuilder {
    manifest: Manifest,
}

impl Manifest {
    /// Starts a manifest of `kind` for the model `name`, version `1`.
    pub fn builder(kind: Kind, name: impl Into<String>) -> ManifestBuilder {
        ManifestBuilder {
            manifest: Manifest {
                manifest_version: MANIFEST_VERSION,
                kind,
                name: name.into(),
                version: "1".to_owned(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                features: Vec::new(),
                threshold: None,
                classes: Vec::new(),
                positive: None,
                golden: None,
                trained: None,
                distribution: None,
                model_sha256: None,
                extra: BTreeMap::new(),
            },
        }
    }
}

impl ManifestBuilder {
    /// The model's version.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.manifest.version = version.into();
        self
    }

    /// The graph input to feed; without it, the model's only input.
    pub fn input(mut self, name: impl Into<String>) -> Self {
        self.manifest.inputs.push(InputSpec { name: name.into() });
        self
    }

    /// A graph output and what it is; without one, the model's only output.
    pub fn output(mut self, name: impl Into<String>, role: Role) -> Self {
        self.manifest.outputs.push(OutputSpec { name: name.into(), role });
        self
    }

    /// The next feature, read from the column `name` and scaled by `scale` (`None`: as it is).
    pub fn feature(self, name: impl Into<String>, scale: Option<Scale>) -> Self {
        self.push(Feature { name: name.into(), scale, constant: None, impute: None })
    }

    /// The next feature, always `value` (already scaled), whatever the batch holds.
    pub fn constant(self, name: impl Into<String>, value: f64) -> Self {
        self.push(Feature { name: name.into(), scale: None, constant: Some(value), impute: None })
    }

    /// The next feature, in full.
    pub fn push(mut self, feature: Feature) -> Self {
        self.manifest.features.push(feature);
        self
    }

    /// A row whose score is at least `value` is an anomaly.
    pub fn fixed_threshold(mut self, value: f64) -> Self {
        self.manifest.threshold = Some(Threshold::fixed(value));
        self
    }

    /// The threshold in full.
    pub fn threshold(mut self, threshold: Threshold) -> Self {
        self.manifest.threshold = Some(threshold);
        self
    }

    /// The names of a classifier's classes, in the order of its probabilities, and the one whose probability is the
    /// score.
    pub fn classes<I>(mut self, classes: I, positive: impl Into<String>) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.manifest.classes = classes.into_iter().map(Into::into).collect();
        self.manifest.positive = Some(positive.into());
        self
    }

    /// Rows with known results.
    pub fn golden(mut self, golden: Golden) -> Self {
        self.manifest.golden = Some(golden);
        self
    }

    /// How the training rows were spread.
    pub fn distribution(mut self, distribution: Distribution) -> Self {
        self.manifest.distribution = Some(distribution);
        self
    }

    /// The checked manifest.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] naming the first wrong field.
    pub fn build(self) -> Result<Manifest, ManifestError> {
        self.manifest.check()?;
        Ok(self.manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(builder: ManifestBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    fn base() -> ManifestBuilder {
        Manifest::builder(Kind::Reconstruction, "cars").feature("speed", None)
    }

    #[test]
    fn a_good_manifest_builds() {
        let manifest = base().version("7").input("in").output("out", Role::Reconstruction).build().unwrap();
        assert_eq!((manifest.version.as_str(), manifest.features.len()), ("7", 1));
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(reason(Manifest::builder(Kind::Score, "m")).contains("features: is empty"));
        assert!(reason(base().feature("speed", None)).contains("speed comes twice"));
        assert!(reason(base().version(" ")).contains("version: is empty"));
        assert!(reason(base().input("a").input("b")).contains("more than one input"));
        assert!(reason(base().output("o", Role::Score)).contains("exactly one output"));
        assert!(reason(base().fixed_threshold(f64::NAN)).contains("threshold: the limit of `value` is NaN"));
        let unknown = Threshold::per_feature([("sped", 1.0)]);
        assert!(reason(base().threshold(unknown)).contains("no feature \"sped\""));
        let score = Manifest::builder(Kind::Score, "m").feature("x", None);
        assert!(reason(score.threshold(Threshold::per_feature([("x", 1.0)]))).contains("feature errors"));
        let flat = Scale::Range { min: 1.0, max: 1.0 };
        assert!(reason(base().feature("flat", Some(flat))).contains("features[1].scale (flat)"));
        let still = Scale::Standard { mean: 1.0, std: 0.0 };
        assert!(reason(base().feature("still", Some(still))).contains("std 0"));
        assert!(reason(Manifest::builder(Kind::Score, "m").constant("x", 0.0)).contains("all constant"));
        assert!(reason(base().classes(["a", "b"], "a")).contains("kind classifier only"));
        let classifier = Manifest::builder(Kind::Classifier, "m").feature("x", None);
        assert!(reason(classifier.clone()).contains("at least two classes"));
        assert!(reason(classifier.classes(["a", "b"], "c")).contains("c is not one of the classes"));
    }

    #[test]
    fn golden_rows_must_compare_something() {
        let golden = |input: Vec<Vec<f64>>, score| Golden { input, score, output: None, tolerance: 1e-4 };
        assert!(reason(base().golden(golden(vec![], None))).contains("golden.input: is empty"));
        assert!(reason(base().golden(golden(vec![vec![1.0]], None))).contains("neither score nor output"));
        assert!(reason(base().golden(golden(vec![vec![1.0, 2.0]], Some(vec![None])))).contains("2 numbers"));
        assert!(reason(base().golden(golden(vec![vec![1.0]], Some(vec![None])))).contains("compares nothing"));
        assert!(reason(base().golden(golden(vec![vec![1.0]], Some(vec![])))).contains("has 0 rows"));
    }
}
