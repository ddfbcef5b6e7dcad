//! The model manifest: what an ONNX file does not say about itself.
//!
//! It travels in two places, and both hold the same JSON document: in the ONNX file's `metadata_props` under the
//! key [`METADATA_KEY`], and as a file beside the model (`cars.onnx` and `cars.json`). The embedded one wins over the
//! one beside it, and a path given in the configuration wins over both.
//!
//! ```json
//! {
//!   "manifest_version": 1,
//!   "kind": "reconstruction",
//!   "name": "cars", "version": "3",
//!   "inputs": [{"name": "input"}],
//!   "outputs": [{"name": "reconstruction", "role": "reconstruction"}],
//!   "features": [
//!     {"name": "speed", "scale": {"min": 0, "max": 50}},
//!     {"name": "battery_voltage", "scale": {"mean": 230.1, "std": 14.2}, "impute": 230},
//!     {"name": "throttle_pos", "scale": null},
//!     {"name": "coolant_temp", "constant": 0.0}
//!   ],
//!   "threshold": {"method": "quantile", "quantile": 0.99, "value": 0.0123},
//!   "golden": {"input": [[12.5, 231.0, 0.4, 0.0]], "score": [0.0042], "tolerance": 1e-4},
//!   "distribution": {
//!     "rows": 100000,
//!     "features": [{"name": "speed", "edges": [0, 12.5, 25, 50.1], "shares": [0, 0.3, 0.4, 0.3, 0], "missing": 0.01}],
//!     "score": {"edges": [0.001, 0.01, 0.1], "shares": [0.7, 0.2, 0.09, 0.01], "anomalies": 0.01}
//!   },
//!   "trained": {"framework": "tensorflow 2.21", "data": "simulator, seed 7", "rows": 100000}
//! }
//! ```
//!
//! - `features` are the model's input columns in order. `{min, max}` maps a raw value `v` to
//!   `(v - min) / (max - min) * 2 - 1`, `{mean, std}` to `(v - mean) / std`, `null` leaves it as it is. A `constant`
//!   feature reads no column: the model always sees that (already scaled) number. `impute` is the raw value that takes
//!   the place of a missing one when the scorer is configured to impute.
//! - `threshold` is a rule of core: `value` is the score from which on a row is an anomaly, `per_feature` the same for the
//!   squared errors (in scaled units) of features by name, and `method` says how the limits were found.
//! - `golden.input` holds raw, unscaled rows, one number a feature in the same order (a constant feature's number is
//!   ignored). `golden.score` and `golden.output` (the output with the kind's role, per row) are what training saw. For
//!   `next_event` the rows are consecutive rows of one key, so the first `look_back` scores are `null`, and so are the
//!   outputs of rows that have no full window before them.
//! - `distribution` says how the training rows were spread: raw values of each feature, and scores, as shares of bins. A value is
//!   in the bin behind the last of the `edges` that is not above it; in single precision. What is live is compared with it
//!   ([`watch`](crate::watch)); readers that do not know the field leave it alone.
//! - `model_sha256` is the SHA-256 of the ONNX file, 64 hexadecimal digits. A model store writes it; a manifest inside of that file cannot have it.
//! - Unknown fields under `trained` and at the top level are kept as they are.

mod builder;
mod check;
mod distribution;
mod embed;
mod read;

pub use builder::ManifestBuilder;
pub use check::ManifestError;
pub use distribution::{Distribution, FeatureDistribution, ScoreDistribution};
pub use embed::embed;
pub use iotml_core::score::{Threshold, ThresholdMethod};
pub use read::ManifestSource;

use std::collections::BTreeMap;

use iotml_core::model::Digest;
use iotml_core::schemars::{self, JsonSchema};
use serde::{Deserialize, Deserializer, Serialize};

/// The key in the ONNX file's `metadata_props` whose value is the manifest's JSON.
pub const METADATA_KEY: &str = "iotml.manifest";

/// The version of this format.
pub const MANIFEST_VERSION: u32 = 1;

