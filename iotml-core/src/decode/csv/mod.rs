//! One CSV row per message.

mod record;

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use self::record::Record;
use super::columns::{ColumnConfig, ColumnType, Columns, Fault, Layout};
use super::inferred::{TextColumns, TextFormat};
use super::{DEFAULT_MAX_BYTES, DEFAULT_MAX_FIELDS, DecodeError, Decoder, default_max_bytes, default_max_fields};
use crate::batch::{RawBatch, StageOutput};
use crate::error::{Cause, ConfigError, Reason};

/// Configuration of [`CsvDecoder`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvDecoderConfig {
    /// Whether every message begins with a line of names.
    #[serde(default)]
    pub header: bool,
    /// The names of the fields in order, where messages have no header; those of `columns` where it is left out.
    #[serde(default)]
    pub fields: Option<Vec<String>>,
    /// The columns to fill, with their types. Where none are named, every field becomes a column whose type is inferred from the first row
    /// that decodes: `float64`, `boolean` or `utf8`.
    #[serde(default)]
    pub columns: Option<Vec<ColumnConfig>>,
    /// Between fields; one ASCII character.
    #[serde(default = "default_delimiter")]
    pub delimiter: char,
    /// A field that is exactly this is a null.
    #[serde(default)]
    pub null: String,
    /// Rows and headers with more fields are rejected.
    #[serde(default = "default_max_fields")]
    pub max_fields: usize,
    /// Longer messages are rejected.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: usize,
}

fn default_delimiter() -> char {
    ','
}

impl Default for CsvDecoderConfig {
    fn default() -> Self {
        Self {
            header: false,
            fields: None,
            columns: None,
            delimiter: default_delimiter(),
            null: String::new(),
            max_fields: DEFAULT_MAX_FIELDS,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

/// Decodes one CSV row per message (RFC 4180, with another delimiter if wanted).
///
/// A row with more or fewer fields than it should have is rejected, and so is a second row. Numbers that are `NaN` or infinite are rejected.
pub struct CsvDecoder {
    format: Csv,
    columns: TextColumns<Plan>,
    max_bytes: usize,
}

impl CsvDecoder {
    /// Checks the configuration.
    pub fn new(config: CsvDecoderConfig) -> Result<Self, ConfigError> {
        let fields = match (config.header, config.fields, &config.columns) {
            (true, Some(_), _) => {
                return Err(ConfigError::new("`fields` and `header = true` both name the fields: leave one out"));
            }
            (true, None, _) => Vec::new(),
            (false, Some(fields), _) => fields,
            (false, None, Some(columns)) => columns.iter().map(|column| column.name.clone()).collect(),
            (false, None, None) => {
                return Err(ConfigError::new("name the fields: by `fields`, by `columns` or by `header = true`"));
            }
        };
        if let (false, Some(columns)) = (config.header, &config.columns)
            && let Some(column) = columns.iter().find(|column| !fields.contains(&column.name))
        {
            let known = fields.join(", ");
            return Err(ConfigError::new(format!("column {:?} is none of the fields {known}", column.name)));
        }
        let delimiter = u8::try_from(config.delimiter).ok().filter(u8::is_ascii).ok_or_else(|| {
            ConfigError::new(format!("`delimiter` is {:?}: give one ASCII character", config.delimiter))
        })?;
        if fields.len() > config.max_fields {
            let (n, limit) = (fields.len(), config.max_fields);
            return Err(ConfigError::new(format!("{n} fields are more than `max_fields`, which is {limit}")));
        }
        let record = Record::new(delimiter, config.max_fields);
        let format = Csv { header: config.header, fields, null: config.null, record };
        let columns = TextColumns::new(&format, config.columns.as_deref())?;
        Ok(Self { format, columns, max_bytes: config.max_bytes })
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        self.columns.decode(&mut self.format, raw, self.max_bytes)
    }
}

struct Csv {
    header: bool,
    fields: Vec<String>,
    null: String,
    record: Record,
}

/// Where each column stands in a row.
struct Plan {
    /// The header that the places below are of.
    header: Vec<u8>,
    /// Field number by column.
    places: Vec<Option<usize>>,
    n_fields: usize,
}

impl Plan {
    fn of(layout: &Layout, fields: &[String], header: Vec<u8>) -> Plan {
        // Backwards, so that the first of two fields of one name stays.
        let by_name: HashMap<&str, usize> =
            fields.iter().enumerate().rev().map(|(place, name)| (name.as_str(), place)).collect();
        let places = layout.columns().iter().map(|column| by_name.get(&*column.name).copied()).collect();
        Plan { header, places, n_fields: fields.len() }
    }
}

impl TextFormat for Csv {
    type Plan = Plan;

    fn infer(&self, payload: &[u8]) -> Result<Vec<(String, ColumnType)>, Cause> {
        let mut record = self.record.another();
        let mut rest = payload;
        let names = match self.header {
            true => record.names(&mut rest)?,
            false => self.fields.clone(),
        };
        record.last(rest)?;
        let infer = |(n, name): (usize, &String)| (name.clone(), self.guess(record.field(n)));
        Ok(names.iter().enumerate().map(infer).collect())
    }

    fn plan(&self, layout: &Layout) -> Plan {
        Plan::of(layout, &self.fields, Vec::new())
    }

    fn row(&mut self, payload: &[u8], layout: &Layout, plan: &mut Plan, columns: &mut Columns) -> Result<(), Cause> {
        let mut rest = payload;
        if self.header {
            let names = self.record.names(&mut rest)?;
            let header = &payload[..payload.len() - rest.len()];
            if plan.header != header {
                *plan = Plan::of(layout, &names, header.to_vec());
            }
        }
        self.record.last(rest)?;
        if self.record.len() != plan.n_fields {
            let detail = format!("{} fields instead of {}", self.record.len(), plan.n_fields);
            return Err(Cause::new(Reason::WrongSchema, detail));
        }
        for (column, place) in layout.columns().iter().zip(&plan.places) {
            let field = place.map(|place| self.record.field(place)).filter(|field| *field != self.null.as_bytes());
            let put = match field.map(str::from_utf8) {
                None => columns.put_null(column),
                Some(Ok(text)) => columns.put_text(column, text),
                Some(Err(_)) => Err(Fault::new(Reason::NotUtf8, "text that is not UTF-8").at(column.column)),
            };
            put.map_err(|fault| fault.cause(layout))?;
        }
        Ok(())
    }
}

impl Csv {
    fn guess(&self, field: &[u8]) -> ColumnType {
        match str::from_utf8(field) {
            // A null says nothing, and most fields of telemetry are numbers.
            Ok(text) if text == self.null || text.trim().parse::<f64>().is_ok() => ColumnType::Float64,
            Ok("true" | "false" | "True" | "False" | "TRUE" | "FALSE") => ColumnType::Boolean,
            _ => ColumnType::Utf8,
        }
    }
}
