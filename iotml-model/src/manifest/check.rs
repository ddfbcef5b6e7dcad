//! What a manifest must say to be usable, checked before its model is opened.

use std::collections::BTreeSet;

use super::{Feature, Golden, Kind, MANIFEST_VERSION, Manifest, Scale, Threshold};

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The document is not JSON, or not of the manifest's form.
    #[error("model manifest is not of the expected form: {source}")]
    Json {
        /// What serde says, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// The document is of a form that is newer than this crate.
    #[error(
        "model manifest: manifest_version is {found}, but this iotml reads up to {MANIFEST_VERSION}: update iotml, or export the model with the older one"
    )]
    Newer {
        /// The version of its form.
        found: u64,
    },
    /// The document is of the right form but a value in it is wrong.
    #[error("model manifest: {field}: {reason}")]
    Invalid {
        /// The path of the field, such as `features[3].scale`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The optional fields of a manifest; the others are missed when misspelt.
const KNOWN_FIELDS: [&str; 9] =
    ["inputs", "outputs", "threshold", "classes", "positive", "golden", "trained", "distribution", "model_sha256"];

/// The only field of a manifest of which a newer form cannot make something else.
#[derive(serde::Deserialize)]
struct FormVersion {
    manifest_version: serde_json::Value,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`ManifestError`] if it is not JSON of the expected form or a value is wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        let version = serde_json::from_slice::<FormVersion>(json).ok().and_then(|form| form.manifest_version.as_u64());
        if let Some(found) = version.filter(|found| *found > u64::from(MANIFEST_VERSION)) {
            return Err(ManifestError::Newer { found });
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(|source| ManifestError::Json { source })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest as indented JSON.
    pub fn to_json(&self) -> String {
        // Cannot fail: every map key is a string and no value refuses to serialize.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Checks every value that can be checked without the model.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] naming the first wrong field.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.manifest_version != MANIFEST_VERSION {
            let found = self.manifest_version;
            return invalid("manifest_version", format!("is {found}, but only {MANIFEST_VERSION} is known"));
        }
        for (field, text) in [("name", &self.name), ("version", &self.version)] {
            if text.trim().is_empty() {
                return invalid(field, "is empty");
            }
        }
        if self.inputs.len() > 1 {
            return invalid("inputs", "names more than one input, but a scorer feeds exactly one");
        }
        self.check_unknown_fields()?;
        self.check_outputs()?;
        self.check_features()?;
        self.check_classes()?;
        if let Some(threshold) = &self.threshold {
            self.check_threshold(threshold)?;
        }
        if let Some(golden) = &self.golden {
            self.check_golden(golden)?;
        }
        if let Some(distribution) = &self.distribution {
            distribution.check(&self.features)?;
        }
        Ok(())
    }

    /// Unknown fields are kept, but one that is nearly a known one is a mistake that would pass unseen.
    fn check_unknown_fields(&self) -> Result<(), ManifestError> {
        // A long name is nearly none, and the distance to it would take as much memory again for each of its characters.
        for field in self.extra.keys().filter(|field| field.len() <= 64) {
            if let Some(meant) = KNOWN_FIELDS.iter().find(|known| strsim::damerau_levenshtein(known, field) <= 2) {
                return invalid(field, format!("is not known; `{meant}` may be meant"));
            }
        }
        Ok(())
    }

    fn check_outputs(&self) -> Result<(), ManifestError> {
        let wanted = self.kind.role();
        let n_wanted = self.outputs.iter().filter(|output| output.role == wanted).count();
        if !self.outputs.is_empty() && n_wanted != 1 {
            let kind = self.kind.as_str();
            return invalid(
                "outputs",
                format!("kind {kind} needs exactly one output with role {wanted:?}, found {n_wanted}").to_lowercase(),
            );
        }
        Ok(())
    }

    fn check_features(&self) -> Result<(), ManifestError> {
        if self.features.is_empty() {
            return invalid("features", "is empty");
        }
        let mut names = BTreeSet::new();
        for (index, feature) in self.features.iter().enumerate() {
            if !names.insert(feature.name.as_str()) {
                return invalid(format!("features[{index}].name"), format!("{} comes twice", feature.name));
            }
            feature.check(index)?;
        }
        if self.features.iter().all(|feature| feature.constant.is_some()) {
            return invalid("features", "are all constant, so the model would see no data");
        }
        Ok(())
    }

    fn check_classes(&self) -> Result<(), ManifestError> {
        if self.kind != Kind::Classifier {
            if !self.classes.is_empty() || self.positive.is_some() {
                return invalid("classes", "belong to kind classifier only");
            }
            return Ok(());
        }
        if self.classes.len() < 2 {
            return invalid("classes", "kind classifier needs the names of at least two classes");
        }
        match &self.positive {
            Some(positive) if !self.classes.contains(positive) => {
                invalid("positive", format!("{positive} is not one of the classes"))
            }
            _ => Ok(()),
        }
    }

    fn check_threshold(&self, threshold: &Threshold) -> Result<(), ManifestError> {
        let names: Vec<&str> = self.features.iter().map(|feature| feature.name.as_str()).collect();
        let limits = threshold.limits(&names).or_else(|error| invalid("threshold", error.to_string()))?;
        if limits.needs_errors() && !self.kind.has_feature_errors() {
            return invalid("threshold.per_feature", "needs a kind with feature errors");
        }
        Ok(())
    }

    fn check_golden(&self, golden: &Golden) -> Result<(), ManifestError> {
        let n_rows = golden.input.len();
        if n_rows == 0 {
            return invalid("golden.input", "is empty");
        }
        for (row, values) in golden.input.iter().enumerate() {
            if values.len() != self.features.len() {
                return invalid(
                    format!("golden.input[{row}]"),
                    format!("has {} numbers for {} features", values.len(), self.features.len()),
                );
            }
        }
        if golden.score.is_none() && golden.output.is_none() {
            return invalid("golden", "has neither score nor output to compare with");
        }
        for (field, n) in [
            ("golden.score", golden.score.as_ref().map(Vec::len)),
            ("golden.output", golden.output.as_ref().map(Vec::len)),
        ] {
            if let Some(n) = n
                && n != n_rows
            {
                return invalid(field, format!("has {n} rows, golden.input {n_rows}"));
            }
        }
        let n_scores = golden.score.iter().flatten().flatten().count();
        let n_outputs = golden.output.iter().flatten().flatten().count();
        if n_scores + n_outputs == 0 {
            return invalid("golden", "compares nothing, since every score and output is null");
        }
        if !(golden.tolerance > 0.0 && golden.tolerance <= 1e-2) {
            return invalid("golden.tolerance", "is not above 0 and at most 0.01");
        }
        Ok(())
    }
}

impl Feature {
    fn check(&self, index: usize) -> Result<(), ManifestError> {
        let field = |name: &str| format!("features[{index}].{name} ({})", self.name);
        if self.name.is_empty() {
            return invalid(format!("features[{index}].name"), "is empty");
        }
        if let Some(constant) = self.constant {
            if self.scale.is_some() {
                return invalid(field("constant"), "excludes scale: the constant is what the model sees");
            }
            if !constant.is_finite() {
                return invalid(field("constant"), "is not a finite number");
            }
        }
        if self.impute.is_some_and(|value| !value.is_finite()) {
            return invalid(field("impute"), "is not a finite number");
        }
        match self.scale {
            Some(Scale::Range { min, max }) if !(min.is_finite() && max.is_finite() && min < max) => {
                invalid(field("scale"), format!("min {min} is not below max {max}"))
            }
            Some(Scale::Standard { mean, std }) if !(mean.is_finite() && std.is_finite() && std > 0.0) => {
                invalid(field("scale"), format!("std {std} is not above 0, or mean {mean} is not finite"))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn invalid<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError::Invalid { field: field.into(), reason: reason.into() })
}
