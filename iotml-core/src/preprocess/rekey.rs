//! `rekey`: builds the key of each row from its columns.

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use schemars::JsonSchema;
use serde::Deserialize;

use super::key_template::{KeyTemplate, Part};
use super::lookup::{index_of, misfit};
use super::zone::{relabel, zoneless_type};
use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, Rejected, StageOutput};
use crate::error::{Cause, ConfigError, Reason};

/// A longer key is rejected: partitioners hash it for every record, and indexes hold it.
pub const MAX_KEY_BYTES: usize = 64 * 1024;

/// Configuration of [`Rekey`]: `column` or `template`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RekeyConfig {
    /// The column that becomes the key.
    #[serde(default)]
    pub column: Option<String>,
    /// Text with the columns to put in: `{car}-{region}`. `{key}` is the key so far; `{{` and `}}` are braces.
    #[serde(default)]
    pub template: Option<String>,
    /// What becomes of a row that lacks one of the values.
    #[serde(default)]
    pub missing: MissingKey,
}

/// What becomes of a row that lacks a value its key needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum MissingKey {
    /// Rejected as `missing`: without its key a row would lose its order.
    #[default]
    Reject,
    /// It keeps the key it has.
    Keep,
}

/// Gives every row a key made from its columns. Text and binary columns are taken as they are, others as they are printed:
/// `7`, `0.5`, `true`, `2024-05-01T00:00:00` (UTC).
#[derive(Clone, Debug)]
pub struct Rekey {
    template: KeyTemplate,
    missing: MissingKey,
}

impl Rekey {
    /// Errors unless exactly one of `column` and `template` is given, or if the template is malformed.
    pub fn new(config: RekeyConfig) -> Result<Self, ConfigError> {
        let template = match (config.column, config.template) {
            (Some(column), None) => KeyTemplate::column(column),
            (None, Some(template)) => template
                .parse()
                .map_err(|source| ConfigError::with(format!("`template` {template:?}: {source}"), source))?,
            _ => return Err(ConfigError::new("give either `column` or `template`")),
        };
        Ok(Self { template, missing: config.missing })
    }
}

impl Preprocessor for Rekey {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        if batch.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let columns = batch.columns();
        let pieces = self.template.parts().iter();
        let arrays = columns.columns().iter().map(|array| relabel(array, &zoneless_type(array.data_type())));
        let arrays: Vec<ArrayRef> = arrays.collect();
        let pieces = pieces.map(|part| Piece::open(part, columns.schema_ref(), &arrays));
        let pieces = pieces.collect::<Result<Vec<_>, _>>()?;

        let mut keys = Keys::with_capacity(batch.len());
        let (mut keep, mut rejected) = (vec![true; batch.len()], Vec::new());
        for (row, keep) in keep.iter_mut().enumerate() {
            let old = batch.key(row);
            let made = pieces.iter().try_for_each(|piece| piece.write(row, old, &mut keys.bytes));
            match made {
                Ok(()) if keys.open_len() <= MAX_KEY_BYTES => keys.close(true)?,
                Err(_) if self.missing == MissingKey::Keep => {
                    keys.reopen();
                    keys.bytes.extend_from_slice(old.unwrap_or_default());
                    keys.close(old.is_some())?;
                }
                failed => {
                    let cause = failed.err().unwrap_or_else(|| {
                        let detail = format!("a key of {} bytes, above {MAX_KEY_BYTES}", keys.open_len());
                        Cause::new(Reason::Oversized, detail)
                    });
                    rejected.push(Rejected { row: row as u32, cause });
                    keys.reopen();
                    keys.close(false)?;
                    *keep = false;
                }
            }
        }
        drop(pieces);
        let batch = batch.with_keys(keys.finish()?).map_err(misfit)?;
        let (batch, _) = batch.filter(&keep).map_err(misfit)?;
        Ok(StageOutput { batch, rejected, filtered: Vec::new() })
    }
}

