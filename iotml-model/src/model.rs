//! Opening a model: bytes, manifest, checks, engine, golden rows, in this order.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use iotml_core::model::Digest;
use iotml_core::schemars::{self, JsonSchema};
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Checked, Engine, EngineChoice};
use crate::manifest::{Kind, Manifest, ManifestSource};
use crate::precheck::{self, Limits, Signature};
use crate::{ModelError, golden};

/// Whether a model must bring golden rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoldenRule {
    /// A model without golden rows is refused; with them they must come out.
    #[default]
    Required,
    /// A model without golden rows is loaded; with them they must come out all the same.
    None,
}

/// How to open a model.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Where the manifest comes from.
    pub manifest: ManifestSource,
    /// Which engine runs it.
    pub engine: EngineChoice,
    /// The libonnxruntime to load, if no search is wanted.
    pub library: Option<PathBuf>,
    /// Whether golden rows are needed.
    pub golden: GoldenRule,
    /// What the file may be at most.
    pub limits: Limits,
}

/// A model that passed every check and computes its golden rows on its engine.
pub struct Model {
    pub(crate) manifest: Manifest,
    pub(crate) signature: Signature,
    pub(crate) engine: Box<dyn Engine>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("name", &self.manifest.name)
            .field("version", &self.manifest.version)
            .field("engine", &self.engine.name())
            .finish_non_exhaustive()
    }
}

impl Model {
    /// Opens the ONNX file at `path`.
    ///
    /// # Errors
    /// [`ModelError`], which says which check failed; nothing is left behind.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, ModelError> {
        Candidate::read(path, options)?.open(options)
    }

    /// Opens an ONNX file that is already in memory; `name` stands in errors.
    ///
    /// # Errors
    /// [`ModelError`], which says which check failed.
    pub fn from_bytes(bytes: Vec<u8>, name: &str, options: &OpenOptions) -> Result<Self, ModelError> {
        Candidate::check(Bytes::from(bytes), name, None, options)?.open(options)
    }

    /// The same model once more, with buffers of its own, for another thread; its golden rows came out already.
    ///
    /// # Errors
    /// [`ModelError::Engine`] if the engine cannot open it again.
    pub fn another(&self) -> Result<Self, ModelError> {
        let engine = self.engine.another()?;
        Ok(Model { manifest: self.manifest.clone(), signature: self.signature.clone(), engine })
    }

    /// What the model says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The engine that runs it: `onnxruntime` or `tract`.
    pub fn engine(&self) -> &'static str {
        self.engine.name()
    }

    /// The name of the graph's input.
    pub fn input_name(&self) -> &str {
        &self.signature.input
    }

    /// The name of the graph's output that is read.
    pub fn output_name(&self) -> &str {
        &self.signature.output.name
    }

    /// `next_event` only: how many rows of a key the model sees to expect the next one.
    pub fn look_back(&self) -> Option<usize> {
        (self.manifest.kind == Kind::NextEvent).then(|| self.signature.look_back.unwrap_or(1))
    }

    /// Numbers of one input row: `n_features`, times `look_back` where the model has that axis.
    pub fn input_width(&self) -> usize {
        self.signature.input_width()
    }

    /// Numbers of one output row.
    pub fn output_width(&self) -> usize {
        self.signature.output.width()
    }

    /// Runs the model on scaled rows, `[n, input_width]` row-major, and gives `[n, output_width]`.
    ///
    /// # Errors
    /// [`ModelError::Engine`] if the engine fails.
    ///
    /// # Panics
    /// If `rows` is not a whole number of rows, which is a defect of the caller.
    pub fn run(&mut self, rows: &[f32]) -> Result<&[f32], ModelError> {
        let width = self.input_width();
        assert!(rows.len().is_multiple_of(width), "{} numbers are no rows of {width}", rows.len());
        if rows.is_empty() {
            return Ok(&[]);
        }
        self.engine.input(rows.len() / width)?.copy_from_slice(rows);
        Ok(self.engine.run()?.1)
    }
}

/// A model that passed every check for which no engine is needed.
pub(crate) struct Candidate {
    bytes: Bytes,
    model: precheck::proto::Model,
    pub(crate) manifest: Manifest,
    pub(crate) signature: Signature,
}

impl Candidate {
    /// Reads the ONNX file at `path` and its manifest.
    pub(crate) fn read(path: &Path, options: &OpenOptions) -> Result<Self, ModelError> {
        let bytes = match read_limited(path, options.limits.max_bytes) {
            Err(ModelError::FileTooLarge { path, limit }) => {
                let bytes = std::fs::metadata(&path).map(|meta| meta.len()).unwrap_or(limit + 1);
                let source = precheck::Refusal::TooLarge { bytes, limit };
                return Err(ModelError::Refused { model: path.display().to_string(), source });
            }
            other => other?,
        };
        Self::check(Bytes::from(bytes), &path.display().to_string(), Some(path), options)
    }

    /// The same for a file that is in memory; one beside `path` may be its manifest.
    pub(crate) fn check(
        bytes: Bytes,
        name: &str,
        path: Option<&Path>,
        options: &OpenOptions,
    ) -> Result<Self, ModelError> {
        let refused = |source| ModelError::Refused { model: name.to_owned(), source };
        let model = precheck::parse(&bytes, &options.limits).map_err(refused)?;
        let manifest = options.manifest.read(&model, path)?;
        let signature = Signature::of(&model, &manifest).map_err(refused)?;
        if manifest.golden.is_none() && options.golden == GoldenRule::Required {
            return Err(ModelError::NoGolden { model: manifest.name });
        }
        Ok(Candidate { bytes, model, manifest, signature })
    }

    /// The digest of its file.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Loads it into its engine, and lets it show that its golden rows come out there.
    pub(crate) fn open(self, options: &OpenOptions) -> Result<Model, ModelError> {
        let mut opened = self.load(options)?;
        golden::check(&mut opened)?;
        Ok(opened)
    }

    /// Loads it into its engine. Whoever calls this must see to the golden rows.
    pub(crate) fn load(self, options: &OpenOptions) -> Result<Model, ModelError> {
        let Candidate { bytes, model, manifest, signature } = self;
        let checked = Checked { bytes: &bytes, model: &model, signature: &signature };
        let engine = engine::open(options.engine, options.library.as_ref(), &checked)?;
        Ok(Model { manifest, signature, engine })
    }
}

/// Reads a file of at most `limit` bytes; the limit holds even if the file grows meanwhile.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(ModelError::FileTooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}
