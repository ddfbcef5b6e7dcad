//! How the fields of an Avro schema are filled from the columns of one batch.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::schema::RecordField;
use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::derive::field_name;

/// A field, ready to be written row by row.
pub(super) struct Node {
    pub writer: Writer,
    /// Index of the value's branch and of null's, where the schema is a union with null.
    pub union: Option<(u8, u8)>,
    /// The column before it was cast: a value that is null only afterwards did not fit.
    pub original: Option<ArrayRef>,
    pub name: Box<str>,
}

/// How values are written.
pub(super) enum Writer {
    Bool(BooleanArray),
    Int(Int32Array),
    Long(Int64Array),
    Float(Float32Array),
    Double(Float64Array),
    Text(StringArray),
    Bytes(BinaryArray),
    Fixed(BinaryArray, usize),
    Enum(StringArray, HashMap<String, usize>),
    Array {
        offsets: Vec<usize>,
        item: Box<Node>,
    },
    Record(Vec<Node>),
    /// The same bytes in every row: null, or the default of a field without a column.
    Constant(Vec<u8>),
}

/// Fills the fields of `schema`, which is a record, from `columns`.
pub(super) fn plan(schema: &Schema, columns: &RecordBatch) -> Result<Vec<Node>, String> {
    match schema {
        Schema::Record(record) => record.fields.iter().map(|field| plan_field(field, "", columns)).collect(),
        _ => Err("the Avro schema is no record".to_owned()),
    }
}

fn plan_field(field: &RecordField, prefix: &str, columns: &RecordBatch) -> Result<Node, String> {
    let path = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
    let (schema, union) = branches(&field.schema, &path)?;
    if let Schema::Record(record) = schema {
        let inside = format!("{path}.");
        let known = columns.schema().fields().iter().any(|column| column.name().starts_with(&inside));
        if known {
            let fields = record.fields.iter().map(|field| plan_field(field, &path, columns));
            let writer = Writer::Record(fields.collect::<Result<_, _>>()?);
            return Ok(Node { writer, union, original: None, name: path.into() });
        }
    }
    match find(columns, &path) {
        Some(array) => node(schema, union, array, path),
        None => absent(field, union, &path, columns),
    }
}

/// The schema of the values, and the branches of a union with null.
fn branches<'s>(schema: &'s Schema, path: &str) -> Result<(&'s Schema, Option<(u8, u8)>), String> {
    let Schema::Union(union) = schema else { return Ok((schema, None)) };
    match union.variants() {
        [Schema::Null, value] => Ok((value, Some((1, 0)))),
        [value, Schema::Null] => Ok((value, Some((0, 1)))),
        _ => Err(format!(
            "field {path:?} is a union of more than null and one type, which cannot be written from a column"
        )),
    }
}

/// The column called `path`, or the one whose name becomes `path` where Avro does not allow its own.
fn find(columns: &RecordBatch, path: &str) -> Option<ArrayRef> {
    if let Some(array) = columns.column_by_name(path) {
        return Some(array.clone());
    }
    let schema = columns.schema();
    let at = schema.fields().iter().position(|field| field_name(field.name()) == path)?;
    Some(columns.column(at).clone())
}

fn absent(field: &RecordField, union: Option<(u8, u8)>, path: &str, columns: &RecordBatch) -> Result<Node, String> {
    let constant = |bytes| Node { writer: Writer::Constant(bytes), union: None, original: None, name: path.into() };
    if let Some(default) = &field.default {
        let encoded = Value::from(default.clone())
            .resolve(&field.schema)
            .and_then(|value| to_avro_datum(&field.schema, value))
            .map_err(|error| format!("the default of field {path:?} does not fit its type: {error}"))?;
        return Ok(constant(encoded));
    }
    if let Some((_, null)) = union {
        return Ok(constant(vec![null * 2]));
    }
    let schema = columns.schema();
    let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    Err(format!("field {path:?} has no default and there is no column of that name: there are {}", known.join(", ")))
}

fn node(schema: &Schema, union: Option<(u8, u8)>, array: ArrayRef, path: String) -> Result<Node, String> {
    let misfit =
        || format!("column {path:?} is of type {} and cannot be written as Avro {schema:?}", array.data_type());
    let to = |to: DataType| cast(&array, &to).map_err(|error| format!("column {path:?}: {error}"));
    let from = match array.data_type() {
        DataType::Dictionary(_, value) => &**value,
        other => other,
    };
    let integer = from.is_integer();
    let number = integer || from.is_floating();
    let text = matches!(from, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let bytes =
        matches!(from, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_));
    let time = |unit: TimeUnit| -> Result<Int64Array, String> {
        let zone = match from {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let times =
            if matches!(from, DataType::Timestamp(..)) { to(DataType::Timestamp(unit, zone))? } else { array.clone() };
        let longs = cast(&times, &DataType::Int64).map_err(|error| format!("column {path:?}: {error}"))?;
        Ok(longs.as_primitive().clone())
    };
    let writer = match schema {
        Schema::Null => Writer::Constant(Vec::new()),
        Schema::Boolean if *from == DataType::Boolean => Writer::Bool(to(DataType::Boolean)?.as_boolean().clone()),
        Schema::Int | Schema::TimeMillis if integer => Writer::Int(to(DataType::Int32)?.as_primitive().clone()),
        Schema::Date if integer || *from == DataType::Date32 => {
            Writer::Int(to(DataType::Int32)?.as_primitive().clone())
        }
        Schema::Long | Schema::TimeMicros if integer => Writer::Long(to(DataType::Int64)?.as_primitive().clone()),
        Schema::TimestampMillis if integer || matches!(from, DataType::Timestamp(..)) => {
            Writer::Long(time(TimeUnit::Millisecond)?)
        }
        Schema::TimestampMicros if integer || matches!(from, DataType::Timestamp(..)) => {
            Writer::Long(time(TimeUnit::Microsecond)?)
        }
        Schema::Float if number => Writer::Float(to(DataType::Float32)?.as_primitive().clone()),
        Schema::Double if number => Writer::Double(to(DataType::Float64)?.as_primitive().clone()),
        Schema::String | Schema::Uuid if text => Writer::Text(to(DataType::Utf8)?.as_string().clone()),
        Schema::Enum(symbols) if text => {
            let numbers = symbols.symbols.iter().cloned().zip(0..).collect();
            Writer::Enum(to(DataType::Utf8)?.as_string().clone(), numbers)
        }
        Schema::Bytes if bytes || text => Writer::Bytes(to(DataType::Binary)?.as_binary().clone()),
        Schema::Fixed(fixed) if bytes => Writer::Fixed(to(DataType::Binary)?.as_binary().clone(), fixed.size),
        Schema::Array(items) => {
            let (offsets, values) = lists(&array).ok_or_else(misfit)?;
            let (schema, union) = branches(&items.items, &path)?;
            Writer::Array { offsets, item: Box::new(node(schema, union, values, path.clone())?) }
        }
        _ => return Err(misfit()),
    };
    Ok(Node { writer, union, original: Some(array), name: path.into() })
}

/// Where each row's items begin and end, and the items.
fn lists(array: &ArrayRef) -> Option<(Vec<usize>, ArrayRef)> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            Some((list.value_offsets().iter().map(|offset| *offset as usize).collect(), list.values().clone()))
        }
        DataType::FixedSizeList(field, _) | DataType::LargeList(field) => {
            let item: Arc<Field> = field.clone();
            let list = cast(array, &DataType::List(item)).ok()?;
            lists(&list)
        }
        _ => None,
    }
}
