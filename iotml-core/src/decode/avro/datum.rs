//! One datum as a value of a type of Rust: for what is read seldom and is no row.

use std::{fmt, slice};

use apache_avro::Schema;
use apache_avro::schema::RecordField;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::bytes::{array, blob, branch, long, malformed, narrow, no_branch, take};
use super::leaf::Wire;
use super::schema::{SchemaError, WriterSchema};
use crate::decode::columns::Fault;

/// Values in a datum, its records, arrays and branches included: a few bytes can stand for any number of nulls.
const MAX_VALUES: usize = 100_000;
/// How deep they may be nested.
const MAX_DEPTH: usize = 64;

/// Reads data that were written by one schema.
///
/// Fields are found by name: one that only the schema has is stepped over, and one that only the type has takes its `serde(default)`,
/// so that older and newer writers are read. Unions are read as what is in them, `null` as `None`. No bytes make it panic, and what it allocates
/// is bounded by their number.
pub struct DatumReader(WriterSchema);

/// Why a datum cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DatumError(String);

impl DatumReader {
    /// A reader of what `schema`, as JSON, has written.
    ///
    /// # Errors
    /// [`SchemaError`] if it is no Avro schema, or a very large one.
    pub fn new(schema: &str) -> Result<Self, SchemaError> {
        WriterSchema::parse(schema).map(Self)
    }

    /// Reads a bare datum, all of it.
    ///
    /// # Errors
    /// [`DatumError`] if it is no datum of the schema, or does not fit the type.
    pub fn read<'de, T: Deserialize<'de>>(&self, datum: &'de [u8]) -> Result<T, DatumError> {
        let mut input = Input { schema: &self.0, rest: datum, n_values: 0 };
        let value = T::deserialize(At { schema: &self.0.root, input: &mut input, depth: 0 })?;
        match input.rest.len() {
            0 => Ok(value),
            n_left => Err(DatumError(format!("{n_left} bytes are left behind the record"))),
        }
    }
}

impl fmt::Debug for DatumReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatumReader").field(&self.0.root).finish()
    }
}

impl From<Fault> for DatumError {
    fn from(fault: Fault) -> Self {
        Self(fault.detail.to_owned())
    }
}

impl serde::de::Error for DatumError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// What is still to be read.
struct Input<'a, 'de> {
    schema: &'a WriterSchema,
    rest: &'de [u8],
    n_values: usize,
}

/// A value that comes next, and its schema.
struct At<'r, 'a, 'de> {
    schema: &'a Schema,
    input: &'r mut Input<'a, 'de>,
    depth: usize,
}

impl At<'_, '_, '_> {
    /// Follows references and branches to the value itself.
    fn settle(mut self) -> Result<Self, DatumError> {
        loop {
            self.input.n_values += 1;
            if self.input.n_values > MAX_VALUES {
                return Err(DatumError(format!("more than {MAX_VALUES} values")));
            }
            if self.depth > MAX_DEPTH {
                return Err(DatumError(format!("nested deeper than {MAX_DEPTH}")));
            }
            self.schema = match self.schema {
                Schema::Ref { name } => self.input.schema.named(name).map_err(DatumError::custom)?,
                Schema::Union(union) => union.variants().get(branch(&mut self.input.rest)?).ok_or_else(no_branch)?,
                _ => return Ok(self),
            };
            self.depth += 1;
        }
    }
}

