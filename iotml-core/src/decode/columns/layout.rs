//! Which columns a decoder fills, and of which type.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::ConfigError;

/// The type of a decoded column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// 32-bit floating point.
    Float32,
    /// 64-bit floating point.
    Float64,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// True or false.
    Boolean,
    /// UTF-8 text.
    Utf8,
    /// Bytes.
    Binary,
    /// Days since the Unix epoch.
    Date,
    /// Milliseconds since the Unix epoch, UTC.
    TimestampMillis,
    /// Microseconds since the Unix epoch, UTC.
    TimestampMicros,
}

/// The storage behind a type: logical types share the storage of their integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    F32,
    F64,
    I32,
    I64,
    Bool,
    Bytes,
}

const N_GROUPS: usize = 6;

impl ColumnType {
    /// The Arrow type of the column.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Float32 => DataType::Float32,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Int32 => DataType::Int32,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Utf8 => DataType::Utf8,
            ColumnType::Binary => DataType::Binary,
            ColumnType::Date => DataType::Date32,
            ColumnType::TimestampMillis => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            ColumnType::TimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    pub(crate) fn group(self) -> Group {
        match self {
            ColumnType::Float32 => Group::F32,
            ColumnType::Float64 => Group::F64,
            ColumnType::Int32 | ColumnType::Date => Group::I32,
            ColumnType::Int64 | ColumnType::TimestampMillis | ColumnType::TimestampMicros => Group::I64,
            ColumnType::Boolean => Group::Bool,
            ColumnType::Utf8 | ColumnType::Binary => Group::Bytes,
        }
    }
}

/// One column that is wanted: `"speed"`, or `{ name = "speed", type = "float32", nullable = false }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnConfig {
    /// Name; a dot leads into a nested record or object.
    pub name: String,
    /// Type; where none is given the decoder takes the type it finds.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub column_type: Option<ColumnType>,
    /// Whether a row without a value is kept, with a null (the default), or rejected.
    pub nullable: bool,
}

impl ColumnConfig {
    /// A nullable column of a type.
    pub fn new(name: impl Into<String>, column_type: ColumnType) -> Self {
        Self { name: name.into(), column_type: Some(column_type), nullable: true }
    }

    /// A nullable column of whatever type is found.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), column_type: None, nullable: true }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ColumnTable {
    /// Name; a dot leads into a nested record or object.
    name: String,
    /// Type; where none is given the decoder takes the type it finds.
    #[serde(rename = "type")]
    column_type: Option<ColumnType>,
    /// Whether a row without a value is kept, with a null, or rejected.
    #[serde(default = "yes")]
    nullable: bool,
}

fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for ColumnConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrTable;

        impl<'de> Visitor<'de> for NameOrTable {
            type Value = ColumnConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column's name or a table with its name and type")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<ColumnConfig, E> {
                Ok(ColumnConfig::named(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnConfig, A::Error> {
                let table = ColumnTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(ColumnConfig { name: table.name, column_type: table.column_type, nullable: table.nullable })
            }
        }

        deserializer.deserialize_any(NameOrTable)
    }
}

impl JsonSchema for ColumnConfig {
    fn schema_name() -> Cow<'static, str> {
        "ColumnConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let table = generator.subschema_for::<ColumnTable>();
        schemars::json_schema!({
            "description": "A column's name, or a table with its name and type.",
            "anyOf": [{ "type": "string" }, table],
        })
    }
}

/// One column in a [`Layout`].
#[derive(Clone, Debug)]
pub(crate) struct LayoutColumn {
    pub name: Arc<str>,
    pub column_type: ColumnType,
    /// Whether the Arrow field may hold nulls.
    pub nullable: bool,
    /// Whether a row without a value is rejected.
    pub required: bool,
    /// Number of the column.
    pub column: u32,
    /// Number within its storage group.
    pub at: u32,
}