/// What a model is, what it reads, and what its numbers mean. See the [module](self) for the JSON form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// The version of the format, [`MANIFEST_VERSION`].
    pub manifest_version: u32,
    /// What the model computes.
    pub kind: Kind,
    /// The model's name, repeated on every scored row.
    pub name: String,
    /// The model's version, repeated on every scored row; a number in the JSON is taken as its text.
    #[serde(deserialize_with = "text_or_number")]
    pub version: String,
    /// The model's inputs: one, or none to take the model's only input.
    #[serde(default)]
    pub inputs: Vec<InputSpec>,
    /// The outputs that the kind uses; none to take the model's only output.
    #[serde(default)]
    pub outputs: Vec<OutputSpec>,
    /// The input columns, in the model's order.
    pub features: Vec<Feature>,
    /// From which score on a row is an anomaly; none gives rows a score and a null verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// `classifier` only: the classes' names, in the order of the probabilities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// `classifier` only: the class whose probability is the score; the last one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// Rows with known results, run whenever the model is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
    /// How the model was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<Trained>,
    /// How the training rows were spread, for whoever watches how live ones differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// The digest of the ONNX file. It is written when the model is put into a store, so that who signs the manifest signs
    /// the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub model_sha256: Option<Digest>,
    /// Fields that this version does not know, kept.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// What a model computes, and so how its output becomes a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `[n, n_features]` back from itself; the score is the mean squared error in scaled units.
    Reconstruction,
    /// The next row of the same key from the last ones; the score is the mean squared error against the row that came.
    NextEvent,
    /// A score straight from the model, `[n]` or `[n, 1]`; higher is more anomalous.
    Score,
    /// Class probabilities, `[n, n_classes]`; the score is the positive class's.
    Classifier,
}

impl Kind {
    /// The word used in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Reconstruction => "reconstruction",
            Kind::NextEvent => "next_event",
            Kind::Score => "score",
            Kind::Classifier => "classifier",
        }
    }

    /// Whether a score is the mean of squared errors, one a feature.
    pub fn has_feature_errors(self) -> bool {
        matches!(self, Kind::Reconstruction | Kind::NextEvent)
    }

    /// The role of the output that this kind computes its score from.
    pub fn role(self) -> Role {
        match self {
            Kind::Reconstruction => Role::Reconstruction,
            Kind::NextEvent => Role::Prediction,
            Kind::Score => Role::Score,
            Kind::Classifier => Role::Probabilities,
        }
    }
}

/// A model input by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputSpec {
    /// The name in the ONNX graph.
    pub name: String,
}

/// A model output by name, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OutputSpec {
    /// The name in the ONNX graph.
    pub name: String,
    /// What the output is.
    pub role: Role,
}

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The input row, given back, `[n, n_features]`.
    Reconstruction,
    /// The next row, `[n, n_features]` or `[n, look_back, n_features]`, whose last step counts.
    Prediction,
    /// A score, `[n]` or `[n, 1]`.
    Score,
    /// Probabilities, `[n, n_classes]`.
    Probabilities,
    /// A class label; it is named for completeness and never read, since the label follows from the probabilities.
    Label,
}

/// One input column of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column of the batch.
    pub name: String,
    /// How the raw value is scaled; `null` or absent leaves it as it is.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// The number the model always sees here, already scaled; no column is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constant: Option<f64>,
    /// The raw value that takes the place of a missing one, if the scorer imputes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impute: Option<f64>,
}

/// A linear scaling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scale {
    /// `(v - min) / (max - min) * 2 - 1`.
    #[serde(rename_all = "snake_case")]
    Range {
        /// The raw value that becomes -1.
        min: f64,
        /// The raw value that becomes 1.
        max: f64,
    },
    /// `(v - mean) / std`.
    #[serde(rename_all = "snake_case")]
    Standard {
        /// The raw value that becomes 0.
        mean: f64,
        /// The raw distance that becomes 1.
        std: f64,
    },
}

