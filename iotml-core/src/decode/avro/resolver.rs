//! Where the decoder gets a writer's schema from, by id.

use std::sync::Arc;

use async_trait::async_trait;

use crate::error::BoxError;

/// Why a schema cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// There is no schema of this id: rows that name it are rejected.
    #[error("the registry knows no schema {id}")]
    Unknown {
        /// The id.
        id: u32,
    },
    /// There is one, but it is of no use here, for instance Protobuf: rows that name it are rejected.
    #[error("schema {id} cannot be used: {message}")]
    Unusable {
        /// The id.
        id: u32,
        /// Why.
        message: String,
    },
    /// The registry cannot be reached now: the pipeline tries again.
    #[error("the schema registry is unavailable")]
    Unavailable {
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The registry refuses this client for good, for instance its password.
    #[error("the schema registry refuses: {message}")]
    Refused {
        /// What to do.
        message: String,
        /// The cause, where there is one.
        #[source]
        source: Option<BoxError>,
    },
}

/// Finds a writer's schema by its id in the Confluent frame. Handed to [`ConfluentAvroDecoder`], which caches what it got:
/// each id is asked for once per task.
///
/// [`ConfluentAvroDecoder`]: super::ConfluentAvroDecoder
#[async_trait]
pub trait SchemaResolver: Send + Sync {
    /// The Avro schema of `id` as JSON, references inlined.
    async fn resolve(&self, id: u32) -> Result<Arc<str>, ResolveError>;
}
