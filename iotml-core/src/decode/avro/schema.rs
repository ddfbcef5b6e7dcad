//! A writer's schema, parsed, with its named types at hand.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, Namespace};
use serde_json::Value;

use super::names::check_names;

/// Why a writer's schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Not JSON.
    #[error("the Avro schema is not valid JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// Not an Avro schema.
    #[error("not a valid Avro schema: {0}")]
    Avro(String),
    /// A wanted column cannot be filled.
    #[error("{0}")]
    Column(String),
    /// Deeper or wider than any telemetry.
    #[error("the Avro schema is too large: {0}")]
    TooLarge(String),
}

/// A parsed schema.
pub(crate) struct WriterSchema {
    pub root: Schema,
    names: HashMap<Name, Schema>,
}

/// Longer schemas are refused: every named type is kept once more, so that a nested one costs its length for each level.
const MAX_BYTES: usize = 512 * 1024;

impl WriterSchema {
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        if json.len() > MAX_BYTES {
            return Err(SchemaError::TooLarge(format!("{} bytes, and the limit is {MAX_BYTES}", json.len())));
        }
        let mut value: Value = serde_json::from_str(json).map_err(SchemaError::Json)?;
        check_names(&value)?;
        strip_lossy_logical_types(&mut value);
        let root = Schema::parse(&value).map_err(|source| SchemaError::Avro(source.to_string()))?;
        let mut names = HashMap::new();
        collect_names(&root, &None, &mut names);
        Ok(Self { root, names })
    }

    /// Follows a reference to a named type.
    pub fn named(&self, name: &Name) -> Result<&Schema, SchemaError> {
        self.names.get(name).ok_or_else(|| SchemaError::Avro(format!("no type {:?} is defined", name.fullname(None))))
    }
}

/// The parser forgets whether a `uuid` is text or fixed and what a `duration` is called, so these are read as what is below them.
fn strip_lossy_logical_types(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("logicalType").is_some_and(|logical| logical == "uuid" || logical == "duration") {
                map.remove("logicalType");
            }
            map.values_mut().for_each(strip_lossy_logical_types);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_lossy_logical_types),
        _ => {}
    }
}

fn collect_names(schema: &Schema, enclosing: &Namespace, names: &mut HashMap<Name, Schema>) {
    match schema {
        Schema::Record(record) => {
            let name = record.name.fully_qualified_name(enclosing);
            let namespace = name.namespace.clone();
            names.insert(name, schema.clone());
            record.fields.iter().for_each(|field| collect_names(&field.schema, &namespace, names));
        }
        Schema::Enum(inner) => {
            names.insert(inner.name.fully_qualified_name(enclosing), schema.clone());
        }
        Schema::Fixed(inner) => {
            names.insert(inner.name.fully_qualified_name(enclosing), schema.clone());
        }
        Schema::Decimal(decimal) => {
            if let Schema::Fixed(inner) = &*decimal.inner {
                names.insert(inner.name.fully_qualified_name(enclosing), schema.clone());
            }
        }
        Schema::Array(array) => collect_names(&array.items, enclosing, names),
        Schema::Map(map) => collect_names(&map.types, enclosing, names),
        Schema::Union(union) => union.variants().iter().for_each(|variant| collect_names(variant, enclosing, names)),
        _ => {}
    }
}
