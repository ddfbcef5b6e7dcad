//! Runs a compiled schema over one datum.

use super::compile::{Number, Op, Program, Target};
use super::leaf::Wire;
use crate::decode::columns::{Columns, Fault, Group, Scalar};
use crate::error::Reason;

/// A type that contains itself may do so this deep.
const MAX_DEPTH: usize = 64;

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
            Op::Numbers { wire, to, targets } => numbers(*wire, *to, targets, rest, columns)?,
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

#[inline]
fn numbers(wire: Number, to: Group, targets: &[Target], rest: &mut &[u8], columns: &mut Columns) -> Result<(), Fault> {
    let row = columns.row();
    match (wire, to) {
        (Number::Float, Group::F32) => fixed(targets, rest, row, &mut columns.f32s, f32::from_le_bytes),
        (Number::Float, _) => fixed(targets, rest, row, &mut columns.f64s, |b| f64::from(f32::from_le_bytes(b))),
        (Number::Double, Group::F32) => fixed(targets, rest, row, &mut columns.f32s, |b| f64::from_le_bytes(b) as f32),
        (Number::Double, _) => fixed(targets, rest, row, &mut columns.f64s, f64::from_le_bytes),
        (Number::Int, Group::I32) => varints(targets, rest, row, &mut columns.i32s, narrow),
        (Number::Int, Group::F32) => varints(targets, rest, row, &mut columns.f32s, |n| Ok(narrow(n)? as f32)),
        (Number::Int, Group::F64) => varints(targets, rest, row, &mut columns.f64s, |n| Ok(f64::from(narrow(n)?))),
        (Number::Int, _) => varints(targets, rest, row, &mut columns.i64s, |n| Ok(i64::from(narrow(n)?))),
        (Number::Long, Group::F32) => varints(targets, rest, row, &mut columns.f32s, |n| Ok(n as f32)),
        (Number::Long, Group::F64) => varints(targets, rest, row, &mut columns.f64s, |n| Ok(n as f64)),
        (Number::Long, _) => varints(targets, rest, row, &mut columns.i64s, Ok),
    }
}

/// A run of numbers of fixed width: one check for all of them.
#[inline(always)]
fn fixed<const N: usize, T>(
    targets: &[Target],
    rest: &mut &[u8],
    row: usize,
    out: &mut [Vec<T>],
    read: impl Fn([u8; N]) -> T,
) -> Result<(), Fault> {
    let Some((run, tail)) = rest.split_at_checked(N * targets.len()) else {
        return Err(truncated().at(targets[rest.len() / N].column));
    };
    for (target, bytes) in targets.iter().zip(run.as_chunks::<N>().0) {
        out[target.at as usize][row] = read(*bytes);
    }
    *rest = tail;
    Ok(())
}

