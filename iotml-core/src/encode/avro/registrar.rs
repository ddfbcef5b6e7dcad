//! Where the encoder gets the id of its schema from.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::SchemaRegistryError;

/// Which changes of a schema a registry accepts, in the words of the Confluent API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Compatibility {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Compatibility {
    /// The word of the Confluent API.
    pub fn as_str(self) -> &'static str {
        match self {
            Compatibility::None => "NONE",
            Compatibility::Backward => "BACKWARD",
            Compatibility::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Compatibility::Forward => "FORWARD",
            Compatibility::ForwardTransitive => "FORWARD_TRANSITIVE",
            Compatibility::Full => "FULL",
            Compatibility::FullTransitive => "FULL_TRANSITIVE",
        }
    }
}

/// A schema that is to be written with.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// The subject.
    pub subject: &'a str,
    /// The Avro schema as JSON.
    pub schema: &'a str,
    /// Whether the schema is registered where it is not yet; otherwise it must be there already.
    pub auto_register: bool,
    /// What the subject's compatibility is set to before the schema is registered; left as it is where `None`.
    pub compatibility: Option<Compatibility>,
}

/// Finds or makes the id of a schema. Handed to [`ConfluentAvroEncoder`](super::ConfluentAvroEncoder), which asks once per schema and subject.
#[async_trait]
pub trait SchemaRegistrar: Send + Sync {
    /// The id to put into the frame.
    async fn register(&self, registration: Registration<'_>) -> Result<u32, SchemaRegistryError>;
}
