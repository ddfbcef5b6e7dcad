//! One column of numbers, opened once a batch.

use iotml_core::arrow::array::{Array, AsArray, BooleanArray};
use iotml_core::arrow::buffer::NullBuffer;
use iotml_core::arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use super::Affine;

/// A column of numbers or booleans, with its nulls if it has any.
pub(crate) struct Column<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
}

enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    Bool(&'a BooleanArray),
    /// Types too rare to be fast.
    Owned(Vec<f64>),
}

impl<'a> Column<'a> {
    /// Opens an array; `None` if it holds no numbers.
    pub(crate) fn open(array: &'a dyn Array) -> Option<Self> {
        macro_rules! slice {
            ($variant:ident, $arrow:ty) => {
                Values::$variant(array.as_primitive_opt::<$arrow>()?.values())
            };
        }
        let values = match array.data_type() {
            DataType::Float32 => slice!(F32, Float32Type),
            DataType::Float64 => slice!(F64, Float64Type),
            DataType::Int8 => slice!(I8, Int8Type),
            DataType::Int16 => slice!(I16, Int16Type),
            DataType::Int32 => slice!(I32, Int32Type),
            DataType::Int64 => slice!(I64, Int64Type),
            DataType::UInt8 => slice!(U8, UInt8Type),
            DataType::UInt16 => slice!(U16, UInt16Type),
            DataType::UInt32 => slice!(U32, UInt32Type),
            DataType::UInt64 => slice!(U64, UInt64Type),
            DataType::Boolean => Values::Bool(array.as_boolean_opt()?),
            DataType::Float16 => {
                let values = array.as_primitive_opt::<Float16Type>()?.values();
                Values::Owned(values.iter().map(|value| value.to_f64()).collect())
            }
            // A column that a decoder saw no value for.
            DataType::Null => Values::Owned(vec![f64::NAN; array.len()]),
            _ => return None,
        };
        Some(Column { values, nulls: array.nulls().filter(|nulls| nulls.null_count() > 0) })
    }

    /// Writes the scaled values of the rows from `start` on into `tile`, and says whether all of them are there and
    /// finite.
    pub(crate) fn convert(&self, start: usize, affine: Affine, tile: &mut [f32]) -> bool {
        let end = start + tile.len();
        let is_finite = match &self.values {
            // In single precision: the difference is exact or nearly so, and twice as many fit a vector register.
            Values::F32(values) => scale_f32(&values[start..end], |value| value, affine, tile),
            Values::I8(values) => scale_f32(&values[start..end], f32::from, affine, tile),
            Values::I16(values) => scale_f32(&values[start..end], f32::from, affine, tile),
            Values::U8(values) => scale_f32(&values[start..end], f32::from, affine, tile),
            Values::U16(values) => scale_f32(&values[start..end], f32::from, affine, tile),
            Values::F64(values) => scale_f64(&values[start..end], |value| value, affine, tile),
            Values::I32(values) => scale_f64(&values[start..end], f64::from, affine, tile),
            Values::U32(values) => scale_f64(&values[start..end], f64::from, affine, tile),
            Values::I64(values) => scale_f64(&values[start..end], |value| value as f64, affine, tile),
            Values::U64(values) => scale_f64(&values[start..end], |value| value as f64, affine, tile),
            Values::Owned(values) => scale_f64(&values[start..end], |value| value, affine, tile),
            Values::Bool(values) => {
                for (row, out) in (start..end).zip(tile.iter_mut()) {
                    *out = affine.apply(f64::from(u8::from(values.value(row))));
                }
                true
            }
        };
        is_finite && self.nulls.is_none_or(|nulls| nulls.slice(start, tile.len()).null_count() == 0)
    }

    /// The raw value of `row`; `None` if it is null.
    pub(crate) fn get(&self, row: usize) -> Option<f64> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        Some(match &self.values {
            Values::F32(values) => f64::from(values[row]),
            Values::F64(values) => values[row],
            Values::I8(values) => f64::from(values[row]),
            Values::I16(values) => f64::from(values[row]),
            Values::I32(values) => f64::from(values[row]),
            Values::I64(values) => values[row] as f64,
            Values::U8(values) => f64::from(values[row]),
            Values::U16(values) => f64::from(values[row]),
            Values::U32(values) => f64::from(values[row]),
            Values::U64(values) => values[row] as f64,
            Values::Bool(values) => f64::from(u8::from(values.value(row))),
            Values::Owned(values) => values[row],
        })
    }
}

/// The exponent bits; all set in NaN and the infinities.
const EXPONENT: u32 = 0x7f80_0000;

#[inline]
fn scale_f32<T: Copy>(values: &[T], widen: impl Fn(T) -> f32, affine: Affine, tile: &mut [f32]) -> bool {
    let (subtract, multiply, add) = (affine.subtract as f32, affine.multiply as f32, affine.add as f32);
    scale(values, |value| (widen(value) - subtract) * multiply + add, tile)
}

#[inline]
fn scale_f64<T: Copy>(values: &[T], widen: impl Fn(T) -> f64, affine: Affine, tile: &mut [f32]) -> bool {
    scale(values, |value| affine.apply(widen(value)), tile)
}

/// One pass without a branch on the value, so that the compiler makes it a vector loop.
#[inline]
fn scale<T: Copy>(values: &[T], to_f32: impl Fn(T) -> f32, tile: &mut [f32]) -> bool {
    let mut not_finite = 0u32;
    for (out, value) in tile.iter_mut().zip(values) {
        let scaled = to_f32(*value);
        not_finite |= u32::from(scaled.to_bits() & EXPONENT == EXPONENT);
        *out = scaled;
    }
    not_finite == 0
}