/// The columns a decoder fills, in order. Columns are only ever added, so that compiled programs stay valid.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    columns: Vec<LayoutColumn>,
    by_name: HashMap<Arc<str>, u32>,
    n_in_group: [u32; N_GROUPS],
    schema: Option<SchemaRef>,
}

impl Layout {
    pub fn columns(&self) -> &[LayoutColumn] {
        &self.columns
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn get(&self, name: &str) -> Option<&LayoutColumn> {
        self.by_name.get(name).map(|column| &self.columns[*column as usize])
    }

    pub fn n_in_group(&self, group: Group) -> usize {
        self.n_in_group[group as usize] as usize
    }

    /// Adds a column; where one of that name exists it is left as it is. Returns its number.
    pub fn add(&mut self, name: &str, column_type: ColumnType, nullable: bool) -> u32 {
        if let Some(&column) = self.by_name.get(name) {
            return column;
        }
        let name: Arc<str> = name.into();
        let column = self.columns.len() as u32;
        let count = &mut self.n_in_group[column_type.group() as usize];
        self.columns.push(LayoutColumn {
            name: name.clone(),
            column_type,
            nullable,
            required: false,
            column,
            at: *count,
        });
        *count += 1;
        self.by_name.insert(name, column);
        self.schema = None;
        column
    }

    /// Adds a column as it was asked for.
    pub fn add_wanted(&mut self, wanted: &ColumnConfig, column_type: ColumnType) -> u32 {
        let column = self.add(&wanted.name, column_type, wanted.nullable);
        self.columns[column as usize].required = !wanted.nullable;
        column
    }

    /// Lets a column hold nulls from now on, unless a row without its value is rejected.
    pub fn make_nullable(&mut self, column: u32) {
        let column = &mut self.columns[column as usize];
        if !column.nullable && !column.required {
            column.nullable = true;
            self.schema = None;
        }
    }

    /// The Arrow schema, made once per change.
    pub fn schema(&mut self) -> SchemaRef {
        let columns = &self.columns;
        let make = || {
            let field = |c: &LayoutColumn| Field::new(&*c.name, c.column_type.arrow(), c.nullable);
            Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
        };
        self.schema.get_or_insert_with(make).clone()
    }
}

/// Checks what no decoder accepts: no columns, a name given twice or an empty one.
pub(crate) fn check_columns(columns: &[ColumnConfig]) -> Result<(), ConfigError> {
    if columns.is_empty() {
        return Err(ConfigError::new("`columns` is empty: name at least one column or leave it out"));
    }
    for (n, column) in columns.iter().enumerate() {
        if column.name.is_empty() {
            return Err(ConfigError::new("`columns` has a column with an empty name"));
        }
        if columns[..n].iter().any(|other| other.name == column.name) {
            return Err(ConfigError::new(format!("`columns` names {:?} twice", column.name)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_a_name_or_a_table() {
        let columns: Vec<ColumnConfig> =
            serde_json::from_str(r#"["a", {"name": "b", "type": "timestamp_millis", "nullable": false}]"#).unwrap();
        assert_eq!(columns[0], ColumnConfig::named("a"));
        let b = ColumnConfig { nullable: false, ..ColumnConfig::new("b", ColumnType::TimestampMillis) };
        assert_eq!(columns[1], b);
        let wrong = serde_json::from_str::<ColumnConfig>(r#"{"name": "b", "typ": "int32"}"#).unwrap_err();
        assert!(wrong.to_string().contains("unknown field `typ`"), "{wrong}");
        assert!(check_columns(&[ColumnConfig::named("a"), ColumnConfig::named("a")]).is_err());
        assert!(check_columns(&[]).is_err());
    }

    #[test]
    fn adding_a_known_column_changes_nothing() {
        let mut layout = Layout::default();
        layout.add("a", ColumnType::Float32, false);
        let before = layout.schema();
        assert_eq!(layout.add("a", ColumnType::Utf8, true), 0);
        assert!(Arc::ptr_eq(&before, &layout.schema()));
        layout.make_nullable(0);
        assert!(layout.schema().field(0).is_nullable());
    }
}
