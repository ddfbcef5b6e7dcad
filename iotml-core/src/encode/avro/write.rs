//! Writes rows in Avro's binary form.

use arrow::array::Array;
use arrow::buffer::NullBuffer;

use super::plan::{Node, Writer};
use crate::error::{Cause, Reason};

impl Node {
    /// Appends the field of `row`.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), Cause> {
        if self.is_null(row) {
            return match self.union {
                Some((_, null)) => Ok(out.push(null * 2)),
                None => Err(Cause::new(
                    Reason::Missing,
                    format!("column {:?} is null, and its Avro type is not", self.name),
                )),
            };
        }
        if let Some((value, _)) = self.union {
            out.push(value * 2);
        }
        match &self.writer {
            Writer::Bool(values) => out.push(values.value(row).into()),
            Writer::Int(values) if self.fits(values.nulls(), row)? => long(values.value(row).into(), out),
            Writer::Long(values) if self.fits(values.nulls(), row)? => long(values.value(row), out),
            Writer::Float(values) if self.fits(values.nulls(), row)? => {
                out.extend_from_slice(&values.value(row).to_le_bytes())
            }
            Writer::Double(values) if self.fits(values.nulls(), row)? => {
                out.extend_from_slice(&values.value(row).to_le_bytes())
            }
            Writer::Int(_) | Writer::Long(_) | Writer::Float(_) | Writer::Double(_) => {}
            Writer::Text(values) => blob(values.value(row).as_bytes(), out),
            Writer::Bytes(values) => blob(values.value(row), out),
            Writer::Fixed(values, size) => {
                let value = values.value(row);
                if value.len() != *size {
                    let detail = format!("column {:?} has {} bytes instead of {size}", self.name, value.len());
                    return Err(Cause::new(Reason::WrongSchema, detail));
                }
                out.extend_from_slice(value);
            }
            Writer::Enum(values, symbols) => match symbols.get(values.value(row)) {
                Some(symbol) => long(*symbol as i64, out),
                None => {
                    let detail =
                        format!("column {:?} is {:?}, which is no symbol of its enum", self.name, values.value(row));
                    return Err(Cause::new(Reason::OutOfRange, detail));
                }
            },
            Writer::Array { offsets, item } => {
                let items = offsets[row]..offsets[row + 1];
                if !items.is_empty() {
                    long(items.len() as i64, out);
                    items.into_iter().try_for_each(|at| item.write(at, out))?;
                }
                out.push(0);
            }
            Writer::Record(fields) => fields.iter().try_for_each(|field| field.write(row, out))?,
            Writer::Constant(bytes) => out.extend_from_slice(bytes),
        }
        Ok(())
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        match (&self.writer, &self.nulls) {
            (Writer::Constant(_), _) => false,
            (Writer::Record(fields), _) => self.union.is_some() && fields.iter().all(|field| field.is_null(row)),
            (_, nulls) => nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)),
        }
    }

    /// A value that became null when it was cast is beyond the range of its Avro type.
    #[inline]
    fn fits(&self, nulls: Option<&NullBuffer>, row: usize) -> Result<bool, Cause> {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return Err(Cause::new(Reason::OutOfRange, format!("column {:?} does not fit its Avro type", self.name)));
        }
        Ok(true)
    }
}

fn blob(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// A variable-length zig-zag integer.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut zig = ((value << 1) ^ (value >> 63)) as u64;
    while zig >= 0x80 {
        out.push(zig as u8 | 0x80);
        zig >>= 7;
    }
    out.push(zig as u8);
}
