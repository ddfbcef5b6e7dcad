//! An Avro schema for Arrow columns.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use serde_json::{Value, json};

/// A record schema with a field for each column. A column that may be null becomes a union with null, whose default is null.
pub(super) fn derive(columns: &Schema, name: &str, namespace: Option<&str>) -> Result<Value, String> {
    let mut fields: Vec<Value> = Vec::with_capacity(columns.fields().len());
    for column in columns.fields() {
        let name = field_name(column.name());
        if fields.iter().any(|field| field["name"] == name.as_str()) {
            return Err(format!("column {:?} would be the second field called {name:?}: rename one", column.name()));
        }
        let avro = avro_type(column.data_type()).ok_or_else(|| {
            format!("column {:?} of type {} has no Avro type: leave it out", column.name(), column.data_type())
        })?;
        fields.push(match column.is_nullable() {
            true => json!({ "name": name, "type": nullable(avro), "default": null }),
            false => json!({ "name": name, "type": avro }),
        });
    }
    let mut schema = json!({ "type": "record", "name": name, "fields": fields });
    if let Some(namespace) = namespace {
        schema["namespace"] = namespace.into();
    }
    Ok(schema)
}

/// A column's name as Avro allows it: letters, digits and underscores.
pub(super) fn field_name(column: &str) -> String {
    let mut name: String = column.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        name.insert(0, '_');
    }
    name
}

fn nullable(avro: Value) -> Value {
    match avro {
        Value::String(null) if null == "null" => Value::String(null),
        avro => json!(["null", avro]),
    }
}

fn avro_type(arrow: &DataType) -> Option<Value> {
    let item = |field: &Field| {
        let avro = avro_type(field.data_type())?;
        let items = if field.is_nullable() { nullable(avro) } else { avro };
        Some(json!({ "type": "array", "items": items }))
    };
    Some(match arrow {
        DataType::Null => json!("null"),
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => json!("int"),
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => json!("long"),
        DataType::Float16 | DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            json!("bytes")
        }
        DataType::Date32 => json!({ "type": "int", "logicalType": "date" }),
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) => {
            json!({ "type": "long", "logicalType": "timestamp-millis" })
        }
        DataType::Timestamp(..) => json!({ "type": "long", "logicalType": "timestamp-micros" }),
        DataType::Dictionary(_, value) => avro_type(value)?,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => item(field)?,
        _ => return None,
    })
}
