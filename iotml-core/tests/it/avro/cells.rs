//! Values as they stand in columns, comparable bit by bit.

use std::collections::BTreeMap;

use apache_avro::types::Value;
use iotml_core::arrow::array::{Array, ArrayRef, AsArray};
use iotml_core::arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType,
};
use iotml_core::decode::{AvroDecoder, AvroDecoderConfig};

use super::types::Type;

/// A value in a column, comparable bit by bit.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    F32(u32),
    F64(u64),
    Text(String),
    Bytes(Vec<u8>),
}

/// What the columns of a value must be.
pub fn cells(t: &Type, value: Option<&Value>, path: &str, out: &mut BTreeMap<String, Cell>) {
    let path = if path.is_empty() && !matches!(t, Type::Record(_)) { "value" } else { path };
    let value = match value {
        Some(Value::Union(_, inner)) => Some(&**inner),
        other => other,
    };
    let cell = match (t, value) {
        (Type::Nullable(inner, _), Some(Value::Null) | None) => return cells(inner, None, path, out),
        (Type::Nullable(inner, _), value) => return cells(inner, value, path, out),
        (Type::Null | Type::Array(_) | Type::Map(_), _) => return,
        (Type::Record(fields), value) => {
            for (f, t) in fields.iter().enumerate() {
                let value = match value {
                    Some(Value::Record(values)) => Some(&values[f].1),
                    _ => None,
                };
                let name = if path.is_empty() { format!("f{f}") } else { format!("{path}.f{f}") };
                cells(t, value, &name, out);
            }
            return;
        }
        (_, None | Some(Value::Null)) => Cell::Null,
        (Type::Numbers, Some(Value::Int(v))) => Cell::F64(f64::from(*v).to_bits()),
        (Type::Decimal(scale), Some(Value::Decimal(decimal))) => {
            let bytes: Vec<u8> = decimal.try_into().unwrap();
            let number = bytes.iter().fold(i64::from(bytes[0] as i8 >> 7), |n, b| n << 8 | i64::from(*b));
            Cell::F64((number as f64 / 10f64.powi(*scale as i32)).to_bits())
        }
        (_, Some(Value::Boolean(v))) => Cell::Bool(*v),
        (_, Some(Value::Int(v) | Value::Date(v))) => Cell::Int(i64::from(*v)),
        (_, Some(Value::Long(v) | Value::TimestampMillis(v) | Value::TimestampMicros(v))) => Cell::Int(*v),
        (_, Some(Value::Float(v))) => Cell::F32(v.to_bits()),
        (_, Some(Value::Double(v))) => Cell::F64(v.to_bits()),
        (_, Some(Value::String(v) | Value::Enum(_, v))) => Cell::Text(v.clone()),
        (_, Some(Value::Bytes(v) | Value::Fixed(_, v))) => Cell::Bytes(v.clone()),
        other => panic!("no expectation for {other:?}"),
    };
    out.insert(path.to_owned(), cell);
}

pub fn cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => Cell::Int(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Cell::Int(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        DataType::Timestamp(..) => Cell::Int(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Float32 => Cell::F32(array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => Cell::F64(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        other => panic!("a column of type {other}"),
    }
}

pub fn decoded(batch: &iotml_core::batch::Batch, row: usize) -> BTreeMap<String, Cell> {
    let columns = batch.columns();
    let names = columns.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    names.into_iter().zip(columns.columns()).map(|(name, array)| (name, cell(array, row))).collect()
}

pub fn expected(t: &Type, value: &Value) -> BTreeMap<String, Cell> {
    let mut out = BTreeMap::new();
    cells(t, Some(value), "", &mut out);
    out
}

pub fn decoder(schema: &str) -> AvroDecoder {
    AvroDecoder::new(AvroDecoderConfig::new(schema)).unwrap()
}
