//! Getting an announced file.

use std::path::{Component, Path, PathBuf};

use iotml_core::model::{Announcement, Place};
use prost::bytes::Bytes;

use super::config::FollowConfig;
use super::refused::Refused;
use crate::ModelError;
use crate::manifest::Manifest;
use crate::model::read_limited;
use crate::scorer::OnnxScorerConfig;
#[cfg(feature = "store")]
use crate::store::{Store, StoreError};

/// A file, not looked at yet.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) file: Bytes,
    /// The manifest that lay with it.
    pub(crate) manifest: Option<Manifest>,
}

/// Where files are fetched from.
pub(crate) struct Places {
    /// The largest file that is taken, in bytes.
    limit: u64,
    #[cfg(feature = "store")]
    store: Option<Result<Store, String>>,
    /// Only what a store has verified the signature of is taken.
    wants_signature: bool,
}

impl Places {
    /// The places of a configuration; asks nothing of them yet.
    pub(crate) fn open(config: &OnnxScorerConfig, follow: &FollowConfig) -> Self {
        let limit = config.limits.max_bytes;
        #[cfg(feature = "store")]
        {
            let options = &follow.store_options;
            let open = |url: &String| Store::open(url, options).map_err(|error| error.to_string());
            Places { limit, store: follow.store.as_ref().map(open), wants_signature: options.require_signature }
        }
        #[cfg(not(feature = "store"))]
        {
            let _ = follow;
            Places { limit, wants_signature: false }
        }
    }

    /// Gets the file of `announced`.
    pub(crate) async fn fetch(&self, announced: &Announcement) -> Result<Fetched, Refused> {
        #[cfg(feature = "store")]
        if let Place::Uri(uri) = &announced.place
            && let Some(fetched) = self.out_of_store(uri, announced).await
        {
            return fetched;
        }
        if self.wants_signature {
            let where_it_is = announced.place.describe();
            let why = format!("signatures are wanted, and {where_it_is} has none: only models in the store are signed");
            return Err(Refused::for_good(format!("{why}; publish it there, or drop `require_signature`")));
        }
        let uri = match &announced.place {
            Place::Inline(file) => return Ok(Fetched { file: Bytes::from(file.clone()), manifest: None }),
            Place::Uri(uri) => uri,
        };
        let Some(path) = uri.strip_prefix("file://") else {
            let advice = "name the store that it is in by `follow.store`";
            return Err(Refused::for_good(format!("nothing is known of how to fetch {uri:?}; {advice}")));
        };
        let (path, limit) = (local(path)?, self.limit);
        let read = tokio::task::spawn_blocking(move || read_limited(&path, limit)).await;
        match read {
            Ok(Ok(file)) => Ok(Fetched { file: Bytes::from(file), manifest: None }),
            // A file that is not there yet may come: a folder is filled by whoever likes, in any order.
            Ok(Err(error @ ModelError::Read { .. })) => Err(Refused::for_now(error.to_string())),
            Ok(Err(error)) => Err(Refused::for_good(error.to_string())),
            Err(_) => Err(Refused::for_now(format!("reading {uri:?} broke off"))),
        }
    }

    /// The same from the store, if the address is one of it.
    #[cfg(feature = "store")]
    async fn out_of_store(&self, uri: &str, announced: &Announcement) -> Option<Result<Fetched, Refused>> {
        let store = match self.store.as_ref()? {
            Ok(store) => store,
            Err(error) => return Some(Err(Refused::for_good(error.clone()))),
        };
        store.name_and_version(uri).ok()?;
        let fetched = store.fetch_uri(uri, Some(announced.sha256)).await;
        Some(match fetched {
            Ok(fetched) => Ok(Fetched { file: fetched.model, manifest: Some(fetched.manifest) }),
            Err(error) if can_be_mended(&error) => Err(Refused::for_now(error.to_string())),
            Err(error) => Err(Refused::for_good(error.to_string())),
        })
    }
}

/// Whether whoever looks after the store can make the same address good, without a word to us.
#[cfg(feature = "store")]
fn can_be_mended(error: &StoreError) -> bool {
    use StoreError::{Denied, Incomplete, NotFound, Unavailable};
    matches!(error, Unavailable { .. } | Denied { .. } | NotFound { .. } | Incomplete { .. })
}

/// The file of a `file://` address: absolute, and no way up.
fn local(path: &str) -> Result<PathBuf, Refused> {
    let file = Path::new(path);
    let is_plain = file.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !file.is_absolute() || !is_plain {
        let wanted = "an absolute path without `..` is needed, as in file:///models/cars-3.onnx";
        return Err(Refused::for_good(format!("\"file://{path}\" is not read: {wanted}")));
    }
    Ok(file.to_owned())
}