/// Rows with known results. At least one of `score` and `output` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Raw rows, `[n, n_features]`.
    pub input: Vec<Vec<f64>>,
    /// The score of each row; `null` where the row has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Vec<Option<f64>>>,
    /// The model's output for each row, `[n, width]`; `null` where the row has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<Option<Vec<f64>>>>,
    /// The largest difference that passes, relative to values above 1; 1e-4 by default.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

fn default_tolerance() -> f64 {
    1e-4
}

/// How the model was trained; every field is free text or a number that nobody computes with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trained {
    /// The framework and its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,
    /// When, as an RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From which data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// How many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// How many passes over them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// The final loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<serde_json::Value>,
    /// The seed of the random numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The program that trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Anything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// Training scripts write versions as text and as numbers; both name the same version.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Version {
        Text(String),
        Number(serde_json::Number),
    }
    Ok(match Version::deserialize(deserializer)? {
        Version::Text(text) => text,
        Version::Number(number) => number.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{
        "manifest_version": 1, "kind": "reconstruction", "name": "cars", "version": 3,
        "inputs": [{"name": "input"}], "outputs": [{"name": "out", "role": "reconstruction"}],
        "features": [
            {"name": "speed", "scale": {"min": 0, "max": 50}},
            {"name": "volt", "scale": {"mean": 230.1, "std": 14.2}, "impute": 230},
            {"name": "throttle", "scale": null},
            {"name": "coolant", "constant": 0.0}
        ],
        "threshold": {"method": "quantile", "quantile": 0.99, "value": 0.0123},
        "golden": {"input": [[12.5, 231.0, 0.4, 0.0]], "score": [0.0042]},
        "trained": {"framework": "tensorflow", "batch": 100},
        "licence": "Apache-2.0"
    }"#;

    #[test]
    fn documented_form_reads_and_round_trips() {
        let manifest = Manifest::from_json(DOCUMENT.as_bytes()).unwrap();
        assert_eq!(manifest.kind, Kind::Reconstruction);
        assert_eq!(manifest.version, "3");
        assert_eq!(manifest.features[0].scale, Some(Scale::Range { min: 0.0, max: 50.0 }));
        assert_eq!(manifest.features[1].scale, Some(Scale::Standard { mean: 230.1, std: 14.2 }));
        assert_eq!(manifest.features[2].scale, None);
        assert_eq!(manifest.features[3].constant, Some(0.0));
        assert_eq!(manifest.golden.as_ref().unwrap().tolerance, 1e-4);
        assert_eq!(manifest.trained.as_ref().unwrap().extra["batch"], 100);
        assert_eq!(manifest.extra["licence"], "Apache-2.0");
        let again = Manifest::from_json(manifest.to_json().as_bytes()).unwrap();
        assert_eq!(again, manifest);
    }

    #[test]
    fn a_newer_form_is_named_before_its_fields_are_read() {
        let newer = r#"{"manifest_version": 2, "kind": "oracle", "features": "all"}"#;
        let error = Manifest::from_json(newer.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error,
            "model manifest: manifest_version is 2, but this iotml reads up to 1: update iotml, or export the model with the older one"
        );
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits() {
        let wrong = DOCUMENT.replace("\"licence\"", "\"model_sha256\": \"0123\", \"licence\"");
        let error = Manifest::from_json(wrong.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("\"0123\" is no SHA-256: 64 hexadecimal digits are needed"), "{error}");
    }

    #[test]
    fn a_misspelt_optional_field_is_named() {
        let wrong = DOCUMENT.replace("\"threshold\"", "\"treshold\"");
        let error = Manifest::from_json(wrong.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "model manifest: treshold: is not known; `threshold` may be meant");
    }

    #[test]
    fn a_misspelt_field_of_a_feature_is_named() {
        let wrong = DOCUMENT.replace("\"impute\"", "\"inpute\"");
        let error = Manifest::from_json(wrong.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("inpute"), "{error}");
    }
}
