//! Avro, bare or in the Confluent frame, by a configured schema or by one derived from the columns.

mod confluent;
mod derive;
mod plan;
mod registrar;
mod write;

pub use confluent::{ConfluentAvroEncoder, ConfluentAvroEncoderConfig};
pub use registrar::{Compatibility, Registration, SchemaRegistrar};

use std::path::PathBuf;
use std::sync::Arc;

use apache_avro::Schema;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{EncodeError, Encoded, Encoder, encode_rows};
use crate::batch::Batch;
use crate::decode::{WriterSchema, read_schema};
use crate::error::ConfigError;

/// Configuration of [`AvroEncoder`]: which schema to write.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AvroEncoderConfig {
    /// The schema as JSON. Where neither this nor `schema_file` is given, it is derived from the columns.
    pub schema: Option<String>,
    /// A file with the schema (`.avsc`).
    pub schema_file: Option<PathBuf>,
    /// The name of a derived schema; `Row` where none is given.
    pub name: Option<String>,
    /// The namespace of a derived schema.
    pub namespace: Option<String>,
}

/// Writes one bare Avro datum per row.
///
/// With a configured schema, fields are filled from the columns of their names (those of nested records from `outer.inner`), cast where no value changes its
/// meaning; a field without a column gets its default, or null. A value that does not fit rejects its row. Without one, every column becomes a field; characters
/// that Avro does not allow in names become underscores.
pub struct AvroEncoder {
    schema: WriteSchema,
}

impl AvroEncoder {
    /// Checks the configuration.
    pub fn new(config: AvroEncoderConfig) -> Result<Self, ConfigError> {
        Ok(Self { schema: WriteSchema::new(config)? })
    }
}

impl Encoder for AvroEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
        if batch.is_empty() {
            return Ok(Encoded { messages: Default::default(), rejected: Vec::new() });
        }
        let schema = self.schema.of(batch)?;
        let nodes = plan::plan(&schema.parsed, batch.columns()).map_err(EncodeError::fatal)?;
        Ok(encode_rows(batch, nodes.len() * 6, |row, out| nodes.iter().try_for_each(|node| node.write(row, out))))
    }
}

/// A schema to write with.
struct Written {
    json: Arc<str>,
    parsed: WriterSchema,
}

/// The configured schema, or the one derived last.
struct WriteSchema {
    configured: Option<Arc<Written>>,
    derived: Option<(SchemaRef, Arc<Written>)>,
    name: String,
    namespace: Option<String>,
}

impl WriteSchema {
    fn new(config: AvroEncoderConfig) -> Result<Self, ConfigError> {
        let configured = match (config.schema, config.schema_file) {
            (None, None) => None,
            (schema, file) => {
                let json = read_schema(schema, file)?;
                let parsed = WriterSchema::parse(&json).map_err(|source| {
                    ConfigError::with(format!("`schema` is no valid Avro schema: {source}"), source)
                })?;
                if !matches!(parsed.root, Schema::Record(_)) {
                    return Err(ConfigError::new("`schema` must be a record: its fields are filled from columns"));
                }
                Some(Arc::new(Written { json: json.into(), parsed }))
            }
        };
        let name = config.name.unwrap_or_else(|| "Row".to_owned());
        if derive::field_name(&name) != name {
            return Err(ConfigError::new(format!("`name` is {name:?}: use letters, digits and underscores")));
        }
        Ok(Self { configured, derived: None, name, namespace: config.namespace })
    }

    fn of(&mut self, batch: &Batch) -> Result<Arc<Written>, EncodeError> {
        if let Some(configured) = &self.configured {
            return Ok(configured.clone());
        }
        let columns = batch.columns().schema();
        match &self.derived {
            Some((known, written)) if Arc::ptr_eq(known, &columns) || *known == columns => Ok(written.clone()),
            _ => {
                let json = derive::derive(&columns, &self.name, self.namespace.as_deref());
                let json = json.map_err(EncodeError::fatal)?;
                let json = json.to_string();
                let parsed = WriterSchema::parse(&json)
                    .map_err(|source| EncodeError::fatal_from("the columns give no valid Avro schema", source))?;
                let written = Arc::new(Written { json: json.into(), parsed });
                self.derived = Some((columns, written.clone()));
                Ok(written)
            }
        }
    }
}
