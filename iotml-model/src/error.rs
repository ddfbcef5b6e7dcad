//! What can go wrong while a model is loaded or run.

use std::path::PathBuf;

use crate::manifest::ManifestError;
use crate::precheck::Refusal;

/// Why a model cannot be loaded or has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file is larger than what it should hold.
    #[error("{path} is larger than {limit} bytes", path = path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are no protobuf message.
    #[error("model is not ONNX: {source}")]
    NotOnnx {
        /// What the decoder says.
        #[source]
        source: prost::DecodeError,
    },
    /// The model was refused before any engine saw it.
    #[error("model {model} is refused: {source}")]
    Refused {
        /// The file, or the name given to the bytes.
        model: String,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// There is no manifest.
    #[error(
        "model has no manifest: neither in its metadata under `iotml.manifest` nor as {beside}; set `manifest` to a JSON file",
        beside = beside.display()
    )]
    NoManifest {
        /// The file that was looked for.
        beside: PathBuf,
    },
    /// The manifest cannot be used.
    #[error("{source} ({place})")]
    Manifest {
        /// Where it came from.
        place: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// The manifest has no golden rows and the configuration does not say that none are expected.
    #[error(
        "model {model} has no golden rows, so nothing shows that it computes here what it computed in training; set `golden = \"none\"` to load it all the same"
    )]
    NoGolden {
        /// The model's name.
        model: String,
    },
    /// A golden row does not come out.
    #[error(
        "model {model} is refused: on {engine}, {what} of golden row {row} is {found}, but training saw {expected}"
    )]
    Golden {
        /// The model's name.
        model: String,
        /// The engine that ran it.
        engine: &'static str,
        /// What was compared, such as `score` or `output[3]`.
        what: String,
        /// The row's index.
        row: usize,
        /// What training saw.
        expected: String,
        /// What came out.
        found: String,
    },
    /// The model gives a row another result when it stands among others.
    #[error(
        "model {model} is refused: on {engine}, row {row} alone gives {alone} but {together} among other rows, so rows are not scored independently"
    )]
    RowsDepend {
        /// The model's name.
        model: String,
        /// The engine that ran it.
        engine: &'static str,
        /// The row's index.
        row: usize,
        /// The first output that differs, with the row alone.
        alone: f32,
        /// The same with the other rows.
        together: f32,
    },
    /// The engine is not there or has failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What an engine says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No library of ONNX Runtime is found.
    #[error(
        "no usable onnxruntime library (1.{oldest} or later): run `pip install onnxruntime` in the active virtual environment, or set ORT_DYLIB_PATH to the libonnxruntime file; {tried}"
    )]
    NoLibrary {
        /// The oldest minor version that is accepted.
        oldest: u32,
        /// Where it was looked for and what was found there.
        tried: String,
    },
    /// The engine that the configuration asks for is not part of this build.
    #[error("engine {engine} is not part of this build: enable the feature `{engine}` of iotml-model")]
    NotBuilt {
        /// The engine's name.
        engine: &'static str,
    },
    /// The engine is known to compute this model wrongly.
    #[error("engine {engine} cannot run this model: {reason}")]
    Unsupported {
        /// The engine's name.
        engine: &'static str,
        /// Why.
        reason: String,
    },
    /// The engine failed to load the model.
    #[error("engine {engine} failed to load the model: {source}")]
    Load {
        /// The engine's name.
        engine: &'static str,
        /// What it says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine failed to run the model.
    #[error("engine {engine} failed on a batch of {n_rows} rows: {source}")]
    Run {
        /// The engine's name.
        engine: &'static str,
        /// How many rows there were.
        n_rows: usize,
        /// What it says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
