//! Putting a model into a store: model first, manifest last, each only where nothing is.

use std::path::Path as FilePath;

use iotml_core::model::Digest;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions};
use prost::bytes::Bytes;

use super::location;
use super::{Inner, MANIFEST, MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, MODEL, SIGNATURE, Store, StoreError};
use crate::precheck::{self, Refusal, Signature};
use crate::{Manifest, ModelError};

/// How often an object is put that is there and yet cannot be read, as when another publisher's request is under way.
const MAX_TRIES: usize = 3;

/// A model that is in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it is, for an announcement.
    pub uri: String,
    /// The digest of the ONNX file.
    pub sha256: Digest,
    /// Whether this call completed the version; if not, it was there already with the same content.
    pub is_new: bool,
}

/// What became of an object that was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    New,
    /// The same content was there.
    Same,
    /// Something else was there.
    Other,
}

impl Store {
    /// Puts `model`, an ONNX file, under the name and version of its manifest. With [`StoreOptions::signing_key`] the manifest is
    /// signed. To put the same again is no error, whether the first time came to its end or not.
    ///
    /// The file is checked as a worker checks it before an engine sees it; its golden rows are not run.
    ///
    /// # Errors
    /// [`StoreError::Refused`], [`StoreError::Manifest`] or [`StoreError::Name`] if no worker would load it,
    /// [`StoreError::Exists`] or [`StoreError::Unfinished`] if another content has that name and version, and what the store
    /// says. Where it is [`StoreError::Unavailable`] the version may or may not be there; put it again.
    ///
    /// [`StoreOptions::signing_key`]: super::StoreOptions::signing_key
    pub async fn put(&self, model: impl Into<Bytes>, manifest: Manifest) -> Result<Stored, StoreError> {
        let inner = &self.inner;
        let model = model.into();
        let (manifest, digest) = inner.seal(&model, manifest)?;
        let (name, version) = (manifest.name.as_str(), manifest.version.as_str());
        let [model_path, signature_path, manifest_path] =
            [MODEL, SIGNATURE, MANIFEST].map(|object| inner.path(name, version, object));
        let text = Bytes::from(manifest.to_json());

        if inner.place(&model_path, &model, inner.limits.max_bytes).await? == Placed::Other {
            return Err(inner.in_the_way(&model_path, name, version).await);
        }
        let mut is_signed_now = false;
        if let Some(key) = &inner.signing_key {
            let signature = Bytes::from(key.sign(&text));
            match inner.place(&signature_path, &signature, MAX_SIGNATURE_BYTES).await? {
                Placed::New => is_signed_now = true,
                Placed::Same => {}
                Placed::Other => return Err(inner.in_the_way(&signature_path, name, version).await),
            }
        }
        let placed = inner.place(&manifest_path, &text, MAX_MANIFEST_BYTES).await?;
        if placed == Placed::Other {
            if is_signed_now && let Err(error) = inner.objects.delete(&signature_path).await {
                // It is the signature of nothing, so the version would be refused where signatures are looked at.
                let error = inner.failed("delete", &signature_path, &error);
                tracing::warn!(%error, "another publisher was quicker, and our signature is left beside its manifest");
            }
            return Err(inner.exists(name, version));
        }
        Ok(Stored { uri: self.uri(name, version)?, sha256: digest, is_new: placed == Placed::New })
    }

    /// The same with a file.
    ///
    /// # Errors
    /// [`StoreError::Read`] if it cannot be read, else as for [`put`](Self::put).
    pub async fn put_file(&self, model: &FilePath, manifest: Manifest) -> Result<Stored, StoreError> {
        let limit = self.inner.limits.max_bytes;
        let bytes = crate::model::read_limited(model, limit).map_err(|error| match error {
            ModelError::Read { path, source } => StoreError::Read { path, source },
            _ => {
                let n_bytes = std::fs::metadata(model).map_or(limit + 1, |meta| meta.len());
                StoreError::TooLarge { object: model.display().to_string(), n_bytes, limit }
            }
        })?;
        self.put(bytes, manifest).await
    }
}

impl Inner {
    /// Checks what is to be published; the manifest with the digest of the model, and the digest.
    fn seal(&self, model: &Bytes, mut manifest: Manifest) -> Result<(Manifest, Digest), StoreError> {
        let (name, version) = (manifest.name.clone(), manifest.version.clone());
        location::check(&name, &version)?;
        let place = || "to be published".to_owned();
        manifest.check().map_err(|source| StoreError::Manifest { place: place(), source })?;
        let refused = |source: Refusal| StoreError::Refused {
            name: name.clone(),
            version: version.clone(),
            source: Box::new(source),
        };
        let parsed = precheck::parse(model, &self.limits).map_err(refused)?;
        Signature::of(&parsed, &manifest).map_err(refused)?;
        let digest = Digest::of(model);
        if let Some(expected) = manifest.model_sha256.replace(digest).filter(|expected| *expected != digest) {
            let (object, n_bytes) = (format!("the file of model {name} {version}"), model.len());
            return Err(StoreError::Digest { object, expected, found: digest, n_bytes });
        }
        Ok((manifest, digest))
    }

    /// Puts an object where there is none.
    async fn place(&self, path: &Path, content: &Bytes, limit: u64) -> Result<Placed, StoreError> {
        for _ in 0..MAX_TRIES {
            let options = PutOptions::from(PutMode::Create);
            match self.objects.put_opts(path, content.clone().into(), options).await {
                Ok(_) => return Ok(Placed::New),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(self.failed("write", path, &error)),
            }
            match self.read(path, limit).await {
                Ok(Some(found)) if found == content => return Ok(Placed::Same),
                Ok(Some(_)) | Err(StoreError::TooLarge { .. }) => return Ok(Placed::Other),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Placed::Other)
    }

    /// Why the content at `path` cannot be replaced.
    async fn in_the_way(&self, path: &Path, name: &str, version: &str) -> StoreError {
        match self.read(&self.path(name, version, MANIFEST), MAX_MANIFEST_BYTES).await {
            Ok(Some(_)) => self.exists(name, version),
            Ok(None) => StoreError::Unfinished { object: self.address(path) },
            Err(error) => error,
        }
    }

    fn exists(&self, name: &str, version: &str) -> StoreError {
        StoreError::Exists { name: name.to_owned(), version: version.to_owned(), store: self.url.clone() }
    }
}
