//! A store of models: a folder, a bucket, or memory.
//!
//! A version of a model is a folder of two or three objects, which never change:
//!
//! ```text
//! <store>/<name>/<version>/model.onnx
//!                          manifest.json.sig   (only if it was signed)
//!                          manifest.json
//! ```
//!
//! - Each object is put only if it is absent, and the manifest last: a version exists exactly when its manifest does. Of two
//!   publishers at once one wins, and the other is told so, unless both bring the same content.
//! - The manifest carries the SHA-256 of the model ([`Manifest::model_sha256`]), so a signature of the manifest covers both, and
//!   what is fetched is what was put.
//! - Name and version stand in the manifest, too, so a version cannot be passed off as another one.
//!
//! A store is where models are kept; which of them is in service is said by a feed of announcements, not here.
//!
//! ```no_run
//! use iotml_model::store::{Store, StoreOptions};
//! use iotml_model::{Manifest, Model, ManifestSource, OpenOptions};
//!
//! # async fn publish(model: Vec<u8>, manifest: Manifest) -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open("s3://models/factory-7", &StoreOptions::default())?;
//! let stored = store.put(model, manifest).await?;
//! let fetched = store.fetch_uri(&stored.uri, Some(stored.sha256)).await?;
//! let options = OpenOptions { manifest: ManifestSource::Given(Box::new(fetched.manifest)), ..OpenOptions::default() };
//! let model = Model::from_bytes(fetched.model.into(), &stored.uri, &options)?;
//! # Ok(())
//! # }
//! ```

mod backend;
mod cache;
#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod cloud;
mod draft;
mod error;
mod fetch;
mod list;
mod location;
mod options;
mod properties;
mod publish;
mod signature;
#[cfg(any(test, feature = "testing"))]
mod testing;

pub use draft::Draft;
pub use error::StoreError;
pub use fetch::Fetched;
pub use list::Listed;
pub use options::StoreOptions;
pub use properties::StoreProperties;
pub use publish::Stored;
pub use signature::{KeyError, SigningKey, VerifyingKey};

use std::sync::Arc;

use iotml_core::plugin::config::Secrets;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::precheck::Limits;
use cache::Cache;
use signature::Trust;

#[cfg(doc)]
use crate::Manifest;

/// The ONNX file of a version.
const MODEL: &str = "model.onnx";
/// Its manifest; a version exists exactly when this does.
const MANIFEST: &str = "manifest.json";
/// The signature of the manifest's bytes.
const SIGNATURE: &str = "manifest.json.sig";

/// What is said of an address that is not of a version.
const NO_VERSION: &str = "it must end with the name and the version of a model, as in s3://models/cars/4";

/// No manifest comes near this.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;
/// A signature is 88 characters.
const MAX_SIGNATURE_BYTES: u64 = 1 << 10;

/// A store of models; a clone is the same store. Its calls need a tokio runtime with time and I/O.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    url: String,
    prefix: Path,
    objects: Arc<dyn ObjectStore>,
    secrets: Secrets,
    limits: Limits,
    signing_key: Option<SigningKey>,
    trust: Trust,
    cache: Option<Cache>,
}

impl Store {
    /// Opens the store at `url`; nothing is asked of it yet.
    ///
    /// | URL | store | needs the feature |
    /// | --- | --- | --- |
    /// | `file:///srv/models`, or a path | a folder, made by the first `put` | |
    /// | `memory://name` | memory of this process, the same for all who name it; without a name, one of its own | |
    /// | `s3://bucket/prefix` | Amazon S3, or what speaks its protocol | `aws` |
    /// | `gs://bucket/prefix` | Google Cloud Storage | `gcp` |
    /// | `az://container/prefix` | Azure Blob Storage | `azure` |
    ///
    /// Credentials come from the environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`) or from [`StoreOptions::properties`].
    ///
    /// # Errors
    /// [`StoreError::Url`] if there can be no such store, [`StoreError::Property`] or [`StoreError::Options`] if an option
    /// cannot be right, [`StoreError::Key`] if a key cannot be read.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let signing_key = options.signing_key.as_deref().map(SigningKey::read).transpose()?;
        let trust = Trust::read(options)?;
        let opened = backend::open(url, options)?;
        let cache = options.cache.as_ref().map(|folder| Cache::new(folder.clone(), options.cache_bytes.0 as u64));
        Ok(Store {
            inner: Arc::new(Inner {
                url: opened.url,
                prefix: opened.prefix,
                objects: opened.objects,
                secrets: opened.secrets,
                limits: options.limits.clone(),
                signing_key,
                trust,
                cache,
            }),
        })
    }

    /// Opens the store that the version of a model at `uri` is in, and also gives the model's name and version:
    /// `s3://models/cars/4` is the version 4 of `cars` in `s3://models`.
    ///
    /// # Errors
    /// [`StoreError::Url`] if `uri` is no such address, else as for [`open`](Self::open).
    pub fn open_uri<'a>(uri: &'a str, options: &StoreOptions) -> Result<(Self, &'a str, &'a str), StoreError> {
        let wrong = || StoreError::Url { url: backend::shown(uri), reason: NO_VERSION.to_owned() };
        let (store, name, version) = location::parts(uri).ok_or_else(wrong)?;
        Ok((Self::open(store, options)?, name, version))
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// What an ONNX file may be at most.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The address of a version of a model, whether it exists or not.
    ///
    /// # Errors
    /// [`StoreError::Name`] if no model can be called so.
    pub fn uri(&self, name: &str, version: &str) -> Result<String, StoreError> {
        location::check(name, version)?;
        Ok(format!("{}/{name}/{version}", self.inner.url))
    }

    /// Name and version of the model at `uri`, which must be in this store.
    ///
    /// # Errors
    /// [`StoreError::Elsewhere`] if it is not.
    pub fn name_and_version<'a>(&self, uri: &'a str) -> Result<(&'a str, &'a str), StoreError> {
        location::split(&self.inner.url, uri)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("url", &self.inner.url).finish_non_exhaustive()
    }
}
