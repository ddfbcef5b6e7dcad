//! What is in a store.

use std::collections::BTreeMap;
use std::time::SystemTime;

use futures_util::TryStreamExt as _;
use object_store::path::Path;

use super::{Inner, MANIFEST, MODEL, SIGNATURE, Store, StoreError, location};

/// A version of a model in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When its manifest was put there, by the store's clock.
    pub published: SystemTime,
    /// Bytes of the ONNX file; `None` if it is missing.
    pub model_bytes: Option<u64>,
    /// Whether a signature is there; it was not looked at.
    pub is_signed: bool,
}

/// What was found of a version.
#[derive(Default)]
struct Found {
    published: Option<SystemTime>,
    model_bytes: Option<u64>,
    is_signed: bool,
}

impl Store {
    /// All versions, or those of one model: by name, and of a model the oldest first. What has no manifest is no version.
    ///
    /// # Errors
    /// [`StoreError::Name`] if no model can be called so, [`StoreError::Unavailable`] or [`StoreError::Denied`] if the store
    /// cannot be listed.
    pub async fn list(&self, name: Option<&str>) -> Result<Vec<Listed>, StoreError> {
        let inner = &self.inner;
        let below = match name {
            Some(name) => {
                location::check(name, "1")?;
                inner.prefix.clone().join(name)
            }
            None => inner.prefix.clone(),
        };
        let mut found: BTreeMap<(String, String), Found> = BTreeMap::new();
        let mut objects = inner.objects.list(Some(&below));
        while let Some(meta) = objects.try_next().await.map_err(|error| inner.failed("list", &below, &error))? {
            let Some((name, version, object)) = inner.parts(&meta.location) else { continue };
            let version = found.entry((name, version)).or_default();
            match object.as_str() {
                MANIFEST => version.published = Some(meta.last_modified.into()),
                MODEL => version.model_bytes = Some(meta.size),
                SIGNATURE => version.is_signed = true,
                _ => {}
            }
        }
        let listed = found.into_iter().filter_map(|((name, version), found)| {
            let Found { published, model_bytes, is_signed } = found;
            Some(Listed { name, version, published: published?, model_bytes, is_signed })
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_by(|a, b| (&a.name, a.published).cmp(&(&b.name, b.published)));
        Ok(listed)
    }
}

impl Inner {
    /// Name, version and object, if the path is one that `put` makes.
    fn parts(&self, path: &Path) -> Option<(String, String, String)> {
        let mut parts = path.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned());
        let found = (parts.next()?, parts.next()?, parts.next()?);
        let is_plain = parts.next().is_none() && location::check(&found.0, &found.1).is_ok();
        is_plain.then_some(found)
    }
}
