//! Numeric columns of any type, as floats.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};

use super::PreprocessError;
use super::lookup::misfit;

/// What arithmetic on a column of this type gives: single precision where it holds every value exactly. `None`: the
/// column holds no numbers.
pub(crate) fn float_type(data_type: &DataType) -> Option<DataType> {
    use DataType as D;
    match data_type {
        D::Float16 | D::Float32 | D::Int8 | D::Int16 | D::UInt8 | D::UInt16 | D::Boolean => Some(D::Float32),
        D::Float64 | D::Int32 | D::Int64 | D::UInt32 | D::UInt64 | D::Null => Some(D::Float64),
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => Some(D::Float64),
        _ => None,
    }
}

/// A column in double precision; `None` if it holds no numbers.
pub(crate) fn doubles(array: &ArrayRef) -> Option<Cow<'_, Float64Array>> {
    if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
        return Some(Cow::Borrowed(doubles));
    }
    float_type(array.data_type())?;
    let cast = cast(array, &DataType::Float64).ok()?;
    Some(Cow::Owned(cast.as_primitive_opt::<Float64Type>()?.clone()))
}

/// What to say of a column that holds no numbers.
pub(crate) fn not_numeric(name: &str, data_type: &DataType) -> String {
    format!("column {name:?} holds {data_type}, not numbers")
}

/// Applies `map` to every value; nulls stay null. Integers become floats.
pub(super) fn map_numbers(name: &str, array: &ArrayRef, map: impl Fn(f64) -> f64) -> Result<ArrayRef, PreprocessError> {
    let data_type = array.data_type();
    let float = float_type(data_type).ok_or_else(|| PreprocessError::fatal(not_numeric(name, data_type)))?;
    let floats = if *data_type == float { array.clone() } else { cast(array, &float).map_err(misfit)? };
    if let Some(singles) = floats.as_primitive_opt::<Float32Type>() {
        let mapped: Float32Array = singles.unary(|value| map(f64::from(value)) as f32);
        return Ok(Arc::new(mapped));
    }
    let mapped: Float64Array = floats.as_primitive::<Float64Type>().unary(map);
    Ok(Arc::new(mapped))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int16Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn arithmetic_gives_the_smallest_float_that_is_exact() {
        let double = |array: ArrayRef| map_numbers("x", &array, |value| value * 2.0).unwrap();
        let small = double(Arc::new(Int16Array::from(vec![Some(3), None])));
        assert_eq!(small.as_primitive::<Float32Type>(), &Float32Array::from(vec![Some(6.0), None]));
        let large = double(Arc::new(Int64Array::from(vec![16_777_217])));
        assert_eq!(large.as_primitive::<Float64Type>(), &Float64Array::from(vec![33_554_434.0]));
    }

    #[test]
    fn text_is_refused_by_name() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
        let error = map_numbers("speed", &text, |value| value).unwrap_err();
        assert_eq!(error.to_string(), "column \"speed\" holds Utf8, not numbers");
    }
}