/// A part of the template over the columns of one batch.
enum Piece<'a> {
    Literal(&'a str),
    Key,
    Bytes { name: &'a str, column: Bytes<'a> },
    Printed { name: &'a str, array: &'a ArrayRef, formatter: ArrayFormatter<'a> },
}

/// A column whose bytes are taken as they are.
enum Bytes<'a> {
    Text(&'a arrow::array::StringArray),
    Binary(&'a BinaryArray),
}

impl<'a> Piece<'a> {
    fn open(part: &'a Part, schema: &Schema, arrays: &'a [ArrayRef]) -> Result<Self, PreprocessError> {
        let name = match part {
            Part::Literal(text) => return Ok(Piece::Literal(text)),
            Part::Key => return Ok(Piece::Key),
            Part::Column(name) => name.as_str(),
        };
        let array = &arrays[index_of(schema, name)?];
        let bytes = match array.data_type() {
            DataType::Utf8 => array.as_string_opt().map(Bytes::Text),
            DataType::Binary => array.as_binary_opt().map(Bytes::Binary),
            _ => None,
        };
        if let Some(column) = bytes {
            return Ok(Piece::Bytes { name, column });
        }
        let options = const { &FormatOptions::new() };
        let formatter = ArrayFormatter::try_new(array.as_ref(), options).map_err(|source| {
            PreprocessError::fatal_from(format!("column {name:?} cannot be part of a key: {source}"), source)
        })?;
        Ok(Piece::Printed { name, array, formatter })
    }

    fn write(&self, row: usize, old: Option<&[u8]>, bytes: &mut Vec<u8>) -> Result<(), Cause> {
        let value = match self {
            Piece::Literal(text) => text.as_bytes(),
            Piece::Key => old.ok_or_else(|| Cause::new(Reason::Missing, "the row has no key to build its key from"))?,
            Piece::Bytes { name, column } => column.value(row).ok_or_else(|| no_value(name))?,
            Piece::Printed { name, array, formatter } => {
                if array.is_null(row) || *array.data_type() == DataType::Null {
                    return Err(no_value(name));
                }
                return write!(bytes, "{}", formatter.value(row)).map_err(|_| {
                    Cause::new(Reason::Malformed, format!("column {name:?} holds a value that cannot be printed"))
                });
            }
        };
        bytes.extend_from_slice(value);
        Ok(())
    }
}

impl Bytes<'_> {
    fn value(&self, row: usize) -> Option<&[u8]> {
        match self {
            Bytes::Text(array) => array.is_valid(row).then(|| array.value(row).as_bytes()),
            Bytes::Binary(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

#[cold]
fn no_value(name: &str) -> Cause {
    Cause::new(Reason::Missing, format!("column {name:?}, part of the key, has no value"))
}

/// Keys under construction, in flat storage; the last one is open.
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    valid: Vec<bool>,
}

impl Keys {
    fn with_capacity(rows: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(rows * 16), ends, valid: Vec::with_capacity(rows) }
    }

    fn start(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// Bytes of the open key.
    fn open_len(&self) -> usize {
        self.bytes.len() - self.start()
    }

    /// Begins the open key again.
    fn reopen(&mut self) {
        self.bytes.truncate(self.start());
    }

    /// Ends the open key.
    fn close(&mut self, is_valid: bool) -> Result<(), PreprocessError> {
        let end = i32::try_from(self.bytes.len());
        self.ends.push(end.map_err(|_| PreprocessError::fatal("the keys of one batch come to more than 2 GiB"))?);
        self.valid.push(is_valid);
        Ok(())
    }

    fn finish(self) -> Result<BinaryArray, PreprocessError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.ends));
        let nulls = Some(NullBuffer::from(self.valid)).filter(|nulls| nulls.null_count() > 0);
        BinaryArray::try_new(offsets, Buffer::from_vec(self.bytes), nulls).map_err(misfit)
    }
}