impl<'de> Deserializer<'de> for At<'_, '_, 'de> {
    type Error = DatumError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DatumError> {
        let At { schema, input, depth } = self.settle()?;
        let rest = &mut input.rest;
        if let Some(wire) = Wire::of(schema) {
            return match wire {
                Wire::Bool => match array(rest)? {
                    [byte @ 0..=1] => visitor.visit_bool(byte == 1),
                    _ => Err(malformed("a boolean that is neither 0 nor 1").into()),
                },
                Wire::Int | Wire::Date => visitor.visit_i32(narrow(long(rest)?)?),
                Wire::Long | Wire::Time { .. } => visitor.visit_i64(long(rest)?),
                Wire::Float => visitor.visit_f32(f32::from_le_bytes(array(rest)?)),
                Wire::Double => visitor.visit_f64(f64::from_le_bytes(array(rest)?)),
                Wire::Text => visitor.visit_borrowed_str(str::from_utf8(blob(rest)?).map_err(DatumError::custom)?),
                Wire::Blob | Wire::Decimal { fixed: None, .. } => visitor.visit_borrowed_bytes(blob(rest)?),
                Wire::Fixed(size) | Wire::Decimal { fixed: Some(size), .. } => {
                    visitor.visit_borrowed_bytes(take(rest, size)?)
                }
                Wire::Enum(symbols) => visitor.visit_str(symbol(&symbols, rest)?),
            };
        }
        match schema {
            Schema::Record(record) => {
                visitor.visit_map(Fields { fields: record.fields.iter(), value: None, input, depth })
            }
            Schema::Array(array) => visitor.visit_seq(Items { schema: &array.items, n_left: 0, input, depth }),
            Schema::Map(map) => visitor.visit_map(Items { schema: &map.types, n_left: 0, input, depth }),
            _ => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DatumError> {
        let settled = self.settle()?;
        if matches!(settled.schema, Schema::Null) { visitor.visit_none() } else { visitor.visit_some(settled) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DatumError> {
        let settled = self.settle()?;
        match Wire::of(settled.schema) {
            Some(Wire::Enum(symbols)) => {
                let word: StrDeserializer<'_, DatumError> =
                    symbol(&symbols, &mut settled.input.rest)?.into_deserializer();
                visitor.visit_enum(word)
            }
            _ => settled.deserialize_any(visitor),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, DatumError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

/// The fields of a record.
struct Fields<'r, 'a, 'de> {
    fields: slice::Iter<'a, RecordField>,
    /// The schema of the field whose name was told last.
    value: Option<&'a Schema>,
    input: &'r mut Input<'a, 'de>,
    depth: usize,
}

impl<'de> MapAccess<'de> for Fields<'_, '_, 'de> {
    type Error = DatumError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DatumError> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.value = Some(&field.schema);
        let name: StrDeserializer<'_, DatumError> = field.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DatumError> {
        let schema = self.value.take().ok_or_else(|| DatumError::custom("a value is asked for before its name"))?;
        seed.deserialize(At { schema, input: self.input, depth: self.depth + 1 })
    }
}

/// The items of an array or a map, which come in blocks: a count, or a negative count and the block's size in bytes; zero ends them.
struct Items<'r, 'a, 'de> {
    schema: &'a Schema,
    /// Of this block.
    n_left: u64,
    input: &'r mut Input<'a, 'de>,
    depth: usize,
}

impl<'a, 'de> Items<'_, 'a, 'de> {
    fn is_over(&mut self) -> Result<bool, Fault> {
        if self.n_left == 0 {
            let count = long(&mut self.input.rest)?;
            if count < 0 {
                long(&mut self.input.rest)?;
            }
            self.n_left = count.unsigned_abs();
        }
        Ok(self.n_left == 0)
    }

    fn item(&mut self) -> At<'_, 'a, 'de> {
        self.n_left -= 1;
        At { schema: self.schema, input: self.input, depth: self.depth + 1 }
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_, 'de> {
    type Error = DatumError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DatumError> {
        if self.is_over()? {
            return Ok(None);
        }
        seed.deserialize(self.item()).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, '_, 'de> {
    type Error = DatumError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DatumError> {
        if self.is_over()? {
            return Ok(None);
        }
        seed.deserialize(At { schema: &Schema::String, ..self.item() }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DatumError> {
        seed.deserialize(At { schema: self.schema, input: self.input, depth: self.depth + 1 })
    }
}

fn symbol<'s>(symbols: &'s [Box<str>], rest: &mut &[u8]) -> Result<&'s str, Fault> {
    let symbol = symbols.get(branch(rest)?).map(|symbol| &**symbol);
    symbol.ok_or_else(|| malformed("a symbol that the schema's enum does not have"))
}

#[cfg(test)]
#[path = "datum_tests.rs"]
mod tests;
