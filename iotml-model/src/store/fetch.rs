//! Taking a model out of a store: manifest first, verified before anything in it is believed.

use iotml_core::model::Digest;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use prost::bytes::Bytes;

use super::cache::{Cache, Sealed};
use super::location;
use super::signature::Verdict;
use super::{Inner, MANIFEST, MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, MODEL, SIGNATURE, Store, StoreError};
use crate::Manifest;

/// A model as it was published.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The ONNX file: the very bytes that were verified.
    pub model: Bytes,
    /// Its manifest.
    pub manifest: Manifest,
    /// The digest of the ONNX file.
    pub sha256: Digest,
}

impl Store {
    /// Fetches a version and verifies it: the signature where one is looked at, that the manifest is of this name and version,
    /// and the digest of the model, also of what was kept on disk. `expected` is the digest that was announced.
    ///
    /// The ONNX file is not looked into: that is done when it is opened.
    ///
    /// # Errors
    /// [`StoreError`]; none but [`StoreError::Unavailable`] goes away by trying again.
    pub async fn fetch(&self, name: &str, version: &str, expected: Option<Digest>) -> Result<Fetched, StoreError> {
        location::check(name, version)?;
        let inner = &self.inner;
        let key = inner.key(name, version);
        if let Some(sealed) = inner.kept(move |cache| cache.version(&key)).await {
            // What was kept may have been damaged since, or be of a store that was made anew.
            match inner.accept(name, version, &sealed, expected) {
                Ok(accepted) => return inner.with_model(name, version, accepted).await,
                Err(error) => tracing::warn!(%error, "a model that was kept on disk is fetched anew"),
            }
        }
        let sealed = inner.sealed(name, version).await?;
        let accepted = inner.accept(name, version, &sealed, expected)?;
        let fetched = inner.with_model(name, version, accepted).await?;
        let key = inner.key(name, version);
        inner.kept(move |cache| Some(cache.keep_version(&key, &sealed))).await;
        Ok(fetched)
    }

    /// The same with the address of the version, such as an announcement has.
    ///
    /// # Errors
    /// [`StoreError::Elsewhere`] if it is not in this store, else as for [`fetch`](Self::fetch).
    pub async fn fetch_uri(&self, uri: &str, expected: Option<Digest>) -> Result<Fetched, StoreError> {
        let (name, version) = self.name_and_version(uri)?;
        self.fetch(name, version, expected).await
    }

    /// The manifest of a version, verified like [`fetch`](Self::fetch) does; the model is not fetched.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn manifest(&self, name: &str, version: &str) -> Result<Manifest, StoreError> {
        location::check(name, version)?;
        let sealed = self.inner.sealed(name, version).await?;
        self.inner.accept(name, version, &sealed, None).map(|(manifest, _)| manifest)
    }
}

impl Inner {
    /// Manifest and signature as they are in the store.
    async fn sealed(&self, name: &str, version: &str) -> Result<Sealed, StoreError> {
        let manifest = self.read(&self.path(name, version, MANIFEST), MAX_MANIFEST_BYTES).await?;
        let Some(manifest) = manifest else {
            let (name, version) = (name.to_owned(), version.to_owned());
            return Err(StoreError::NotFound { name, version, store: self.url.clone() });
        };
        let signature = match self.trust.is_asked() {
            true => self.read(&self.path(name, version, SIGNATURE), MAX_SIGNATURE_BYTES).await?,
            false => None,
        };
        Ok(Sealed { manifest, signature })
    }

