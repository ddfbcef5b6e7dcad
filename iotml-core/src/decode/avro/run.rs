//! Runs a compiled schema over one datum.

use super::bytes::{array, blob, branch, long, malformed, narrow, no_branch, take, truncated};
use super::compile::{Number, Op, Program};
use super::leaf::Wire;
use super::skip::skip;
use crate::decode::columns::{Columns, Fault, Group, LayoutColumn, Scalar};
use crate::error::Reason;

impl Program {
    /// Writes one datum to the current row of `columns`; the caller commits or rolls back.
    #[inline]
    pub fn run(&self, datum: &[u8], columns: &mut Columns) -> Result<(), Fault> {
        let mut rest = datum;
        run(&self.ops, &self.named, &mut rest, columns)?;
        if !rest.is_empty() {
            return Err(Fault::new(Reason::TrailingBytes, "bytes are left over behind the record"));
        }
        for column in &self.absent {
            columns.put_null(column)?;
        }
        Ok(())
    }
}

fn run(ops: &[Op], named: &[Box<[Op]>], rest: &mut &[u8], columns: &mut Columns) -> Result<(), Fault> {
    for op in ops {
        match op {
            Op::Numbers { wire, to, run } => numbers(*wire, *to, run.first, &run.columns, rest, columns)?,
            Op::Nullables { wire, to, null, columns: into } => nullables(*wire, *to, *null, into, rest, columns)?,
            Op::Text(target) => {
                let text = blob(rest).map_err(|fault| fault.at(target.column))?;
                if str::from_utf8(text).is_err() {
                    return Err(Fault::new(Reason::NotUtf8, "text that is not UTF-8").at(target.column));
                }
                columns.put_bytes(target.at, text)?;
            }
            Op::Blob(target) => {
                let bytes = blob(rest).map_err(|fault| fault.at(target.column))?;
                columns.put_bytes(target.at, bytes)?;
            }
            Op::Cast { wire, column } => {
                cast(wire, rest, |value| match value {
                    Scalar::Text(text) => columns.put_text(column, text),
                    value => columns.put(column, value),
                })
                .map_err(|fault| fault.at(column.column))?;
            }
            Op::Union(branches) => {
                let branch = branches.get(branch(rest)?).ok_or_else(no_branch)?;
                run(&branch.ops, named, rest, columns)?;
                for column in &branch.nulls {
                    columns.put_null(column)?;
                }
            }
            skip_op => skip(skip_op, named, rest, 0)?,
        }
    }
    Ok(())
}

/// Numbers into neighbouring columns of a group, of which `first` is the first; `names` are for messages.
#[inline(always)]
fn numbers(
    wire: Number,
    to: Group,
    first: usize,
    names: &[u32],
    rest: &mut &[u8],
    columns: &mut Columns,
) -> Result<(), Fault> {
    let row = columns.row();
    let range = first..first + names.len();
    macro_rules! run {
        ($read:ident, $group:ident, $convert:expr) => {
            $read(names, rest, row, &mut columns.$group[range], $convert)
        };
    }
    match (wire, to) {
        (Number::Float, Group::F32) => run!(fixed, f32s, f32::from_le_bytes),
        (Number::Float, _) => run!(fixed, f64s, |bytes| f64::from(f32::from_le_bytes(bytes))),
        (Number::Double, Group::F32) => run!(fixed, f32s, |bytes| f64::from_le_bytes(bytes) as f32),
        (Number::Double, _) => run!(fixed, f64s, f64::from_le_bytes),
        (Number::Int, Group::I32) => run!(varints, i32s, narrow),
        (Number::Int, Group::F32) => run!(varints, f32s, |value| Ok(narrow(value)? as f32)),
        (Number::Int, Group::F64) => run!(varints, f64s, |value| Ok(f64::from(narrow(value)?))),
        (Number::Int, _) => run!(varints, i64s, |value| Ok(i64::from(narrow(value)?))),
        (Number::Long, Group::F32) => run!(varints, f32s, |value| Ok(value as f32)),
        (Number::Long, Group::F64) => run!(varints, f64s, |value| Ok(value as f64)),
        (Number::Long, _) => run!(varints, i64s, Ok),
    }
}

/// A run of unions of null and a number.
fn nullables(
    wire: Number,
    to: Group,
    null: usize,
    into: &[LayoutColumn],
    rest: &mut &[u8],
    columns: &mut Columns,
) -> Result<(), Fault> {
    let row = columns.row();
    macro_rules! each {
        ($group:ident, $read:expr) => {
            for column in into {
                let value = match is_null(rest, null) {
                    Ok(false) => $read(rest),
                    Ok(true) => {
                        columns.put_null(column)?;
                        continue;
                    }
                    Err(fault) => Err(fault),
                };
                columns.$group[column.at as usize][row] = value.map_err(|fault| fault.at(column.column))?;
            }
        };
    }
    match (wire, to) {
        (Number::Float, Group::F32) => each!(f32s, |rest| array(rest).map(f32::from_le_bytes)),
        (Number::Float, _) => each!(f64s, |rest| array(rest).map(|bytes| f64::from(f32::from_le_bytes(bytes)))),
        (Number::Double, Group::F32) => each!(f32s, |rest| array(rest).map(|bytes| f64::from_le_bytes(bytes) as f32)),
        (Number::Double, _) => each!(f64s, |rest| array(rest).map(f64::from_le_bytes)),
        (Number::Int, Group::I32) => each!(i32s, |rest| long(rest).and_then(narrow)),
        (Number::Int, Group::F32) => each!(f32s, |rest| Ok(narrow(long(rest)?)? as f32)),
        (Number::Int, Group::F64) => each!(f64s, |rest| Ok(f64::from(narrow(long(rest)?)?))),
        (Number::Int, _) => each!(i64s, |rest| Ok(i64::from(narrow(long(rest)?)?))),
        (Number::Long, Group::F32) => each!(f32s, |rest| Ok(long(rest)? as f32)),
        (Number::Long, Group::F64) => each!(f64s, |rest| Ok(long(rest)? as f64)),
        (Number::Long, _) => each!(i64s, long),
    }
    Ok(())
}

