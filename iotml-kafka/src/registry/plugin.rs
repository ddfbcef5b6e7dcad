//! Decoder and encoder of type `confluent_avro`: Avro in the Confluent frame, with schemas from a registry.

use std::sync::Arc;

use iotml_core::decode::{ConfluentAvroDecoder, ConfluentAvroDecoderConfig, Decoder};
use iotml_core::encode::{ConfluentAvroEncoder, ConfluentAvroEncoderConfig, Encoder};
use iotml_core::error::ConfigError;
use iotml_core::plugin::Registry;
use iotml_core::schemars::{self, JsonSchema};
use serde::Deserialize;
use serde_json::Value;

use super::inline::name_of;
use super::{SchemaRegistry, SchemaRegistryConfig};

/// Configuration of the decoder of type `confluent_avro`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RegistryDecoderConfig {
    /// Where the schemas are.
    pub registry: SchemaRegistryConfig,
    /// The decoder's own options.
    #[serde(flatten)]
    pub decoder: ConfluentAvroDecoderConfig,
}

/// Configuration of the encoder of type `confluent_avro`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RegistryEncoderConfig {
    /// Where the schema is registered.
    pub registry: SchemaRegistryConfig,
    /// How the subject is named, instead of `subject`.
    #[serde(default)]
    pub subject_strategy: Option<SubjectStrategy>,
    /// The encoder's own options. `{record}` in `subject` stands for the full name of the schema's record.
    #[serde(flatten)]
    pub encoder: ConfluentAvroEncoderConfig,
}

/// How a subject is named, in the sense of Confluent's strategies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectStrategy {
    /// `<topic>-value`: one kind of record in a topic.
    TopicName,
    /// `<record>`: one history of a kind of record, in whatever topic.
    RecordName,
    /// `<topic>-<record>`: several kinds of records in a topic.
    TopicRecordName,
}

/// Stands for the full name of the record in a subject.
const RECORD: &str = "{record}";

impl SubjectStrategy {
    fn template(self) -> &'static str {
        match self {
            SubjectStrategy::TopicName => "{topic}-value",
            SubjectStrategy::RecordName => RECORD,
            SubjectStrategy::TopicRecordName => "{topic}-{record}",
        }
    }
}

/// `subject` with the full name of the record that `schema` defines put in.
pub(super) fn with_record(subject: &str, schema: &str) -> Result<String, String> {
    if !subject.contains(RECORD) {
        return Ok(subject.to_owned());
    }
    let json: Option<Value> = serde_json::from_str(schema).ok();
    let name = json.as_ref().and_then(name_of).ok_or("a subject by record needs a schema with a name")?;
    Ok(subject.replace(RECORD, &name))
}

impl RegistryEncoderConfig {
    fn with_strategy(mut self) -> Result<Self, ConfigError> {
        if let Some(strategy) = self.subject_strategy {
            if self.encoder.subject != ConfluentAvroEncoderConfig::default().subject {
                return Err(ConfigError::new("set subject or subject_strategy, not both"));
            }
            self.encoder.subject = strategy.template().to_owned();
        }
        Ok(self)
    }
}

pub(crate) fn register(registry: &mut Registry) {
    registry.decoder(
        "confluent_avro",
        "Avro in the Confluent frame, each message by the writer's schema from a schema registry.",
        |config: RegistryDecoderConfig, _| {
            let schemas = Arc::new(SchemaRegistry::new(config.registry)?);
            Ok(Box::new(ConfluentAvroDecoder::new(schemas, config.decoder)?) as Box<dyn Decoder>)
        },
    );
    registry.encoder(
        "confluent_avro",
        "Avro in the Confluent frame, its schema registered in a schema registry.",
        |config: RegistryEncoderConfig, _| {
            let config = config.with_strategy()?;
            let schemas = Arc::new(SchemaRegistry::new(config.registry)?);
            Ok(Box::new(ConfluentAvroEncoder::new(schemas, config.encoder)?) as Box<dyn Encoder>)
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_name_the_subject() {
        let schema = r#"{"type": "record", "name": "Car", "namespace": "com.x", "fields": []}"#;
        assert_eq!(with_record(SubjectStrategy::RecordName.template(), schema).unwrap(), "com.x.Car");
        assert_eq!(with_record("cars-{record}", schema).unwrap(), "cars-com.x.Car");
        assert_eq!(with_record("plain", "\"string\"").unwrap(), "plain");
        assert!(with_record(RECORD, "\"string\"").is_err());
        let config = r#"{"registry": {"url": "http://h"}, "subject": "mine", "subject_strategy": "record_name"}"#;
        let config: RegistryEncoderConfig = serde_json::from_str(config).unwrap();
        assert!(config.with_strategy().unwrap_err().to_string().contains("not both"));
    }
}