    /// The manifest, if it may be believed.
    fn accept(
        &self,
        name: &str,
        version: &str,
        sealed: &Sealed,
        expected: Option<Digest>,
    ) -> Result<(Manifest, Digest), StoreError> {
        match self.trust.judge(&sealed.manifest, sealed.signature.as_deref()) {
            Verdict::Fine => {}
            Verdict::Missing => {
                let (name, version) = (name.to_owned(), version.to_owned());
                return Err(StoreError::Unsigned { name, version, store: self.url.clone() });
            }
            Verdict::Bad => {
                let object = self.address(&self.path(name, version, SIGNATURE));
                return Err(StoreError::BadSignature { object, n_keys: self.trust.n_keys() });
            }
        }
        let place = || self.address(&self.path(name, version, MANIFEST));
        let manifest =
            Manifest::from_json(&sealed.manifest).map_err(|source| StoreError::Manifest { place: place(), source })?;
        if (manifest.name.as_str(), manifest.version.as_str()) != (name, version) {
            let (name, version) = (manifest.name, manifest.version);
            return Err(StoreError::Misplaced { place: place(), name, version });
        }
        let Some(found) = manifest.model_sha256 else { return Err(StoreError::NoDigest { object: place() }) };
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let uri = format!("{}/{name}/{version}", self.url);
            return Err(StoreError::Announced { uri, expected, found });
        }
        Ok((manifest, found))
    }

    /// Adds the model that an accepted manifest names, from the disk or else from the store.
    async fn with_model(
        &self,
        name: &str,
        version: &str,
        (manifest, sha256): (Manifest, Digest),
    ) -> Result<Fetched, StoreError> {
        let limit = self.limits.max_bytes;
        let model = match self.kept(move |cache| cache.model(sha256, limit)).await {
            Some(model) => model,
            None => {
                let path = self.path(name, version, MODEL);
                let object = || self.address(&path);
                let Some(model) = self.read(&path, limit).await? else {
                    return Err(StoreError::Incomplete { object: object() });
                };
                let (whole, cache) = (model.clone(), self.cache.clone());
                // A large model takes longer than other tasks of the runtime should wait.
                let found = blocking(move || {
                    let found = Digest::of(&whole);
                    if let Some(cache) = cache.filter(|_| found == sha256) {
                        cache.keep_model(found, &whole);
                    }
                    found
                });
                match found.await {
                    Some(found) if found == sha256 => model,
                    Some(found) => {
                        let n_bytes = model.len();
                        return Err(StoreError::Digest { object: object(), expected: sha256, found, n_bytes });
                    }
                    None => return Err(StoreError::Ended),
                }
            }
        };
        Ok(Fetched { name: name.to_owned(), version: version.to_owned(), model, manifest, sha256 })
    }

    /// Reads an object of at most `limit` bytes; `None` if there is none.
    pub(super) async fn read(&self, path: &Path, limit: u64) -> Result<Option<Bytes>, StoreError> {
        let result = match self.objects.get(path).await {
            Ok(result) => result,
            // A missing bucket is no missing object, and would be taken for one by the publisher and the worker.
            Err(object_store::Error::NotFound { source, .. }) if !source.to_string().contains("NoSuchBucket") => {
                return Ok(None);
            }
            Err(error) => return Err(self.failed("read", path, &error)),
        };
        let n_bytes = result.meta.size;
        if n_bytes > limit {
            return Err(StoreError::TooLarge { object: self.address(path), n_bytes, limit });
        }
        result.bytes().await.map(Some).map_err(|error| self.failed("read", path, &error))
    }

    /// The name under which a version is kept on disk: not that of another store, nor without the signature that is asked for.
    fn key(&self, name: &str, version: &str) -> String {
        Digest::of(format!("{}\n{name}\n{version}\n{}", self.url, self.trust.is_asked()).as_bytes()).to_string()
    }

    /// Does something with what is kept on disk, if anything is.
    async fn kept<T: Send + 'static>(&self, what: impl FnOnce(&Cache) -> Option<T> + Send + 'static) -> Option<T> {
        let cache = self.cache.clone()?;
        blocking(move || what(&cache)).await.flatten()
    }
}

/// Does something that takes long where no other task waits for it; `None` if the runtime ends.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(what).await.ok()
}
