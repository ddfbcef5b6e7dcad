//! Arrow values as JSON.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, ListArray,
    StringArray, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, UInt64Type,
};
use arrow::temporal_conversions::{timestamp_ms_to_datetime, timestamp_us_to_datetime};
use arrow::util::display::array_value_to_string;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::ser::{CompactFormatter, Formatter};

use super::{NonFinite, Times};
use crate::encode::EncodeError;
use crate::error::{Cause, Reason};

/// A name as it stands in front of a value: quoted, escaped, with its colon.
pub(super) fn name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 3);
    text(name, &mut out);
    out.push(b':');
    out
}

/// The same values in one of the types that [`Value`] knows: small numbers, views and dictionaries are cast.
pub(super) fn plain(array: ArrayRef) -> Result<ArrayRef, EncodeError> {
    let to = match plain_type(array.data_type()) {
        Some(to) => to,
        None => return Ok(array),
    };
    cast(&array, &to).map_err(|source| EncodeError::fatal_from(format!("a column cannot be cast to {to}"), source))
}

/// What a type is cast to; `None` where it stays as it is.
fn plain_type(from: &DataType) -> Option<DataType> {
    use DataType::*;
    match from {
        Int8 | Int16 | UInt8 | UInt16 => Some(Int32),
        UInt32 => Some(Int64),
        Float16 => Some(Float32),
        LargeUtf8 | Utf8View => Some(Utf8),
        LargeBinary | BinaryView => Some(Binary),
        Timestamp(TimeUnit::Second, zone) => Some(Timestamp(TimeUnit::Millisecond, zone.clone())),
        Timestamp(TimeUnit::Nanosecond, zone) => Some(Timestamp(TimeUnit::Microsecond, zone.clone())),
        Dictionary(_, value) => Some(plain_type(value).unwrap_or_else(|| (**value).clone())),
        LargeList(item) | ListView(item) | LargeListView(item) => Some(List(plain_item(item).unwrap_or(item.clone()))),
        List(item) => plain_item(item).map(List),
        FixedSizeList(item, n) => plain_item(item).map(|item| FixedSizeList(item, *n)),
        _ => None,
    }
}

fn plain_item(item: &std::sync::Arc<Field>) -> Option<std::sync::Arc<Field>> {
    plain_type(item.data_type()).map(|to| Field::new(item.name(), to, item.is_nullable()).into())
}

/// The values of a column, typed once per batch.
pub(super) struct Value<'a> {
    array: &'a ArrayRef,
    nulls: Option<&'a NullBuffer>,
    typed: Typed<'a>,
}

