//! A set as Avro in the Confluent frame, with schemas from a registry.

use std::sync::{Arc, LazyLock};

use apache_avro::{Schema, write_avro_datum_ref};
use iotml_core::decode::{DatumReader, SchemaResolver, split_frame};
use iotml_core::encode::{Registration, SchemaRegistrar};
use iotml_core::error::SchemaRegistryError;
use iotml_core::model::{Announcement, Availability, Digest, MODEL_SET_FORMAT, ModelSet, Place, Rollout, SetError};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::error::ModelTopicError;
use crate::registry::{SchemaRegistry, SchemaRegistryConfig};

/// What is written. Whoever adds a field gives it a default, here and below, so that all who are out there read it.
pub(super) const SCHEMA: &str = include_str!("model_set.avsc");

/// A schema registry, and a runtime to wait for it.
pub(super) struct Schemas {
    registry: SchemaRegistry,
    runtime: Runtime,
}

impl Schemas {
    pub(super) fn new(config: &SchemaRegistryConfig) -> Result<Self, ModelTopicError> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ModelTopicError::Runtime)?;
        Ok(Self { registry: SchemaRegistry::new(config.clone())?, runtime })
    }

    /// The id of what is written to `topic`.
    pub(super) fn register(&self, topic: &str) -> Result<u32, ModelTopicError> {
        let subject = format!("{topic}-value");
        let registration = Registration { subject: &subject, schema: SCHEMA, auto_register: true, compatibility: None };
        Ok(self.runtime.block_on(self.registry.register(registration))?)
    }

    /// The schema that a value was written with.
    pub(super) fn resolve(&self, id: u32) -> Result<Arc<str>, ModelTopicError> {
        let resolved = self.runtime.block_on(self.registry.resolve(id));
        resolved.map_err(|error| match error {
            SchemaRegistryError::Unknown { .. } => {
                SetError::Form(format!("{error}, with which it is written; check `registry.url` of the feed")).into()
            }
            SchemaRegistryError::Unusable { .. } => SetError::Form(error.to_string()).into(),
            error => error.into(),
        })
    }
}

/// The id of the schema, and the datum behind it.
pub(super) fn unframe(value: &[u8]) -> Result<(u32, &[u8]), SetError> {
    let too_short = |_| SetError::Form(format!("Avro of {} bytes, which is too short for a schema's id", value.len()));
    split_frame(value).map_err(too_short)
}

/// `set` in the frame of schema `id`, which must be that of [`SCHEMA`].
pub(super) fn write(set: &ModelSet, id: u32) -> Result<Vec<u8>, ModelTopicError> {
    static PARSED: LazyLock<Result<Schema, apache_avro::Error>> = LazyLock::new(|| Schema::parse_str(SCHEMA));
    let failed = |error: &dyn std::fmt::Display| SetError::Form(format!("it cannot be written as Avro: {error}"));
    let mut value = [&[0][..], &id.to_be_bytes()].concat();
    let schema = PARSED.as_ref().map_err(|error| failed(error))?;
    write_avro_datum_ref(schema, &Fields::from(set), &mut value).map_err(|error| failed(&error))?;
    Ok(value)
}

/// The set in a datum that was written with `schema`, checked.
pub(super) fn read(schema: &str, datum: &[u8]) -> Result<ModelSet, SetError> {
    /// Looked at first, since a newer form may have other fields.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let form = |error: &dyn std::fmt::Display| SetError::Form(error.to_string());
    let reader = DatumReader::new(schema).map_err(|error| form(&error))?;
    let Head { format } = reader.read(datum).map_err(|error| form(&error))?;
    if format != MODEL_SET_FORMAT {
        return Err(SetError::Format(format));
    }
    let fields: Fields<'_> = reader.read(datum).map_err(|error| form(&error))?;
    let versions = fields.versions.into_iter().map(Announcement::try_from).collect::<Result<_, _>>();
    let set = ModelSet { format, model: fields.model, versions: versions.map_err(SetError::Form)? };
    set.check()?;
    Ok(set)
}

/// The record `ModelSet`.
#[derive(Serialize, Deserialize)]
struct Fields<'a> {
    format: u32,
    model: String,
    #[serde(borrow)]
    versions: Vec<Version<'a>>,
}

/// The record `Announcement`.
#[derive(Serialize, Deserialize)]
struct Version<'a> {
    version: String,
    #[serde(default)]
    uri: Option<String>,
    #[serde(default, borrow, serialize_with = "apache_avro::serde_avro_slice_opt::serialize")]
    inline: Option<&'a [u8]>,
    sha256: Digest,
    #[serde(default)]
    manifest: Option<String>,
    #[serde(default)]
    state: Availability,
    #[serde(default)]
    rollout: Share,
}

/// The record `Rollout`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Share {
    kind: Kind,
    percent: Option<f64>,
    weight: Option<f64>,
}

/// In the order of the schema's symbols.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Full,
    Canary,
    Weighted,
    Shadow,
}

impl<'a> From<&'a ModelSet> for Fields<'a> {
    fn from(set: &'a ModelSet) -> Self {
        let versions = set.versions.iter().map(Version::from).collect();
        Self { format: set.format, model: set.model.clone(), versions }
    }
}

impl<'a> From<&'a Announcement> for Version<'a> {
    fn from(announcement: &'a Announcement) -> Self {
        let (uri, inline) = match &announcement.place {
            Place::Uri(uri) => (Some(uri.clone()), None),
            Place::Inline(file) => (None, Some(file.as_slice())),
        };
        let (kind, percent, weight) = match announcement.rollout {
            Rollout::Full => (Kind::Full, None, None),
            Rollout::Canary { percent } => (Kind::Canary, Some(percent), None),
            Rollout::Weighted { weight } => (Kind::Weighted, None, Some(weight)),
            Rollout::Shadow => (Kind::Shadow, None, None),
        };
        Self {
            version: announcement.version.clone(),
            uri,
            inline,
            sha256: announcement.sha256,
            manifest: announcement.manifest.as_ref().map(ToString::to_string),
            state: announcement.state,
            rollout: Share { kind, percent, weight },
        }
    }
}

impl TryFrom<Version<'_>> for Announcement {
    type Error = String;

    fn try_from(fields: Version<'_>) -> Result<Self, String> {
        let Version { version, uri, inline, sha256, manifest, state, rollout } = fields;
        let place = match (uri, inline) {
            (Some(uri), None) => Place::Uri(uri),
            (None, Some(file)) => Place::Inline(file.to_vec()),
            _ => return Err(format!("version {version:?} needs either `uri` or `inline`")),
        };
        let manifest = manifest.map(|json| serde_json::from_str(&json)).transpose();
        let manifest = manifest.map_err(|error| format!("`manifest` of version {version:?} is no JSON: {error}"))?;
        let rollout = match (rollout.kind, rollout.percent, rollout.weight) {
            (Kind::Full, None, None) => Rollout::Full,
            (Kind::Canary, Some(percent), None) => Rollout::Canary { percent },
            (Kind::Weighted, None, Some(weight)) => Rollout::Weighted { weight },
            (Kind::Shadow, None, None) => Rollout::Shadow,
            _ => {
                return Err(format!(
                    "the rollout of version {version:?} must have `percent` if it is a canary, `weight` if it is weighted, and \
                     nothing else"
                ));
            }
        };
        Ok(Self { version, place, sha256, manifest, state, rollout })
    }
}

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