#[inline(always)]
fn varints<T>(
    targets: &[Target],
    rest: &mut &[u8],
    row: usize,
    out: &mut [Vec<T>],
    convert: impl Fn(i64) -> Result<T, Fault>,
) -> Result<(), Fault> {
    for target in targets {
        let value = long(rest).and_then(&convert).map_err(|fault| fault.at(target.column))?;
        out[target.at as usize][row] = value;
    }
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

fn skip(op: &Op, named: &[Box<[Op]>], rest: &mut &[u8], depth: usize) -> Result<(), Fault> {
    match op {
        Op::SkipFixed(n) => take(rest, *n).map(drop),
        Op::SkipVarints(n) => (0..*n).try_for_each(|_| long(rest).map(drop)),
        Op::SkipBlob => blob(rest).map(drop),
        Op::SkipArray(item) => skip_blocks(rest, |rest| skip_all(item, named, rest, depth), item.is_empty()),
        Op::SkipMap(value) => skip_blocks(
            rest,
            |rest| {
                blob(rest)?;
                skip_all(value, named, rest, depth)
            },
            false,
        ),
        Op::SkipUnion(branches) => {
            let branch = branches.get(branch(rest)?).ok_or_else(no_branch)?;
            skip_all(branch, named, rest, depth)
        }
        Op::SkipNamed(_) if depth == MAX_DEPTH => Err(Fault::new(Reason::TooDeep, "nested deeper than 64 records")),
        Op::SkipNamed(number) => skip_all(&named[*number], named, rest, depth + 1),
        Op::Numbers { .. } | Op::Text(_) | Op::Blob(_) | Op::Cast { .. } | Op::Union(_) => Ok(()),
    }
}

fn skip_all(ops: &[Op], named: &[Box<[Op]>], rest: &mut &[u8], depth: usize) -> Result<(), Fault> {
    ops.iter().try_for_each(|op| skip(op, named, rest, depth))
}

/// Arrays and maps come in blocks: a count, or a negative count and the block's size in bytes; zero ends them.
fn skip_blocks(
    rest: &mut &[u8],
    mut item: impl FnMut(&mut &[u8]) -> Result<(), Fault>,
    empty_items: bool,
) -> Result<(), Fault> {
    loop {
        let count = long(rest)?;
        match count {
            0 => return Ok(()),
            1.. if empty_items => {}
            1.. => {
                // Every item takes at least a byte, so a count beyond the bytes left is wrong before it costs anything.
                if count as u64 > rest.len() as u64 {
                    return Err(truncated());
                }
                (0..count).try_for_each(|_| item(rest))?;
            }
            _ => {
                let size = usize::try_from(long(rest)?).map_err(|_| malformed("a negative block size"))?;
                take(rest, size)?;
            }
        }
    }
}

/// A variable-length zig-zag integer. Most in telemetry take one or two bytes.
#[inline(always)]
fn long(rest: &mut &[u8]) -> Result<i64, Fault> {
    match **rest {
        [a, ref tail @ ..] if a < 0x80 => {
            *rest = tail;
            Ok(zag(u64::from(a)))
        }
        [a, b, ref tail @ ..] if b < 0x80 => {
            *rest = tail;
            Ok(zag(u64::from(a & 0x7f) | u64::from(b) << 7))
        }
        _ => long_varint(rest),
    }
}

#[inline(never)]
fn long_varint(rest: &mut &[u8]) -> Result<i64, Fault> {
    let mut value = 0u64;
    for (n, &byte) in rest.iter().enumerate().take(10) {
        if n == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * n);
        if byte < 0x80 {
            *rest = &rest[n + 1..];
            return Ok(zag(value));
        }
    }
    Err(if rest.len() < 10 { truncated() } else { malformed("an integer of more than 64 bits") })
}

#[inline(always)]
fn zag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[inline(always)]
fn narrow(value: i64) -> Result<i32, Fault> {
    i32::try_from(value).map_err(|_| malformed("an int of more than 32 bits"))
}

fn branch(rest: &mut &[u8]) -> Result<usize, Fault> {
    usize::try_from(long(rest)?).map_err(|_| no_branch())
}

#[inline]
fn blob<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Fault> {
    let length = usize::try_from(long(rest)?).map_err(|_| malformed("a negative length"))?;
    take(rest, length)
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], Fault> {
    let (taken, tail) = rest.split_at_checked(n).ok_or_else(truncated)?;
    *rest = tail;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, tail) = rest.split_first_chunk::<N>().ok_or_else(truncated)?;
    *rest = tail;
    Ok(*taken)
}

#[cold]
fn truncated() -> Fault {
    Fault::new(Reason::Truncated, "the bytes end inside the record")
}

#[cold]
fn malformed(detail: &'static str) -> Fault {
    Fault::new(Reason::Malformed, detail)
}

#[cold]
fn no_branch() -> Fault {
    malformed("a union branch that the schema does not have")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_come_back() {
        let values = [0, -1, 1, 63, 64, -65, 8_191, 8_192, i64::from(i32::MIN), i64::MAX, i64::MIN];
        for value in values {
            let mut bytes = Vec::new();
            let mut zig = ((value << 1) ^ (value >> 63)) as u64;
            while zig >= 0x80 {
                bytes.push(zig as u8 | 0x80);
                zig >>= 7;
            }
            bytes.push(zig as u8);
            for cut in 0..bytes.len() {
                assert_eq!(long(&mut &bytes[..cut]).unwrap_err().reason, Reason::Truncated, "{value} cut at {cut}");
            }
            bytes.push(7);
            let mut rest = &bytes[..];
            assert_eq!(long(&mut rest), Ok(value));
            assert_eq!(rest, [7]);
        }
        assert_eq!(long(&mut &[0xff; 12][..]).unwrap_err().reason, Reason::Malformed);
    }

    #[test]
    fn decimals_are_signed() {
        assert_eq!(decimal(&[0x30, 0x39], 2), 123.45);
        assert_eq!(decimal(&[0xff], 1), -0.1);
        assert_eq!(decimal(&[0xff, 0x00], 0), -256.0);
        assert_eq!(decimal(&[], 3), 0.0);
    }
}
