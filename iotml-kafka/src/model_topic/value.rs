//! Announcements as values of records: written in one format, read in either.

use iotml_core::model::{ModelSet, Place, SetError};
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

    /// A set as a value, if it can be announced.
    pub(super) fn write(&self, set: &ModelSet) -> Result<Vec<u8>, ModelTopicError> {
        set.check()?;
        let inline = set.versions.iter().map(|announced| match &announced.place {
            Place::Inline(file) => file.len(),
            Place::Uri(_) => 0,
        });
        let (bytes, limit) = (inline.sum(), self.config.format.max_inline_bytes());
        if bytes > limit {
            return Err(ModelTopicError::TooLarge { bytes, limit });
        }
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

#[cfg(feature = "registry")]
fn no_registry() -> SetError {
    SetError::Form(
        "it is Avro, and no schema registry is configured; set `registry.url` in the table of the feed".to_owned(),
    )
}
