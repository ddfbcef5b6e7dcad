//! Single values into columns of any type, for decoders whose values come one by one.

use arrow::array::types::Date32Type;
use arrow::compute::kernels::cast_utils::{Parser, string_to_timestamp_nanos};

use super::{ColumnType, Columns, Fault, LayoutColumn};
use crate::error::Reason;

/// A value as it was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Columns {
    /// Writes a value to the current row, cast to the type of the column.
    ///
    /// Integers become floats, and floats without a fraction become integers within their range; booleans become 0 and
    /// 1; text becomes dates and times in RFC 3339 form. Text becomes no number here: see [`Columns::put_text`].
    pub fn put(&mut self, column: &LayoutColumn, value: Scalar<'_>) -> Result<(), Fault> {
        let (row, at) = (self.row(), column.at as usize);
        let put = match column.column_type {
            ColumnType::Float32 => float(value).and_then(single).map(|value| self.f32s[at][row] = value),
            ColumnType::Float64 => float(value).map(|value| self.f64s[at][row] = value),
            ColumnType::Int32 => int(value).and_then(narrow).map(|value| self.i32s[at][row] = value),
            ColumnType::Int64 => int(value).map(|value| self.i64s[at][row] = value),
            ColumnType::Boolean => boolean(value).map(|value| self.bools[at][row] = value),
            ColumnType::Date => date(value).map(|value| self.i32s[at][row] = value),
            ColumnType::TimestampMillis => time(value, 1_000_000).map(|value| self.i64s[at][row] = value),
            ColumnType::TimestampMicros => time(value, 1_000).map(|value| self.i64s[at][row] = value),
            ColumnType::Utf8 => text(value).and_then(|value| self.put_bytes(column.at, value.as_bytes())),
            ColumnType::Binary => bytes(value).and_then(|value| self.put_bytes(column.at, value)),
        };
        put.map_err(|fault| fault.at(column.column))
    }

    /// Writes text to the current row, parsed into the type of the column.
    pub fn put_text(&mut self, column: &LayoutColumn, value: &str) -> Result<(), Fault> {
        match column.column_type {
            ColumnType::Float32 | ColumnType::Float64 => {
                let number = value.trim().parse::<f64>().map_err(|_| unparsed("not a number").at(column.column))?;
                if !number.is_finite() {
                    return Err(Fault::new(Reason::NonFinite, "not a finite number").at(column.column));
                }
                self.put(column, Scalar::Float(number))
            }
            ColumnType::Int32 | ColumnType::Int64 => {
                let number = value.trim().parse::<i64>().map_err(|_| unparsed("not an integer").at(column.column))?;
                self.put(column, Scalar::Int(number))
            }
            ColumnType::Boolean => match value.trim() {
                "true" | "True" | "TRUE" | "1" => self.put(column, Scalar::Bool(true)),
                "false" | "False" | "FALSE" | "0" => self.put(column, Scalar::Bool(false)),
                _ => Err(unparsed("neither true nor false").at(column.column)),
            },
            ColumnType::Date | ColumnType::TimestampMillis | ColumnType::TimestampMicros => match value.parse() {
                Ok(number) => self.put(column, Scalar::Int(number)),
                Err(_) => self.put(column, Scalar::Text(value)),
            },
            ColumnType::Utf8 | ColumnType::Binary => self.put(column, Scalar::Text(value)),
        }
    }
}

#[cold]
fn unparsed(detail: &'static str) -> Fault {
    Fault::new(Reason::Malformed, detail)
}

#[cold]
fn misfit(detail: &'static str) -> Fault {
    Fault::new(Reason::WrongSchema, detail)
}

#[inline]
fn float(value: Scalar<'_>) -> Result<f64, Fault> {
    match value {
        Scalar::Float(value) => Ok(value),
        Scalar::Int(value) => Ok(value as f64),
        Scalar::Bool(value) => Ok(f64::from(u8::from(value))),
        Scalar::Text(_) | Scalar::Bytes(_) => Err(misfit("text where a number is expected")),
    }
}

#[inline]
fn single(value: f64) -> Result<f32, Fault> {
    let narrow = value as f32;
    if narrow.is_infinite() && value.is_finite() {
        return Err(Fault::new(Reason::OutOfRange, "does not fit a 32-bit float"));
    }
    Ok(narrow)
}

