//! One JSON object per row.

mod value;

use arrow::array::ArrayRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::value::{Value, Writer};
use super::{EncodeError, Encoded, Encoder, encode_rows};
use crate::batch::Batch;
use crate::clock::now_millis;
use crate::error::Cause;

/// What to write for a value that is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nulls {
    /// The field with `null`.
    #[default]
    Keep,
    /// Nothing.
    Omit,
}

/// What to do with NaN and infinity, which JSON does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonFinite {
    /// Write `null`.
    #[default]
    Null,
    /// Reject the row.
    Reject,
}

/// How points in time are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// Milliseconds since the Unix epoch.
    #[default]
    Millis,
    /// Text such as `2026-01-31T12:00:00Z`.
    Rfc3339,
}

/// Configuration of [`JsonEncoder`].
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JsonEncoderConfig {
    /// The columns to write, in this order; all where none are named.
    pub columns: Option<Vec<String>>,
    /// What to write for a value that is missing.
    pub nulls: Nulls,
    /// What to do with NaN and infinity.
    pub non_finite: NonFinite,
    /// How columns of points in time are written. Dates are always text.
    pub times: Times,
    /// The name of a field for the row's key, as text; the key is not written into the object where none is given.
    pub key_field: Option<String>,
    /// The name of a field for the row's event time, in milliseconds since the Unix epoch.
    pub time_field: Option<String>,
    /// The name of a field for the time at which the row is encoded, in milliseconds since the Unix epoch by this machine's clock. Beside
    /// the event time it tells how long the row took.
    pub encoded_field: Option<String>,
}

/// Writes one JSON object per row, its fields in column order. Floats are written with as few digits as give the same number back,
/// binary columns as base64, lists as arrays.
pub struct JsonEncoder {
    config: JsonEncoderConfig,
}

impl JsonEncoder {
    /// An encoder with these options.
    pub fn new(config: JsonEncoderConfig) -> Self {
        Self { config }
    }

    /// The columns to write, with their names as they stand in the object.
    fn columns(&self, batch: &Batch) -> Result<Vec<(Vec<u8>, ArrayRef)>, EncodeError> {
        let schema = batch.columns().schema();
        let column = |name: &str| {
            let array = batch.column(name).cloned().ok_or_else(|| {
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                EncodeError::fatal(format!("there is no column {name:?}: there are {}", known.join(", ")))
            })?;
            Ok((value::name(name), value::plain(array)?))
        };
        match &self.config.columns {
            Some(names) => names.iter().map(|name| column(name)).collect(),
            None => schema.fields().iter().map(|field| column(field.name())).collect(),
        }
    }
}

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
        if batch.is_empty() {
            return Ok(Encoded { messages: Default::default(), rejected: Vec::new() });
        }
        let columns = self.columns(batch)?;
        let values: Vec<(&[u8], Value<'_>)> =
            columns.iter().map(|(name, array)| (&name[..], Value::of(array))).collect();
        let writer = Writer { non_finite: self.config.non_finite, times: self.config.times };
        let key_field = self.config.key_field.as_deref().map(value::name);
        let time_field = self.config.time_field.as_deref().map(value::name);
        // A batch is encoded within a moment.
        let encoded_field = self.config.encoded_field.as_deref().map(|name| (value::name(name), now_millis()));
        let omit = self.config.nulls == Nulls::Omit;
        // A field takes about its name and a number of ten digits.
        let row_bytes = values.iter().map(|(name, _)| name.len() + 12).sum::<usize>() + 2;
        Ok(encode_rows(batch, row_bytes, |row, out| {
            out.push(b'{');
            let start = out.len();
            if let Some(name) = &key_field {
                match batch.key(row) {
                    Some(key) => field(out, name, |out| Ok(value::text(&String::from_utf8_lossy(key), out)))?,
                    None if omit => {}
                    None => field(out, name, |out| Ok(out.extend_from_slice(b"null")))?,
                }
            }
            if let Some(name) = &time_field {
                match batch.time(row) {
                    Some(time) => field(out, name, |out| Ok(value::integer(time, out)))?,
                    None if omit => {}
                    None => field(out, name, |out| Ok(out.extend_from_slice(b"null")))?,
                }
            }
            if let Some((name, now)) = &encoded_field {
                field(out, name, |out| Ok(value::integer(*now, out)))?;
            }
            for (name, value) in &values {
                if omit && value.is_null(row) {
                    continue;
                }
                field(out, name, |out| writer.write(value, row, out))?;
            }
            if out.len() > start {
                out.pop();
            }
            out.push(b'}');
            Ok(())
        }))
    }
}

/// Writes the name, the value and a comma.
#[inline]
fn field(out: &mut Vec<u8>, name: &[u8], value: impl FnOnce(&mut Vec<u8>) -> Result<(), Cause>) -> Result<(), Cause> {
    out.extend_from_slice(name);
    value(out)?;
    out.push(b',');
    Ok(())
}
