//! Where the decoder gets a writer's schema from, by id.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::SchemaRegistryError;

/// Finds a writer's schema by its id in the Confluent frame. Handed to [`ConfluentAvroDecoder`], which caches what it got:
/// each id is asked for once per task.
///
/// [`ConfluentAvroDecoder`]: super::ConfluentAvroDecoder
#[async_trait]
pub trait SchemaResolver: Send + Sync {
    /// The Avro schema of `id` as JSON, references inlined.
    async fn resolve(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError>;
}
