//! JSON objects straight into columns: no tree of values is built.

mod fields;
mod infer;
mod visit;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::fields::Fields;
use super::columns::{ColumnConfig, ColumnType, Columns, Layout};
use super::inferred::{TextColumns, TextFormat};
use super::{DEFAULT_MAX_BYTES, DEFAULT_MAX_FIELDS, DecodeError, Decoder, default_max_bytes, default_max_fields};
use crate::batch::{RawBatch, StageOutput};
use crate::error::{Cause, ConfigError, Reason};

/// What to do with a field that is no column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownFields {
    /// Step over it.
    #[default]
    Ignore,
    /// Reject the row.
    Reject,
}

/// Configuration of [`JsonDecoder`].
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonDecoderConfig {
    /// The columns to fill, with their types. Where none are named they are inferred from the first row that decodes: numbers
    /// become `float64`, text `utf8`, true and false `boolean`; fields that are null or an array there are left out.
    #[serde(default)]
    pub columns: Option<Vec<ColumnConfig>>,
    /// What to do with a field that is no column.
    #[serde(default)]
    pub unknown_fields: UnknownFields,
    /// Whether text in a number's or boolean's place is parsed (`"12.5"`); otherwise it rejects the row.
    #[serde(default)]
    pub parse_text: bool,
    /// Objects and arrays nested deeper are rejected; at most 120.
    #[serde(default = "default_max_depth")]
    pub max_depth: usize,
    /// A first message with more fields is rejected, where columns are inferred.
    #[serde(default = "default_max_fields")]
    pub max_fields: usize,
    /// Longer messages are rejected.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: usize,
}

/// The parser itself gives up at 128.
const MAX_DEPTH: usize = 120;

fn default_max_depth() -> usize {
    32
}

impl Default for JsonDecoderConfig {
    fn default() -> Self {
        Self {
            columns: None,
            unknown_fields: UnknownFields::Ignore,
            parse_text: false,
            max_depth: default_max_depth(),
            max_fields: DEFAULT_MAX_FIELDS,
            max_bytes: DEFAULT_MAX_BYTES,
        }
    }
}

/// Decodes one JSON object per message.
///
/// Nested objects are flattened: `{"engine": {"temp": 1}}` fills the column `engine.temp`. A missing field is a null. Integers fit float columns, and
/// floats without a fraction fit integer columns; text fits `utf8`, dates and times (RFC 3339), and, as base64, `binary`. A name given twice rejects
/// the row, and so does `NaN`, which is not JSON.
pub struct JsonDecoder {
    format: Json,
    columns: TextColumns<Fields>,
    max_bytes: usize,
}

impl JsonDecoder {
    /// Checks the configuration.
    pub fn new(config: JsonDecoderConfig) -> Result<Self, ConfigError> {
        if !(1..=MAX_DEPTH).contains(&config.max_depth) {
            return Err(ConfigError::new(format!("`max_depth` is {}: give 1 to {MAX_DEPTH}", config.max_depth)));
        }
        let format = Json {
            reject_unknown: config.unknown_fields == UnknownFields::Reject,
            parse_text: config.parse_text,
            max_depth: config.max_depth,
            max_fields: config.max_fields,
        };
        let columns = TextColumns::new(&format, config.columns.as_deref())?;
        Ok(Self { format, columns, max_bytes: config.max_bytes })
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        self.columns.decode(&mut self.format, raw, self.max_bytes)
    }
}

/// The options that rows are read with.
#[derive(Clone, Copy)]
struct Json {
    reject_unknown: bool,
    parse_text: bool,
    max_depth: usize,
    max_fields: usize,
}

impl TextFormat for Json {
    type Plan = Fields;

    fn infer(&self, payload: &[u8]) -> Result<Vec<(String, ColumnType)>, Cause> {
        infer::infer(payload, self.max_depth, self.max_fields).map_err(|error| cause(&error, payload))
    }

    fn plan(&self, layout: &Layout) -> Fields {
        Fields::of(layout)
    }

    fn row(
        &mut self,
        payload: &[u8],
        layout: &Layout,
        fields: &mut Fields,
        columns: &mut Columns,
    ) -> Result<(), Cause> {
        let mut row = visit::Row::new(*self, layout, columns, &mut fields.seen);
        let read = row.read(payload, &fields.root);
        match (read, row.fault) {
            (_, Some(fault)) => return Err(fault.cause(layout)),
            (Err(error), None) => return Err(cause(&error, payload)),
            (Ok(()), None) => {}
        }
        fields.finish(layout, columns).map_err(|fault| fault.cause(layout))
    }
}

/// The reason behind an error of the parser.
#[cold]
fn cause(error: &serde_json::Error, payload: &[u8]) -> Cause {
    use serde_json::error::Category;
    let text = error.to_string();
    let reason = if payload.is_empty() {
        return Cause::new(Reason::Empty, "an empty payload");
    } else if text.starts_with("recursion limit") || text.starts_with(visit::TOO_DEEP) {
        Reason::TooDeep
    } else if text.starts_with(infer::TOO_MANY) || text.starts_with(infer::TOO_LONG) {
        Reason::Oversized
    } else if text.starts_with("trailing characters") {
        Reason::TrailingBytes
    } else if text.starts_with("number out of range") {
        Reason::OutOfRange
    } else if error.classify() == Category::Data {
        Reason::WrongSchema
    } else if str::from_utf8(payload).is_err() {
        Reason::NotUtf8
    } else if error.classify() == Category::Eof {
        Reason::Truncated
    } else if is_non_finite(error, payload) {
        return Cause::new(
            Reason::NonFinite,
            format!("NaN or infinity at {}, which JSON does not have", error.column()),
        );
    } else {
        Reason::Malformed
    };
    Cause::new(reason, text)
}

/// Whether the parser stopped at one of the words that JavaScript and Python write for numbers that JSON does not have.
fn is_non_finite(error: &serde_json::Error, payload: &[u8]) -> bool {
    let mut lines = payload.split(|byte| *byte == b'\n');
    let Some(line) = lines.nth(error.line().saturating_sub(1)) else { return false };
    // The column is that of the byte which was read last, the first or second of the word.
    let at = error.column();
    (at.saturating_sub(2)..=at)
        .filter_map(|from| line.get(from..))
        .any(|rest| [&b"NaN"[..], b"Infinity", b"-Infinity", b"inf"].iter().any(|word| rest.starts_with(word)))
}
