use iotml_core::decode::{ColumnConfig, ColumnType, Decoder, JsonDecoder, JsonDecoderConfig};
use serde_json::Value;

use crate::input::messages;
use crate::rows::{Fate, decode};

/// Messages, decoded with configured and with inferred columns; what is kept is an object to serde_json, too.
pub fn json(data: &[u8]) {
    let messages = messages(data);
    let configured = decode(&messages, || decoder(Some(columns()), false));
    decode(&messages, || decoder(Some(columns()), true));
    let inferred = decode(&messages, || decoder(None, false));
    for (message, fate) in messages.iter().zip(&configured).chain(messages.iter().zip(&inferred)) {
        if matches!(fate, Fate::Kept(_)) {
            let parsed = serde_json::from_slice::<Value>(message);
            assert!(matches!(parsed, Ok(Value::Object(_))), "kept, but {parsed:?}");
        }
    }
}

fn decoder(columns: Option<Vec<ColumnConfig>>, parse_text: bool) -> Box<dyn Decoder> {
    let config = JsonDecoderConfig { columns, parse_text, ..JsonDecoderConfig::default() };
    Box::new(JsonDecoder::new(config).expect("a sound configuration"))
}

fn columns() -> Vec<ColumnConfig> {
    use ColumnType::*;
    let types = [Float32, Float64, Int32, Int64, Boolean, Utf8, Binary, Date, TimestampMillis, TimestampMicros];
    let flat = types.iter().enumerate().map(|(n, column_type)| ColumnConfig::new(format!("c{n}"), *column_type));
    let nested = [ColumnConfig::new("o.x", Float32), ColumnConfig::new("o.p.y", Utf8)];
    flat.chain(nested).chain([ColumnConfig { nullable: false, ..ColumnConfig::new("id", Int64) }]).collect()
}
