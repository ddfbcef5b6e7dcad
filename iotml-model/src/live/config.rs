//! The part of a scorer's configuration that says which announcements it follows.

use std::borrow::Cow;
use std::fmt;

use iotml_core::plugin::HumanDuration;
use iotml_core::schemars::{self, JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Which announcements a scorer follows, and what a model must pass to be put into service.
///
/// ```toml
/// [score]
/// type = "onnx"
/// [score.follow]
/// name = "cars"
/// feed = { type = "kafka", topic = "models", kafka = { "bootstrap.servers" = "localhost:9092" } }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowConfig {
    /// The model's name.
    pub name: String,
    /// Where it is announced.
    #[serde(default)]
    pub feed: FeedTable,
    /// The address of the model store that announcements are about, such as `s3://models`.
    #[cfg(feature = "store")]
    #[serde(default)]
    pub store: Option<String>,
    /// How the store is reached, what is kept of it, and whom it trusts. With `require_signature` only models from the store are
    /// taken.
    #[cfg(feature = "store")]
    #[serde(default)]
    pub store_options: crate::store::StoreOptions,
    /// Take this version alone, whatever its rollout, and no other; without it, what is announced last counts.
    #[serde(default)]
    pub version: Option<String>,
    /// The longest that a model may take over a batch of at most 1,024 rows.
    #[serde(default = "default_batch_time")]
    pub max_batch_time: HumanDuration,
    /// The longest that fetching a model may take, and then the longest that all its checks may take.
    #[serde(default = "default_check_time")]
    pub max_check_time: HumanDuration,
}

fn default_batch_time() -> HumanDuration {
    HumanDuration::from_secs(1)
}

fn default_check_time() -> HumanDuration {
    HumanDuration::from_secs(60)
}

impl FollowConfig {
    /// Follows the announcements of the model `name`.
    pub fn new(name: impl Into<String>) -> Self {
        FollowConfig {
            name: name.into(),
            feed: FeedTable::default(),
            #[cfg(feature = "store")]
            store: None,
            #[cfg(feature = "store")]
            store_options: crate::store::StoreOptions::default(),
            version: None,
            max_batch_time: default_batch_time(),
            max_check_time: default_check_time(),
        }
    }
}

/// The table of a feed: its `type`, and the keys of that kind of feed.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeedTable(pub Map<String, Value>);

impl fmt::Debug for FeedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without its values, which may be secrets.
        f.debug_tuple("FeedTable").field(&self.0.get("type")).finish()
    }
}

impl JsonSchema for FeedTable {
    fn schema_name() -> Cow<'static, str> {
        "FeedTable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "object", "additionalProperties": true })
    }
}
