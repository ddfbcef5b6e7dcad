//! Labels, as they stand in messages.

use iotml_core::error::BoxError;
use iotml_core::sink::Stretch;
use serde_json::Value;

use crate::comparison::{Labels, row_id};

/// How labels are written: JSON objects with a field for the label, and `key` and `time` where they are not the message's own.
pub(super) struct LabelTable<'a> {
    pub field: &'a str,
}

impl LabelTable<'_> {
    /// Reads all of them. A message without a label is passed over: rows that are labelled later may share a topic with others.
    pub fn read(&self, stretch: Stretch, labels: &mut Labels) -> Result<(), BoxError> {
        for batch in stretch {
            let batch = batch?;
            let messages = batch.messages();
            for row in 0..batch.len() {
                let label = messages.payload(row).and_then(|payload| self.label(payload));
                let Some((is_anomaly, key, time)) = label else { continue };
                let key = key.as_ref().map(String::as_bytes).or_else(|| messages.key(row));
                labels.add(row_id(key, time.or_else(|| messages.time(row))), is_anomaly);
            }
        }
        Ok(())
    }

    fn label(&self, payload: &[u8]) -> Option<(bool, Option<String>, Option<i64>)> {
        let object: Value = serde_json::from_slice(payload).ok()?;
        let is_anomaly = match object.get(self.field)? {
            Value::Bool(is) => *is,
            Value::Number(number) if number.as_f64() == Some(1.0) => true,
            Value::Number(number) if number.as_f64() == Some(0.0) => false,
            Value::String(text) => match text.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return None,
            },
            _ => return None,
        };
        let key = object.get("key").and_then(Value::as_str).map(str::to_owned);
        Some((is_anomaly, key, object.get("time").and_then(Value::as_i64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_true_false_one_or_zero_and_may_name_its_row() {
        let read = |text: &str| LabelTable { field: "label" }.label(text.as_bytes());
        assert_eq!(read(r#"{"label": true}"#), Some((true, None, None)));
        assert_eq!(read(r#"{"label": 0, "key": "car1", "time": 7}"#), Some((false, Some("car1".to_owned()), Some(7))));
        assert_eq!(read(r#"{"label": "true"}"#), Some((true, None, None)));
        for nothing in [r#"{"label": 0.5}"#, r#"{"label": null}"#, r#"{"other": 1}"#, "[]", "x", ""] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
    }
}
