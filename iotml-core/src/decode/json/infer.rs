//! The fields of a first object and the types they suggest.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use super::visit::{SkipSeed, TOO_DEEP};
use crate::decode::columns::ColumnType;

pub(super) const TOO_MANY: &str = "more fields than `max_fields`";
pub(super) const TOO_LONG: &str = "the name of a field is longer than 1,024 bytes";

/// The longest dotted path that may become the name of a column: every field within an object repeats the names around it.
const MAX_PATH: usize = 1_024;

/// The scalar fields of an object in their order, by dotted path.
pub(super) fn infer(
    payload: &[u8],
    max_depth: usize,
    max_fields: usize,
) -> serde_json::Result<Vec<(String, ColumnType)>> {
    let mut found = Vec::new();
    let mut parser = serde_json::Deserializer::from_slice(payload);
    InferSeed { path: String::new(), depth: 0, max_depth, max_fields, found: &mut found }.deserialize(&mut parser)?;
    parser.end()?;
    Ok(found)
}

struct InferSeed<'f> {
    path: String,
    depth: usize,
    max_depth: usize,
    max_fields: usize,
    found: &'f mut Vec<(String, ColumnType)>,
}

impl InferSeed<'_> {
    fn found<E: Error>(self, column_type: ColumnType) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom("the message is no object"));
        }
        if self.found.len() >= self.max_fields {
            return Err(E::custom(TOO_MANY));
        }
        self.found.push((self.path, column_type));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for InferSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InferSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.depth {
            0 => Err(E::custom("the message is no object")),
            _ => Ok(()),
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.found(ColumnType::Boolean)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.found(ColumnType::Float64)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.found(ColumnType::Float64)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.found(ColumnType::Float64)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.found(ColumnType::Utf8)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.depth == 0 {
            return Err(A::Error::custom("the message is no object"));
        }
        let skip = || SkipSeed { depth: self.depth + 1, max_depth: self.max_depth };
        if self.depth >= self.max_depth {
            return Err(A::Error::custom(TOO_DEEP));
        }
        while items.next_element_seed(skip())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.depth >= self.max_depth {
            return Err(A::Error::custom(TOO_DEEP));
        }
        while let Some(name) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
            if path.len() > MAX_PATH {
                return Err(A::Error::custom(TOO_LONG));
            }
            let (depth, max_depth, max_fields) = (self.depth + 1, self.max_depth, self.max_fields);
            map.next_value_seed(InferSeed { path, depth, max_depth, max_fields, found: &mut *self.found })?;
        }
        Ok(())
    }
}
