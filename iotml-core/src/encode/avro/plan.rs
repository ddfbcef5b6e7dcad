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
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit};

use super::derive::field_name;
use crate::decode::WriterSchema;

/// Index of the value's branch and of null's, in a union with null.
type Branches = (u8, u8);

/// A field, ready to be written row by row.
pub(super) struct Node {
    pub writer: Writer,
    /// Index of the value's branch and of null's, where the schema is a union with null.
    pub union: Option<Branches>,
    /// Where the column was null before it was cast: a value that is null only afterwards did not fit.
    pub nulls: Option<NullBuffer>,
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
pub(super) fn plan(schema: &WriterSchema, columns: &RecordBatch) -> Result<Vec<Node>, String> {
    let plan = Plan { schema, columns };
    match &schema.root {
        Schema::Record(record) => record.fields.iter().map(|field| plan.field(field, "")).collect(),
        _ => Err("the Avro schema is no record".to_owned()),
    }
}

struct Plan<'a> {
    schema: &'a WriterSchema,
    columns: &'a RecordBatch,
}

impl Plan<'_> {
    fn field(&self, field: &RecordField, prefix: &str) -> Result<Node, String> {
        let path = if prefix.is_empty() { field.name.clone() } else { format!("{prefix}.{}", field.name) };
        let inside = format!("{path}.");
        let column = self.find(&path);
        if column.is_none() && !self.columns.schema().fields().iter().any(|column| column.name().starts_with(&inside)) {
            return self.absent(field, &path);
        }
        let (schema, union) = self.branches(&field.schema, &path)?;
        match (schema, column) {
            // Each level takes a longer name of a column, so a record within itself comes to an end.
            (Schema::Record(record), None) => {
                let fields = record.fields.iter().map(|field| self.field(field, &path));
                let writer = Writer::Record(fields.collect::<Result<_, _>>()?);
                Ok(Node { writer, union, nulls: None, name: path.into() })
            }
            (schema, Some(array)) => self.node(schema, union, array, path),
            (_, None) => self.absent(field, &path),
        }
    }

    /// The schema of the values, and the branches of a union with null.
    fn branches<'s>(&'s self, schema: &'s Schema, path: &str) -> Result<(&'s Schema, Option<Branches>), String> {
        let (value, union) = match schema {
            Schema::Union(union) => match union.variants() {
                [Schema::Null, value] => (value, Some((1, 0))),
                [value, Schema::Null] => (value, Some((0, 1))),
                _ => {
                    return Err(format!(
                        "field {path:?} is a union of more than null and one type, which no column fills"
                    ));
                }
            },
            value => (value, None),
        };
        match value {
            Schema::Ref { name } => Ok((self.schema.named(name).map_err(|error| error.to_string())?, union)),
            value => Ok((value, union)),
        }
    }

    /// The column called `path`, or the one whose name becomes `path` where Avro does not allow its own.
    fn find(&self, path: &str) -> Option<ArrayRef> {
        if let Some(array) = self.columns.column_by_name(path) {
            return Some(array.clone());
        }
        let schema = self.columns.schema();
        let at = schema.fields().iter().position(|field| field_name(field.name()) == path)?;
        Some(self.columns.column(at).clone())
    }

    /// A field without a column: its default, or null.
    fn absent(&self, field: &RecordField, path: &str) -> Result<Node, String> {
        let constant = |bytes| Node { writer: Writer::Constant(bytes), union: None, nulls: None, name: path.into() };
        if let Some(default) = &field.default {
            let encoded = Value::from(default.clone())
                .resolve(&field.schema)
                .and_then(|value| to_avro_datum(&field.schema, value))
                .map_err(|error| format!("the default of field {path:?} does not fit its type: {error}"))?;
            return Ok(constant(encoded));
        }
        if let Ok((_, Some((_, null)))) = self.branches(&field.schema, path) {
            return Ok(constant(vec![null * 2]));
        }
        let schema = self.columns.schema();
        let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        Err(format!(
            "field {path:?} has no default and there is no column of that name: there are {}",
            known.join(", ")
        ))
    }

    fn node(&self, schema: &Schema, union: Option<Branches>, array: ArrayRef, path: String) -> Result<Node, String> {
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
        let bytes = matches!(
            from,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
        );
        let time = |unit: TimeUnit| -> Result<Int64Array, String> {
            let zone = match from {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let times = if matches!(from, DataType::Timestamp(..)) {
                to(DataType::Timestamp(unit, zone))?
            } else {
                array.clone()
            };
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
                let (schema, union) = self.branches(&items.items, &path)?;
                Writer::Array { offsets, item: Box::new(self.node(schema, union, values, path.clone())?) }
            }
            _ => return Err(misfit()),
        };
        Ok(Node { writer, union, nulls: array.logical_nulls(), name: path.into() })
    }
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