/// Which of two branches follows.
#[inline(always)]
fn is_null(rest: &mut &[u8], null: usize) -> Result<bool, Fault> {
    match **rest {
        // Branches 0 and 1, zig-zag.
        [byte @ (0 | 2), ref tail @ ..] => {
            *rest = tail;
            Ok(usize::from(byte / 2) == null)
        }
        _ => match branch(rest)? {
            branch @ (0 | 1) => Ok(branch == null),
            _ => Err(no_branch()),
        },
    }
}

/// A run of numbers of fixed width: one check for all of them.
#[inline(always)]
fn fixed<const N: usize, T>(
    names: &[u32],
    rest: &mut &[u8],
    row: usize,
    out: &mut [Vec<T>],
    read: impl Fn([u8; N]) -> T,
) -> Result<(), Fault> {
    let Some((run, tail)) = rest.split_at_checked(N * out.len()) else {
        return Err(truncated().at(names[rest.len() / N]));
    };
    for (column, bytes) in out.iter_mut().zip(run.as_chunks::<N>().0) {
        column[row] = read(*bytes);
    }
    *rest = tail;
    Ok(())
}

#[inline(always)]
fn varints<T>(
    names: &[u32],
    rest: &mut &[u8],
    row: usize,
    out: &mut [Vec<T>],
    convert: impl Fn(i64) -> Result<T, Fault>,
) -> Result<(), Fault> {
    // A copy of its own stays in registers.
    let mut bytes = *rest;
    for (column, name) in out.iter_mut().zip(names) {
        column[row] = long(&mut bytes).and_then(&convert).map_err(|fault| fault.at(*name))?;
    }
    *rest = bytes;
    Ok(())
}

fn cast(wire: &Wire, rest: &mut &[u8], put: impl FnOnce(Scalar<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
    match wire {
        Wire::Bool => match take(rest, 1)? {
            [0] => put(Scalar::Bool(false)),
            [1] => put(Scalar::Bool(true)),
            _ => Err(malformed("a boolean that is neither 0 nor 1")),
        },
        Wire::Int | Wire::Date => put(Scalar::Int(i64::from(narrow(long(rest)?)?))),
        Wire::Long => put(Scalar::Int(long(rest)?)),
        // Runs take times of the column's own unit, so what comes here changes between milliseconds and microseconds.
        Wire::Time { nanos_per_unit: 1_000 } => put(Scalar::Int(long(rest)?.div_euclid(1_000))),
        Wire::Time { .. } => {
            let micros = long(rest)?.checked_mul(1_000);
            put(Scalar::Int(micros.ok_or_else(|| Fault::new(Reason::OutOfRange, "a time beyond microseconds"))?))
        }
        Wire::Float => put(Scalar::Float(f64::from(f32::from_le_bytes(array(rest)?)))),
        Wire::Double => put(Scalar::Float(f64::from_le_bytes(array(rest)?))),
        Wire::Text => {
            let text = str::from_utf8(blob(rest)?);
            put(Scalar::Text(text.map_err(|_| Fault::new(Reason::NotUtf8, "text that is not UTF-8"))?))
        }
        Wire::Blob => put(Scalar::Bytes(blob(rest)?)),
        Wire::Fixed(size) => put(Scalar::Bytes(take(rest, *size)?)),
        Wire::Enum(symbols) => {
            let symbol = usize::try_from(long(rest)?).ok().and_then(|index| symbols.get(index));
            put(Scalar::Text(symbol.ok_or_else(|| malformed("an enum symbol that the schema does not have"))?))
        }
        Wire::Decimal { scale, fixed } => {
            let digits = match fixed {
                Some(size) => take(rest, *size)?,
                None => blob(rest)?,
            };
            put(Scalar::Float(decimal(digits, *scale)))
        }
    }
}

/// The nearest double of a two's-complement big-endian number of any length.
fn decimal(digits: &[u8], scale: i32) -> f64 {
    let negative = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    let magnitude = if negative {
        // The number is -(!x + 1).
        digits.iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(!byte)) + 1.0
    } else {
        digits.iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte))
    };
    let value = magnitude / 10f64.powi(scale);
    if negative { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_signed() {
        assert_eq!(decimal(&[0x30, 0x39], 2), 123.45);
        assert_eq!(decimal(&[0xff], 1), -0.1);
        assert_eq!(decimal(&[0xff, 0x00], 0), -256.0);
        assert_eq!(decimal(&[], 3), 0.0);
    }
}