fn int(value: Scalar<'_>) -> Result<i64, Fault> {
    /// 2^63: the first float beyond the integers.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    match value {
        Scalar::Int(value) => Ok(value),
        Scalar::Bool(value) => Ok(i64::from(value)),
        Scalar::Float(value) if value.fract() == 0.0 && (-BEYOND..BEYOND).contains(&value) => Ok(value as i64),
        Scalar::Float(value) if value.fract() == 0.0 => Err(out_of_range()),
        Scalar::Float(_) => Err(misfit("a fraction where an integer is expected")),
        Scalar::Text(_) | Scalar::Bytes(_) => Err(misfit("text where an integer is expected")),
    }
}

fn narrow(value: i64) -> Result<i32, Fault> {
    i32::try_from(value).map_err(|_| out_of_range())
}

#[cold]
pub(super) fn out_of_range() -> Fault {
    Fault::new(Reason::OutOfRange, "does not fit the integer type")
}

fn boolean(value: Scalar<'_>) -> Result<bool, Fault> {
    match value {
        Scalar::Bool(value) => Ok(value),
        _ => Err(misfit("neither true nor false")),
    }
}

fn date(value: Scalar<'_>) -> Result<i32, Fault> {
    match value {
        Scalar::Text(text) => Date32Type::parse(text).ok_or_else(|| unparsed("not a date such as 2026-01-31")),
        other => int(other).and_then(narrow),
    }
}

fn time(value: Scalar<'_>, nanos_per_unit: i64) -> Result<i64, Fault> {
    match value {
        Scalar::Text(text) => string_to_timestamp_nanos(text)
            .map(|nanos| nanos.div_euclid(nanos_per_unit))
            .map_err(|_| unparsed("not a time such as 2026-01-31T12:00:00Z")),
        other => int(other),
    }
}

fn text(value: Scalar<'_>) -> Result<&str, Fault> {
    match value {
        Scalar::Text(text) => Ok(text),
        Scalar::Bytes(bytes) => {
            str::from_utf8(bytes).map_err(|_| Fault::new(Reason::NotUtf8, "text that is not UTF-8"))
        }
        _ => Err(misfit("no text where text is expected")),
    }
}

fn bytes(value: Scalar<'_>) -> Result<&[u8], Fault> {
    match value {
        Scalar::Text(text) => Ok(text.as_bytes()),
        Scalar::Bytes(bytes) => Ok(bytes),
        _ => Err(misfit("no bytes where bytes are expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::columns::Layout;

    fn try_put(column_type: ColumnType, value: Scalar<'_>) -> Result<String, Reason> {
        let mut layout = Layout::default();
        layout.add("v", column_type, true);
        let mut columns = Columns::new(&layout, 1);
        columns.put(&layout.columns()[0].clone(), value).map_err(|fault| fault.reason)?;
        columns.commit();
        let batch = columns.finish(&mut layout).unwrap();
        // Printing a time in its zone needs a database of zones.
        let array = match batch.column(0).data_type() {
            arrow::datatypes::DataType::Timestamp(..) => {
                arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Int64).unwrap()
            }
            _ => batch.column(0).clone(),
        };
        Ok(arrow::util::display::array_value_to_string(&array, 0).unwrap())
    }

    #[test]
    fn values_are_cast_or_refused() {
        use ColumnType::*;
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(try_put(Int32, Scalar::Float(3.0)), ok("3"));
        assert_eq!(try_put(Int32, Scalar::Float(3.5)), Err(Reason::WrongSchema));
        assert_eq!(try_put(Int32, Scalar::Int(1 << 40)), Err(Reason::OutOfRange));
        assert_eq!(try_put(Int64, Scalar::Float(1e300)), Err(Reason::OutOfRange));
        assert_eq!(try_put(Int64, Scalar::Float(f64::NAN)), Err(Reason::WrongSchema));
        assert_eq!(try_put(Float32, Scalar::Bool(true)), ok("1.0"));
        assert_eq!(try_put(Float32, Scalar::Text("1")), Err(Reason::WrongSchema));
        assert_eq!(try_put(Date, Scalar::Text("1970-01-03")), ok("1970-01-03"));
        assert_eq!(try_put(TimestampMillis, Scalar::Text("1970-01-01T00:00:01Z")), ok("1000"));
        assert_eq!(try_put(TimestampMicros, Scalar::Text("soon")), Err(Reason::Malformed));
        assert_eq!(try_put(Utf8, Scalar::Bytes(&[0xff])), Err(Reason::NotUtf8));
        assert_eq!(try_put(Boolean, Scalar::Int(1)), Err(Reason::WrongSchema));
    }
}
