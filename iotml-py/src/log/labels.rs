//! A column as labels: single-precision numbers.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use iotml_core::error::{Cause, Reason};

/// The label of every row, and the rows that have none, each with its cause.
pub type Labels = (Vec<f32>, Vec<(usize, Cause)>);

/// The labels of all rows, 0 where there is none, and the rows without one, in order. Truth values are 0 and 1, whether they
/// are booleans or the words; numbers stay what they are, also as text.
pub fn of_column(name: &str, column: &ArrayRef) -> Result<Labels, String> {
    let mut bad = Vec::new();
    let missing = || Cause::new(Reason::Missing, format!("label `{name}` is null"));
    if let Some(texts) = column.as_string_opt::<i32>() {
        let labels = texts.iter().enumerate().map(|(row, text)| {
            let label = text.map_or_else(
                || Err(missing()),
                |text| {
                    let what = || format!("label `{name}` is {text:?}, neither true, false nor a number");
                    of_text(text).ok_or_else(|| Cause::new(Reason::Malformed, what()))
                },
            );
            label.unwrap_or_else(|cause| {
                bad.push((row, cause));
                0.0
            })
        });
        return Ok((labels.collect(), bad));
    }
    let is_number = column.data_type().is_numeric() || matches!(column.data_type(), DataType::Boolean | DataType::Null);
    let numbers = if is_number { cast(column, &DataType::Float32).ok() } else { None };
    let Some(numbers) = numbers else {
        let kind = column.data_type();
        return Err(format!("column {name:?} is of type {kind}; a label is a number, a boolean or text"));
    };
    let labels = numbers.as_primitive::<Float32Type>().iter().enumerate().map(|(row, label)| match label {
        Some(label) if !label.is_nan() => label,
        _ => {
            bad.push((row, missing()));
            0.0
        }
    });
    Ok((labels.collect(), bad))
}

fn of_text(text: &str) -> Option<f32> {
    match text.trim() {
        "true" | "True" | "TRUE" => Some(1.0),
        "false" | "False" | "FALSE" => Some(0.0),
        number => number.parse().ok().filter(|number: &f32| !number.is_nan()),
    }
}
