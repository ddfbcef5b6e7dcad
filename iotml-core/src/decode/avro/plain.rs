//! Bare Avro data of one configured schema.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::compile::Program;
use super::decode_rows;
use super::schema::{SchemaError, WriterSchema};
use crate::batch::{RawBatch, StageOutput};
use crate::decode::columns::{ColumnConfig, Layout, check_columns};
use crate::decode::{
    DEFAULT_MAX_BYTES, DEFAULT_MAX_FIELDS, DecodeError, Decoder, default_max_bytes, default_max_fields,
};
use crate::error::{Cause, ConfigError, Reason};

/// Configuration of [`AvroDecoder`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AvroDecoderConfig {
    /// The writer's schema as JSON; or give `schema_file`.
    #[serde(default)]
    pub schema: Option<String>,
    /// A file with the writer's schema (`.avsc`).
    #[serde(default)]
    pub schema_file: Option<PathBuf>,
    /// The columns to fill; all scalar fields where none are named.
    #[serde(default)]
    pub columns: Option<Vec<ColumnConfig>>,
    /// A schema with more scalar fields, those of nested records included, is refused.
    #[serde(default = "default_max_fields")]
    pub max_fields: usize,
    /// Longer messages are rejected.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: usize,
}

impl AvroDecoderConfig {
    /// All scalar fields of `schema`, which is the writer's schema as JSON.
    pub fn new(schema: impl Into<String>) -> Self {
        Self {
            schema: Some(schema.into()),
            schema_file: None,
            columns: None,
            max_fields: DEFAULT_MAX_FIELDS,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

/// Decodes bare Avro data: one datum per message, without a frame, written with the configured schema.
pub struct AvroDecoder {
    layout: Layout,
    program: Program,
    max_bytes: usize,
}

impl AvroDecoder {
    /// Reads and compiles the schema.
    pub fn new(config: AvroDecoderConfig) -> Result<Self, ConfigError> {
        let json = read_schema(config.schema, config.schema_file)?;
        let mut layout = Layout::default();
        if let Some(columns) = &config.columns {
            check_columns(columns)?;
        }
        let compile = || -> Result<Program, SchemaError> {
            let (schema, columns) = (WriterSchema::parse(&json)?, config.columns.as_deref());
            Program::compile(&schema, columns, config.max_fields, &mut layout)
        };
        let program = { compile }().map_err(|source| ConfigError::with(format!("`schema`: {source}"), source))?;
        Ok(Self { layout, program, max_bytes: config.max_bytes })
    }
}

impl Decoder for AvroDecoder {
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        let program = &self.program;
        decode_rows(raw, &mut self.layout, self.max_bytes, |payload| match payload {
            [] => Err(Cause::new(Reason::Empty, "an empty payload")),
            datum => Ok((program, datum)),
        })
    }
}

/// The schema's JSON from the configuration or from the file that it names.
pub(crate) fn read_schema(inline: Option<String>, file: Option<PathBuf>) -> Result<String, ConfigError> {
    match (inline, file) {
        (Some(json), None) => Ok(json),
        (None, Some(path)) => fs::read_to_string(&path)
            .map_err(|source| ConfigError::with(format!("`schema_file` {path:?} cannot be read: {source}"), source)),
        _ => Err(ConfigError::new("give the Avro schema either as `schema` (JSON) or as `schema_file` (a path)")),
    }
}
