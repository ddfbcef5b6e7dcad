//! Models announced on Kafka: one compacted topic says which are in force, two others what workers made of that.
//!
//! | topic | key | value |
//! | --- | --- | --- |
//! | `models`, compacted | the model's name | a [`ModelSet`](iotml_core::model::ModelSet) as JSON or Avro; a tombstone takes the model out |
//! | `model-status` | the model's name | a [`ModelStatus`](iotml_core::model::ModelStatus) as JSON |
//! | `model-drift` | the model's name | a [`ModelDrift`](iotml_core::model::ModelDrift) as JSON |
//!
//! 1. [`KafkaModelFeed`] is the `feed = { type = "kafka" }` of a scorer that follows: it reads the topic to its end, then goes on;
//! 2. [`ModelTopic`] is the other side: it announces, and reads what is announced and reported.

mod announce;
#[cfg(feature = "registry")]
mod avro;
mod config;
mod error;
mod feed;
mod read;
mod report;
mod turn;
mod value;
mod writer;

pub use announce::ModelTopic;
pub use config::KafkaModelFeedConfig;
pub use error::ModelTopicError;
pub use feed::KafkaModelFeed;
pub use value::AnnouncementFormat;

use std::sync::Arc;

use iotml_core::error::ConfigError;
use iotml_core::model::{Announcer, ModelFeed};
use iotml_core::plugin::Registry;

/// Adds the feed `kafka`, both sides of it.
pub(crate) fn register(registry: &Registry) {
    registry.model_feeds.add("kafka", "A compacted topic of Kafka", |config, context| {
        Ok(Arc::new(KafkaModelFeed::new(config, context)?) as Arc<dyn ModelFeed>)
    });
    registry.model_feeds.add_announcer("kafka", |config, _| {
        let topic = ModelTopic::new(config);
        let topic = topic.map_err(|error| ConfigError::with(iotml_core::error::report(&error), error))?;
        Ok(Arc::new(topic) as Arc<dyn Announcer>)
    });
}
