//! Kafka for iotml: [`KafkaSource`], [`KafkaSink`], [`LogReader`] and, with the feature `embedded`, an in-memory cluster.
//!
//! ```text
//! Kafka -> [KafkaSource] -> decode -> preprocess -> score -> encode -> [KafkaSink] -> Kafka
//! ```
//!
//! 1. [`KafkaSource`] is a member of a consumer group; offsets are committed only behind acknowledgements;
//! 2. [`KafkaSink`] is an idempotent producer; a row counts as written when all in-sync replicas have it; for exactly once it is
//!    a transactional one, in whose transactions the offsets of the source are;
//! 3. [`SchemaRegistry`] finds the writer's schema of a message by its id, and registers schemas;
//! 4. [`LogReader`] reads an exact range of a topic once more, outside any group, for training;
//! 5. [`KafkaModelFeed`] hears of models on a compacted topic while pipelines run, and [`ModelTopic`] announces them.
//!
//! Any property of librdkafka is passed through under its own name ([`KafkaProperties`]), except those that would weaken
//! these guarantees, which are refused by name. No type of the client library stands in a public signature.

#![deny(unsafe_code)]

mod client;
mod delivery;
#[cfg(feature = "embedded")]
#[expect(unsafe_code, reason = "calls librdkafka where rdkafka has no wrapper")]
mod embedded;
mod log;
mod model_topic;
#[cfg(feature = "registry")]
mod registry;
#[cfg(feature = "cli")]
mod replay;
mod sink;
mod source;

use iotml_core::plugin::Registry;
use iotml_core::sink::ReadBack;
use iotml_core::source::Source;

pub use client::KafkaProperties;
#[cfg(feature = "embedded")]
pub use embedded::{EmbeddedError, EmbeddedKafka, Failure, Request};
pub use log::{
    LogError, LogEvent, LogGap, LogProgress, LogRange, LogReader, LogReaderConfig, OnGap, Select, Span, Until,
};
pub use model_topic::{AnnouncementFormat, KafkaModelFeed, KafkaModelFeedConfig, ModelTopic, ModelTopicError};
#[cfg(feature = "registry")]
pub use registry::{
    RegistryDecoderConfig, RegistryEncoderConfig, RegistryTlsConfig, SchemaRegistry, SchemaRegistryConfig,
    SubjectStrategy,
};
pub use sink::{KafkaSink, KafkaSinkConfig, TopicCreation};
pub use source::{KafkaSource, KafkaSourceConfig, Start};

/// Adds source, sink (with what reads it back) and feed of models of type `kafka`, decoder and encoder of type `confluent_avro`, and the subcommand `replay`.
pub fn register(registry: &mut Registry) {
    registry.source("kafka", "Reads topics of Kafka as a member of a consumer group", |config, context| {
        Ok(Box::new(KafkaSource::new(config, context)?) as Box<dyn Source>)
    });
    #[cfg(feature = "registry")]
    registry::register(registry);
    registry.sink("kafka", "Writes to Kafka, idempotent and acknowledged by all replicas", sink::build);
    model_topic::register(registry);
    registry.check(delivery::remarks);
    registry.way_back("kafka", "Writes to the topics of the cluster that is read", |config, context| {
        sink::build(sink::back(&config), context)
    });
    registry.read_back("kafka", "Reads the topic that is written", |config, _| {
        Ok(Box::new(log::TopicReadBack::new(&config)?) as Box<dyn ReadBack>)
    });
    #[cfg(feature = "cli")]
    registry.command(replay::Replay);
}
