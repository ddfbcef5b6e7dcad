//! Announcements as values of records: written in one format, read in either.

use iotml_core::model::{Announcement, ModelSet, Place, Rollout, SetError};
use iotml_core::schemars::{self, JsonSchema};
use serde::Deserialize;

#[cfg(feature = "registry")]
use super::avro::{self, Schemas};
use super::config::KafkaModelFeedConfig;
use super::error::ModelTopicError;

/// How announcements are written; both formats are read, whatever is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnnouncementFormat {
    /// JSON.
    #[default]
    Json,
    /// Avro in the Confluent frame, its schema registered under `<topic>-value`; needs `registry`.
    #[cfg(feature = "registry")]
    ConfluentAvro,
}

impl AnnouncementFormat {
    /// Bytes that the models which come along with an announcement may have together: with their manifests, and as base64 in JSON,
    /// they fit a broker's usual limit of a megabyte for a message.
    pub fn max_inline_bytes(self) -> usize {
        match self {
            AnnouncementFormat::Json => 650_000,
            #[cfg(feature = "registry")]
            AnnouncementFormat::ConfluentAvro => 900_000,
        }
    }
}

/// Whether it is Avro, which begins with a zero byte, as JSON never does.
pub(super) fn is_avro(value: &[u8]) -> bool {
    value.first() == Some(&0)
}

/// Writes and reads values. It is for threads that may wait for a schema registry, and to be dropped by one, too.
pub(super) struct Values<'a> {
    config: &'a KafkaModelFeedConfig,
    #[cfg(feature = "registry")]
    schemas: Option<Schemas>,
}

impl<'a> Values<'a> {
    /// Connects nothing yet.
    pub(super) fn new(config: &'a KafkaModelFeedConfig) -> Result<Self, ModelTopicError> {
        Ok(Self {
            config,
            #[cfg(feature = "registry")]
            schemas: config.registry.as_ref().map(Schemas::new).transpose()?,
        })
    }

    /// A set as a value, if it can be announced. Retired versions whose files do not fit beside those in force are taken out of it.
    pub(super) fn write(&self, set: &mut ModelSet) -> Result<Vec<u8>, ModelTopicError> {
        set.check()?;
        make_room(set, self.config.format.max_inline_bytes())?;
        match self.config.format {
            AnnouncementFormat::Json => Ok(set.to_json()),
            #[cfg(feature = "registry")]
            AnnouncementFormat::ConfluentAvro => {
                let schemas = self.schemas.as_ref().ok_or_else(no_registry)?;
                avro::write(set, schemas.register(&self.config.topic)?)
            }
        }
    }

    /// The set that stands under `key`.
    ///
    /// # Errors
    /// [`ModelTopicError::Set`] if that is the value's fault; otherwise it may be read later.
    pub(super) fn read(&self, key: &[u8], value: &[u8]) -> Result<ModelSet, ModelTopicError> {
        let set = if is_avro(value) { self.read_avro(value)? } else { ModelSet::from_json(value)? };
        if set.model.as_bytes() != key {
            let (found, expected) = (set.model, String::from_utf8_lossy(key));
            return Err(SetError::Form(format!("under the key {expected:?} stands the model {found:?}")).into());
        }
        Ok(set)
    }

    #[cfg(feature = "registry")]
    fn read_avro(&self, value: &[u8]) -> Result<ModelSet, ModelTopicError> {
        let schemas = self.schemas.as_ref().ok_or_else(no_registry)?;
        let (id, datum) = avro::unframe(value)?;
        Ok(avro::read(&schemas.resolve(id)?, datum).map_err(|error| match error {
            SetError::Form(what) => SetError::Form(format!("Avro of schema {id}: {what}")),
            error => error,
        })?)
    }

    #[cfg(not(feature = "registry"))]
    fn read_avro(&self, _: &[u8]) -> Result<ModelSet, ModelTopicError> {
        Err(SetError::Form("it is Avro, which this program is built without".to_owned()).into())
    }
}

/// Takes retired versions whose files came along out of `set` until its files have `limit` bytes at most: first those that have not
/// proved themselves, which nobody goes back to, and of equals the one that was retired first.
fn make_room(set: &mut ModelSet, limit: usize) -> Result<(), ModelTopicError> {
    let size = |announced: &Announcement| match &announced.place {
        Place::Inline(file) => file.len(),
        Place::Uri(_) => 0,
    };
    let bytes = set.versions.iter().filter(|announced| announced.is_ready()).map(size).sum();
    if bytes > limit {
        return Err(ModelTopicError::TooLarge { bytes, limit });
    }
    let is_unproved = |announced: &Announcement| matches!(announced.rollout, Rollout::Canary { .. } | Rollout::Shadow);
    while set.versions.iter().map(size).sum::<usize>() > limit {
        let retired = set.versions.iter().enumerate().filter(|(_, it)| !it.is_ready() && size(it) > 0);
        let Some((at, _)) = retired.min_by_key(|(at, it)| (!is_unproved(it), *at)) else { break };
        let version = set.versions.remove(at).version;
        tracing::warn!(
            model = set.model,
            version,
            "a retired version is announced no more, so there is no way back to it: its file has no room beside those in force; models in a store \
             take none"
        );
    }
    Ok(())
}

#[cfg(feature = "registry")]
fn no_registry() -> SetError {
    SetError::Form(
        "it is Avro, and no schema registry is configured; set `registry.url` in the table of the feed".to_owned(),
    )
}
