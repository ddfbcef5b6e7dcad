//! Which rows take a route, or are read from a log.

use std::str::FromStr;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use crate::batch::Batch;
use crate::decode::ColumnType;
use crate::error::ConfigError;
use crate::score::column;

/// A condition on one column: `anomaly`, `score > 0.5`, `failure_occurred == "true"`.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    column: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// The column is boolean and true.
    True,
    Number(Comparison, f64),
    Text(Comparison, String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// Longest first, so that `<=` is not read as `<`.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessEqual),
    (">=", Comparison::GreaterEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl When {
    /// Rows whose verdict is "anomaly".
    pub fn anomaly() -> Self {
        Self { column: column::ANOMALY.to_owned(), test: Test::True }
    }

    /// The column that is looked at.
    pub fn column(&self) -> &str {
        &self.column
    }

    /// What the column must hold, for formats that carry no types.
    pub fn column_type(&self) -> ColumnType {
        match self.test {
            Test::True => ColumnType::Boolean,
            Test::Number(..) => ColumnType::Float64,
            Test::Text(..) => ColumnType::Utf8,
        }
    }

    /// The rows that meet the condition; a null does not. Errors name a column that is missing or of the wrong kind.
    pub fn matches(&self, batch: &Batch) -> Result<Vec<bool>, String> {
        self.holds(batch.columns())
    }

    /// The same for columns alone.
    pub fn holds(&self, columns: &RecordBatch) -> Result<Vec<bool>, String> {
        let column = columns.column_by_name(&self.column).ok_or_else(|| {
            let names: Vec<_> = columns.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
            format!("no column {:?} for a condition; there are: {}", self.column, names.join(", "))
        })?;
        let of_kind = |kind: &str| format!("column {:?} of a condition is not {kind}", self.column);
        match &self.test {
            Test::True => {
                let values = column.as_boolean_opt().ok_or_else(|| of_kind("boolean"))?;
                Ok((0..values.len()).map(|row| values.is_valid(row) && values.value(row)).collect())
            }
            Test::Number(comparison, limit) => {
                let values = cast(column, &DataType::Float64).map_err(|_| of_kind("a number"))?;
                let values = values.as_primitive::<Float64Type>();
                Ok(values.iter().map(|value| value.is_some_and(|value| comparison.holds(&value, limit))).collect())
            }
            Test::Text(comparison, text) => {
                let values = column.as_string_opt::<i32>().ok_or_else(|| of_kind("text"))?;
                let text = text.as_str();
                Ok(values.iter().map(|value| value.is_some_and(|value| comparison.holds(&value, &text))).collect())
            }
        }
    }
}

impl Comparison {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Less => left < right,
            Comparison::LessEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterEqual => left >= right,
        }
    }
}

impl FromStr for When {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::new(format!(
                "{text:?} is not a condition; write a boolean column's name, or a column, one of == != < <= > >=, and a \
                 number or a text in quotes"
            ))
        };
        let found = COMPARISONS.iter().filter_map(|(sign, comparison)| {
            text.find(sign).map(|at| (at, std::cmp::Reverse(sign.len()), *sign, *comparison))
        });
        let found = found.min_by_key(|(at, longest, ..)| (*at, *longest));
        let Some((at, _, sign, comparison)) = found else {
            let column = text.trim();
            let is_name = !column.is_empty() && !column.contains(char::is_whitespace);
            return if is_name { Ok(Self { column: column.to_owned(), test: Test::True }) } else { Err(wrong()) };
        };
        let (column, value) = (text[..at].trim(), text[at + sign.len()..].trim());
        if column.is_empty() || value.is_empty() {
            return Err(wrong());
        }
        let quoted = value.len() >= 2 && value.starts_with(['"', '\'']) && value.ends_with(&value[..1]);
        let test = if quoted {
            Test::Text(comparison, value[1..value.len() - 1].to_owned())
        } else {
            Test::Number(comparison, value.parse().map_err(|_| wrong())?)
        };
        Ok(Self { column: column.to_owned(), test })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray};

    use super::*;
    use crate::batch::{Coordinate, Lane, Message, Position};
    use crate::batch::{RawBatch, RawMessage};

    fn batch() -> Batch {
        let mut raw = RawBatch::default();
        for seq in 0..3 {
            let position = Position { lane: Lane(0), seq };
            raw.push(RawMessage { message: Message::default(), position, coordinate: Coordinate::NONE });
        }
        let columns = RecordBatch::try_from_iter_with_nullable([
            ("anomaly", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])) as ArrayRef, true),
            ("tyre", Arc::new(Int32Array::from(vec![20, 30, 40])), false),
            ("failure", Arc::new(StringArray::from(vec!["true", "false", "true"])), false),
        ]);
        Batch::decoded(Arc::new(raw), vec![0, 1, 2], columns.unwrap())
    }

    #[test]
    fn picks_rows() {
        for (text, want) in [
            ("anomaly", [true, false, false]),
            ("tyre <= 30", [true, true, false]),
            ("tyre>30.5", [false, false, true]),
            ("failure == \"true\"", [true, false, true]),
            ("failure != 'true'", [false, true, false]),
        ] {
            assert_eq!(text.parse::<When>().unwrap().matches(&batch()).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn wrong_conditions_are_named() {
        for text in ["", "a b", "> 3", "tyre >", "tyre > x", "tyre == \""] {
            let error = text.parse::<When>().unwrap_err().to_string();
            assert!(error.contains("is not a condition"), "{text}: {error}");
        }
        let missing = "tire > 3".parse::<When>().unwrap().matches(&batch()).unwrap_err();
        assert!(missing.contains("\"tire\"") && missing.contains("tyre"), "{missing}");
        assert!("tyre".parse::<When>().unwrap().matches(&batch()).unwrap_err().contains("not boolean"));
    }
}
