use std::collections::BTreeMap;
use std::fmt::Write;

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum};
use iotml_core::decode::{AvroDecoder, AvroDecoderConfig, DatumReader, Decoder};
use iotml_core::error::Reason;
use serde::de::IgnoredAny;

use crate::input::{Dice, messages};
use crate::oracle::is_overread;
use crate::rows::{Cell, Fate, decode};

/// A schema of the fuzzer's choice, then messages: columns are those that apache-avro reads.
pub fn avro_datum(data: &[u8]) {
    let parts = messages(data);
    let Some((choices, messages)) = parts.split_first() else { return };
    let mut made = Made { dice: Dice(choices), json: String::new(), n_names: 0, n_left: 40, has_blocks: false };
    made.record(0);
    let schema = Schema::parse_str(&made.json).unwrap_or_else(|error| panic!("{error}: {}", made.json));
    let fates = decode(messages, || -> Box<dyn Decoder> {
        Box::new(AvroDecoder::new(AvroDecoderConfig::new(&made.json)).expect("a schema that apache-avro takes"))
    });
    let reader = DatumReader::new(&made.json).expect("a schema that apache-avro takes");
    let is_read: Vec<bool> = messages.iter().map(|message| reader.read::<IgnoredAny>(message).is_ok()).collect();
    if made.has_blocks {
        // A block may lie about its size in bytes, which we step over by and apache-avro ignores.
        return;
    }
    for ((message, fate), is_read) in messages.iter().zip(&fates).zip(is_read) {
        assert!(is_read == matches!(fate, Fate::Kept(_)) || message.is_empty(), "{fate:?}: {}", made.json);
        let mut rest = *message;
        let oracle = from_avro_datum(&schema, &mut rest, None);
        match (fate, oracle) {
            (Fate::Rejected(_), Ok(_)) if is_overread(&schema, message) => {}
            (Fate::Kept(row), Ok(value)) => {
                assert!(rest.is_empty(), "kept with {} bytes left over: {}", rest.len(), made.json);
                let mut wanted = BTreeMap::new();
                cells(&schema, Some(&value), "", &mut wanted);
                assert_eq!(row, &wanted, "{}", made.json);
            }
            (Fate::Kept(row), Err(error)) => panic!("kept {row:?}, but {error}: {}", made.json),
            // An empty payload is rejected by contract, even where a datum has no bytes.
            (Fate::Rejected(Reason::Empty), _) => assert!(message.is_empty()),
            (Fate::Rejected(reason), Ok(value)) => {
                assert!(!rest.is_empty(), "rejected ({reason}), but apache-avro reads {value:?}: {}", made.json);
            }
            (Fate::Rejected(_), Err(_)) => {}
        }
    }
}

/// A schema in the making.
struct Made<'a> {
    dice: Dice<'a>,
    json: String,
    n_names: usize,
    /// Types that may still be written.
    n_left: usize,
    has_blocks: bool,
}

impl Made<'_> {
    fn record(&mut self, depth: usize) {
        let n_fields = 1 + usize::from(self.dice.next() % 6);
        let name = self.name();
        _ = write!(self.json, r#"{{"type": "record", "name": "R{name}", "fields": ["#);
        for field in 0..n_fields {
            if field > 0 {
                self.json.push_str(", ");
            }
            _ = write!(self.json, r#"{{"name": "f{field}", "type": "#);
            self.value(depth + 1);
            self.json.push('}');
        }
        self.json.push_str("]}");
    }

    fn value(&mut self, depth: usize) {
        self.n_left = self.n_left.saturating_sub(1);
        let kind = if depth > 5 || self.n_left == 0 { self.dice.next() % 11 } else { self.dice.next() % 16 };
        match kind {
            0 => self.json.push_str(r#""float""#),
            1 => self.json.push_str(r#""double""#),
            2 => self.json.push_str(r#""int""#),
            3 => self.json.push_str(r#""long""#),
            4 => self.json.push_str(r#""boolean""#),
            5 => self.json.push_str(r#""string""#),
            6 => self.json.push_str(r#""bytes""#),
            7 => self.json.push_str(r#""null""#),
            8 => {
                let name = self.name();
                _ = write!(self.json, r#"{{"type": "enum", "name": "E{name}", "symbols": ["A", "B", "C"]}}"#);
            }
            9 => {
                let (name, size) = (self.name(), self.dice.next() % 20);
                _ = write!(self.json, r#"{{"type": "fixed", "name": "F{name}", "size": {size}}}"#);
            }
            10 => self.json.push_str(r#"{"type": "long", "logicalType": "timestamp-millis"}"#),
            11 | 12 => {
                let null_first = kind == 11;
                self.json.push_str(if null_first { r#"["null", "# } else { "[" });
                // A union holds no union and no second null.
                match self.dice.next() % 4 {
                    0 => self.record(depth),
                    1 => self.json.push_str(r#""double""#),
                    2 => self.json.push_str(r#""string""#),
                    _ => self.json.push_str(r#""int""#),
                }
                self.json.push_str(if null_first { "]" } else { r#", "null"]"# });
            }
            13 => self.record(depth),
            14 => self.block(r#"{"type": "array", "items": "#, depth),
            _ => self.block(r#"{"type": "map", "values": "#, depth),
        }
    }

    fn block(&mut self, begin: &str, depth: usize) {
        self.has_blocks = true;
        self.json.push_str(begin);
        self.value(depth + 1);
        self.json.push('}');
    }

    fn name(&mut self) -> usize {
        self.n_names += 1;
        self.n_names
    }
}

/// The columns of a value, without blocks.
fn cells(schema: &Schema, value: Option<&Value>, path: &str, out: &mut BTreeMap<String, Cell>) {
    match schema {
        Schema::Record(record) => {
            for (at, field) in record.fields.iter().enumerate() {
                let inner = match value {
                    Some(Value::Record(fields)) => Some(&fields[at].1),
                    _ => None,
                };
                let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                cells(&field.schema, inner, &path, out);
            }
        }
        Schema::Union(union) => {
            let inner = match value {
                Some(Value::Union(_, inner)) if !matches!(**inner, Value::Null) => Some(&**inner),
                _ => None,
            };
            let variant = union.variants().iter().find(|variant| !matches!(variant, Schema::Null));
            cells(variant.expect("a value beside null"), inner, path, out);
        }
        Schema::Null => {}
        _ => _ = out.insert(path.to_owned(), value.map_or(Cell::Null, scalar)),
    }
}

fn scalar(value: &Value) -> Cell {
    match value {
        Value::Boolean(value) => Cell::Bool(*value),
        Value::Int(value) => Cell::Int(i64::from(*value)),
        Value::Long(value) | Value::TimestampMillis(value) => Cell::Int(*value),
        Value::Float(value) => Cell::F32(value.to_bits()),
        Value::Double(value) => Cell::F64(value.to_bits()),
        Value::String(text) | Value::Enum(_, text) => Cell::Text(text.clone()),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Cell::Bytes(bytes.clone()),
        other => panic!("not in the grammar: {other:?}"),
    }
}
