use std::sync::{Arc, LazyLock};

use apache_avro::{Schema, from_avro_datum};
use iotml_core::async_trait;
use iotml_core::decode::{ConfluentAvroDecoder, ConfluentAvroDecoderConfig, Decoder, SchemaResolver};
use iotml_core::error::{Reason, SchemaRegistryError};

use crate::input::messages;
use crate::oracle::is_overread;
use crate::rows::{Fate, decode};

/// The schemas that are registered, from id 1 on.
pub(crate) const SCHEMAS: [&str; 3] = [
    r#"{"type": "record", "name": "Car", "fields": [{"name": "speed", "type": "float"}, {"name": "pressure", "type": "int"},
        {"name": "id", "type": "string"}]}"#,
    r#"{"type": "record", "name": "Car", "fields": [{"name": "id", "type": "string"}, {"name": "speed", "type": "double"},
        {"name": "failure", "type": ["null", "string"]}, {"name": "pressure", "type": "long"}]}"#,
    r#"{"type": "record", "name": "Odd", "fields": [{"name": "tags", "type": {"type": "map", "values": "long"}},
        {"name": "next", "type": ["null", "Odd"]}, {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A", "B"]}}]}"#,
];

static PARSED: LazyLock<Vec<Schema>> =
    LazyLock::new(|| SCHEMAS.iter().map(|json| Schema::parse_str(json).expect("a sound schema")).collect());

struct Shelf;

#[async_trait]
impl SchemaResolver for Shelf {
    async fn resolve(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError> {
        match (id as usize).checked_sub(1).and_then(|at| SCHEMAS.get(at)) {
            Some(json) => Ok(Arc::from(*json)),
            None if id == 9 => Err(SchemaRegistryError::Unusable { id, message: "it is of type PROTOBUF".to_owned() }),
            None => Err(SchemaRegistryError::Unknown { id }),
        }
    }
}

/// Messages in the Confluent frame; what is kept of the flat schemas is a datum to apache-avro, too.
pub fn confluent_frame(data: &[u8]) {
    let messages = messages(data);
    let fates = decode(&messages, || -> Box<dyn Decoder> {
        // So that what a message is rejected for does not depend on how many others are unknown.
        let config =
            ConfluentAvroDecoderConfig { max_unknown_ids: usize::MAX, ..ConfluentAvroDecoderConfig::default() };
        Box::new(ConfluentAvroDecoder::new(Arc::new(Shelf), config).expect("a sound configuration"))
    });
    for (message, fate) in messages.iter().zip(&fates) {
        let [0, 0, 0, 0, id @ 1..=2, datum @ ..] = message else {
            continue;
        };
        let mut rest = datum;
        let schema = &PARSED[usize::from(*id) - 1];
        let oracle = from_avro_datum(schema, &mut rest, None);
        // It reads a text that is not there any more as null, where the schema has none.
        let is_datum = oracle.as_ref().is_ok_and(|value| value.validate(schema)) && rest.is_empty();
        let agrees = match fate {
            Fate::Kept(_) => is_datum,
            // A column has the type of the schema seen first, which a value of another schema may not fit.
            Fate::Rejected(reason) => !is_datum || *reason == Reason::OutOfRange || is_overread(schema, datum),
        };
        assert!(agrees, "{fate:?}, but apache-avro: {oracle:?}, {} left", rest.len());
    }
}
