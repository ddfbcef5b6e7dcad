use iotml_core::decode::{AvroDecoder, AvroDecoderConfig, Decoder};

use crate::input::messages;
use crate::rows::decode;

/// A schema as JSON, then messages: refused with a reason, or read without an end that hangs.
pub fn avro_schema(data: &[u8]) {
    let parts = messages(data);
    let Some((schema, messages)) = parts.split_first() else { return };
    let Ok(schema) = str::from_utf8(schema) else { return };
    if let Err(error) = AvroDecoder::new(AvroDecoderConfig::new(schema)) {
        assert!(!error.to_string().is_empty());
        return;
    }
    decode(messages, || -> Box<dyn Decoder> {
        Box::new(AvroDecoder::new(AvroDecoderConfig::new(schema)).expect("it was sound before"))
    });
}
