//! A model that is about to be published.

use std::path::Path;

use prost::bytes::Bytes;

use crate::ModelError;
use crate::engine::EngineChoice;
use crate::manifest::{Manifest, ManifestSource};
use crate::model::{Candidate, GoldenRule, OpenOptions, read_limited};
use crate::precheck::{self, Limits};

/// An ONNX file with the manifest that it is to be published with.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Where the file came from, for messages.
    place: String,
    limits: Limits,
    model: Bytes,
    manifest: Manifest,
}

impl Draft {
    /// Reads the ONNX file at `path` and its manifest.
    ///
    /// # Errors
    /// [`ModelError`] if one of them cannot be read, or the file is refused.
    pub fn read(path: &Path, manifest: &ManifestSource, limits: &Limits) -> Result<Self, ModelError> {
        let model = read_limited(path, limits.max_bytes)?;
        Self::parse(model.into(), path.display().to_string(), Some(path), manifest, limits)
    }

    /// The same with a file that is in memory.
    ///
    /// # Errors
    /// [`ModelError`] if it has no manifest that can be used, or is refused.
    pub fn from_bytes(model: impl Into<Bytes>, manifest: &ManifestSource, limits: &Limits) -> Result<Self, ModelError> {
        Self::parse(model.into(), "given as bytes".to_owned(), None, manifest, limits)
    }

    fn parse(
        model: Bytes,
        place: String,
        path: Option<&Path>,
        manifest: &ManifestSource,
        limits: &Limits,
    ) -> Result<Self, ModelError> {
        let refused = |source| ModelError::Refused { model: place.clone(), source };
        let parsed = precheck::parse(&model, limits).map_err(refused)?;
        let manifest = manifest.read(&parsed, path)?;
        Ok(Draft { place, limits: limits.clone(), model, manifest })
    }

    /// The same under another name or version, where one is given.
    #[must_use]
    pub fn named(mut self, name: Option<&str>, version: Option<&str>) -> Self {
        for (slot, given) in [(&mut self.manifest.name, name), (&mut self.manifest.version, version)] {
            if let Some(given) = given {
                given.clone_into(slot);
            }
        }
        self
    }

    /// Opens it as a worker does, to see that an engine takes it, and that its golden rows come out where it has any.
    ///
    /// # Errors
    /// [`ModelError`], which says what a worker would say.
    pub fn open(&self) -> Result<(), ModelError> {
        let options = OpenOptions {
            manifest: ManifestSource::Given(Box::new(self.manifest.clone())),
            engine: EngineChoice::default(),
            library: None,
            golden: GoldenRule::None,
            limits: self.limits.clone(),
        };
        Candidate::check(self.model.clone(), &self.place, None, &options)?.open(&options).map(drop)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The ONNX file and the manifest, as [`Store::put`](super::Store::put) takes them.
    pub fn into_parts(self) -> (Bytes, Manifest) {
        (self.model, self.manifest)
    }
}