enum Typed<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U64(&'a [u64]),
    Bool(&'a BooleanArray),
    Utf8(&'a StringArray),
    Binary(&'a BinaryArray),
    FixedBinary(&'a FixedSizeBinaryArray),
    Millis(&'a [i64]),
    Micros(&'a [i64]),
    List(&'a ListArray, Box<Value<'a>>),
    FixedList(&'a FixedSizeListArray, Box<Value<'a>>),
    Struct(Vec<(Vec<u8>, Value<'a>)>),
    Null,
    /// Whatever Arrow can print, as text.
    Other,
}

impl<'a> Value<'a> {
    pub fn of(array: &'a ArrayRef) -> Value<'a> {
        let typed = match array.data_type() {
            DataType::Null => Typed::Null,
            DataType::Float32 => Typed::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Typed::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Int32 => Typed::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Typed::I64(array.as_primitive::<Int64Type>().values()),
            DataType::UInt64 => Typed::U64(array.as_primitive::<UInt64Type>().values()),
            DataType::Boolean => Typed::Bool(array.as_boolean()),
            DataType::Utf8 => Typed::Utf8(array.as_string()),
            DataType::Binary => Typed::Binary(array.as_binary()),
            DataType::FixedSizeBinary(_) => Typed::FixedBinary(array.as_fixed_size_binary()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Typed::Millis(array.as_primitive::<TimestampMillisecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Typed::Micros(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Typed::List(list, Box::new(Value::of(list.values())))
            }
            DataType::FixedSizeList(..) => {
                let list = array.as_fixed_size_list();
                Typed::FixedList(list, Box::new(Value::of(list.values())))
            }
            DataType::Struct(_) => {
                let fields: &StructArray = array.as_struct();
                let pairs = fields.column_names().into_iter().zip(fields.columns());
                Typed::Struct(pairs.map(|(name, array)| (self::name(name), Value::of(array))).collect())
            }
            _ => Typed::Other,
        };
        Value { array, nulls: array.nulls(), typed }
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row)) || matches!(self.typed, Typed::Null)
    }
}

/// Writes values with the options of the encoder.
pub(super) struct Writer {
    pub non_finite: NonFinite,
    pub times: Times,
}

impl Writer {
    pub fn write(&self, value: &Value<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Cause> {
        if value.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match &value.typed {
            Typed::F32(values) if values[row].is_finite() => float32(values[row], out),
            Typed::F64(values) if values[row].is_finite() => float64(values[row], out),
            Typed::F32(_) | Typed::F64(_) => return self.write_non_finite(out),
            Typed::I32(values) => integer(i64::from(values[row]), out),
            Typed::I64(values) => integer(values[row], out),
            Typed::U64(values) => out.extend_from_slice(values[row].to_string().as_bytes()),
            Typed::Bool(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Typed::Utf8(values) => text(values.value(row), out),
            Typed::Binary(values) => base64(values.value(row), out),
            Typed::FixedBinary(values) => base64(values.value(row), out),
            Typed::Millis(values) if self.times == Times::Millis => integer(values[row], out),
            Typed::Micros(values) if self.times == Times::Millis => integer(values[row].div_euclid(1_000), out),
            Typed::List(list, items) => {
                let offsets = list.value_offsets();
                self.write_items(items, offsets[row] as usize..offsets[row + 1] as usize, out)?;
            }
            Typed::FixedList(list, items) => {
                let n = list.value_length() as usize;
                self.write_items(items, list.value_offset(row) as usize..list.value_offset(row) as usize + n, out)?;
            }
            Typed::Struct(fields) => {
                out.push(b'{');
                for (n, (name, value)) in fields.iter().enumerate() {
                    if n > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(name);
                    self.write(value, row, out)?;
                }
                out.push(b'}');
            }
            Typed::Null => out.extend_from_slice(b"null"),
            Typed::Millis(values) => self.write_time(timestamp_ms_to_datetime(values[row]), value.array, out)?,
            Typed::Micros(values) => self.write_time(timestamp_us_to_datetime(values[row]), value.array, out)?,
            Typed::Other => {
                let shown = array_value_to_string(value.array, row);
                text(&shown.map_err(|error| Cause::new(Reason::OutOfRange, error.to_string()))?, out);
            }
        }
        Ok(())
    }

    fn write_items(&self, items: &Value<'_>, range: std::ops::Range<usize>, out: &mut Vec<u8>) -> Result<(), Cause> {
        out.push(b'[');
        for item in range.clone() {
            if item > range.start {
                out.push(b',');
            }
            self.write(items, item, out)?;
        }
        out.push(b']');
        Ok(())
    }

    /// Points in time with a zone are UTC underneath, whatever the zone.
    fn write_time(&self, time: Option<impl std::fmt::Debug>, array: &ArrayRef, out: &mut Vec<u8>) -> Result<(), Cause> {
        let time = time.ok_or_else(|| Cause::new(Reason::OutOfRange, "a time beyond the years that can be written"))?;
        let zone = if matches!(array.data_type(), DataType::Timestamp(_, Some(_))) { "Z" } else { "" };
        out.extend_from_slice(format!("\"{time:?}{zone}\"").as_bytes());
        Ok(())
    }

    #[cold]
    fn write_non_finite(&self, out: &mut Vec<u8>) -> Result<(), Cause> {
        match self.non_finite {
            NonFinite::Null => Ok(out.extend_from_slice(b"null")),
            NonFinite::Reject => Err(Cause::new(Reason::NonFinite, "NaN or infinity, which JSON does not have")),
        }
    }
}

/// Writing to a vector cannot fail, so the results of the formatter say nothing.
#[inline]
fn float32(value: f32, out: &mut Vec<u8>) {
    let _ = CompactFormatter.write_f32(out, value);
}

#[inline]
fn float64(value: f64, out: &mut Vec<u8>) {
    let _ = CompactFormatter.write_f64(out, value);
}

#[inline]
pub(super) fn integer(value: i64, out: &mut Vec<u8>) {
    let _ = CompactFormatter.write_i64(out, value);
}

pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

fn base64(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(value).as_bytes());
    out.push(b'"');
}
