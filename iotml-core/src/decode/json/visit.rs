//! Writes the fields of one object to the current row while the parser reads them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::Json;
use super::fields::{Field, Object, Seen};
use crate::decode::columns::{ColumnType, Columns, Fault, Layout, LayoutColumn, Scalar};
use crate::error::Reason;

pub(super) const TOO_DEEP: &str = "nested too deep";

/// The row that is being read.
pub(super) struct Row<'a> {
    options: Json,
    layout: &'a Layout,
    columns: &'a mut Columns,
    seen: &'a mut Seen,
    /// The fault behind the parser's error, if it was ours.
    pub fault: Option<Fault>,
}

impl<'a> Row<'a> {
    pub fn new(options: Json, layout: &'a Layout, columns: &'a mut Columns, seen: &'a mut Seen) -> Self {
        seen.begin();
        Self { options, layout, columns, seen, fault: None }
    }

    /// Reads one object and nothing behind it.
    pub fn read(&mut self, payload: &[u8], root: &Object) -> serde_json::Result<()> {
        let mut parser = serde_json::Deserializer::from_slice(payload);
        ObjectSeed { object: root, row: self, depth: 1, nullable: false }.deserialize(&mut parser)?;
        parser.end()
    }

    #[cold]
    fn fail<E: Error>(&mut self, fault: Fault) -> E {
        self.fault = Some(fault);
        E::custom(fault.detail)
    }

    fn put<E: Error>(&mut self, column: &LayoutColumn, value: Option<Scalar<'_>>) -> Result<(), E> {
        if !self.seen.mark(column.column) {
            return Err(self.fail(Fault::new(Reason::Malformed, "the field is given twice").at(column.column)));
        }
        let put = match (value, column.column_type) {
            (None, _) => self.columns.put_null(column),
            (Some(Scalar::Text(text)), ColumnType::Binary) => match STANDARD.decode(text) {
                Ok(bytes) => self.columns.put(column, Scalar::Bytes(&bytes)),
                Err(_) => Err(Fault::new(Reason::Malformed, "not base64").at(column.column)),
            },
            (Some(Scalar::Text(text)), _) if self.options.parse_text => self.columns.put_text(column, text),
            (Some(value), _) => self.columns.put(column, value),
        };
        put.map_err(|fault| self.fail(fault))
    }
}

struct ObjectSeed<'r, 'a> {
    object: &'r Object,
    row: &'r mut Row<'a>,
    depth: usize,
    /// Whether a null may stand for the object: not at the top.
    nullable: bool,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.nullable {
            true => Ok(()),
            false => Err(self.row.fail(Fault::new(Reason::WrongSchema, "null instead of an object"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.depth > self.row.options.max_depth {
            return Err(self.row.fail(Fault::new(Reason::TooDeep, "nested deeper than `max_depth`")));
        }
        let (depth, mut next) = (self.depth + 1, 0);
        while let Some(field) = map.next_key_seed(NameSeed { object: self.object, next: &mut next })? {
            match field {
                Some(Field::Column(column)) => {
                    let layout = self.row.layout;
                    map.next_value_seed(ValueSeed { column: &layout.columns()[*column as usize], row: self.row })?;
                }
                Some(Field::Object(object)) => {
                    map.next_value_seed(ObjectSeed { object, row: self.row, depth, nullable: true })?;
                }
                None if self.row.options.reject_unknown => {
                    return Err(self.row.fail(Fault::new(Reason::WrongSchema, "a field that is no column")));
                }
                None => map.next_value_seed(SkipSeed { depth, max_depth: self.row.options.max_depth })?,
            }
        }
        Ok(())
    }
}

/// A field's name, looked up without being kept.
struct NameSeed<'r, 'n> {
    object: &'r Object,
    next: &'n mut usize,
}

impl<'de, 'r> DeserializeSeed<'de> for NameSeed<'r, '_> {
    type Value = Option<&'r Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, 'r> Visitor<'de> for NameSeed<'r, '_> {
    type Value = Option<&'r Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.object.find(name, self.next))
    }
}

struct ValueSeed<'r, 'a> {
    column: &'r LayoutColumn,
    row: &'r mut Row<'a>,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.row.put(self.column, None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.row.put(self.column, Some(Scalar::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.row.put(self.column, Some(Scalar::Int(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        let value = i64::try_from(value).map_or(Scalar::Float(value as f64), Scalar::Int);
        self.row.put(self.column, Some(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.row.put(self.column, Some(Scalar::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.row.put(self.column, Some(Scalar::Text(value)))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        let fault = Fault::new(Reason::WrongSchema, "an object where a value is expected");
        Err(self.row.fail(fault.at(self.column.column)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        let fault = Fault::new(Reason::WrongSchema, "an array where a value is expected");
        Err(self.row.fail(fault.at(self.column.column)))
    }
}

/// Steps over a value, checking that it is sound and not too deep.
pub(super) struct SkipSeed {
    pub depth: usize,
    pub max_depth: usize,
}

impl SkipSeed {
    fn deeper<E: Error>(&self) -> Result<SkipSeed, E> {
        if self.depth > self.max_depth {
            return Err(E::custom(TOO_DEEP));
        }
        Ok(SkipSeed { depth: self.depth + 1, max_depth: self.max_depth })
    }
}

impl<'de> DeserializeSeed<'de> for SkipSeed {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SkipSeed {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.deeper()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(self.deeper()?)?.is_some() {
            map.next_value_seed(self.deeper()?)?;
        }
        Ok(())
    }
}
