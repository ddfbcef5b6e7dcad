//! The scorer `onnx` of a configuration, with or without a feed to follow.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use iotml_core::error::ConfigError;
use iotml_core::model::ModelFeeds;
use iotml_core::plugin::{BuildContext, Plugin, Registry};
use iotml_core::schemars::JsonSchema;
use iotml_core::score::Scorer;
use serde_json::{Value, json};

use super::follower::{Follower, WeakFollower};
use crate::scorer::{OnnxScorer, OnnxScorerConfig};

/// Adds the scorer `onnx`.
pub(crate) fn register(registry: &mut Registry) {
    let feeds = registry.model_feeds.clone();
    let (described, followers) = (feeds.clone(), Followers { feeds, known: Mutex::default() });
    let about = "scores rows with an ONNX model whose manifest names its features, scaling and threshold";
    let plugin = Plugin::new(about, move |config: OnnxScorerConfig, context| {
        if config.follow.is_some() {
            return Ok(Box::new(followers.of(config, context)?.scorer()) as Box<dyn Scorer>);
        }
        Ok(Box::new(OnnxScorer::new(config)?) as Box<dyn Scorer>)
    });
    let plugin = plugin.described(move |generator| {
        // The tables of feeds are described by whoever registered them, so that their mistakes are found and secrets hidden.
        let choices: Vec<Value> = described
            .schemas(generator)
            .into_iter()
            .map(|(name, schema)| {
                let mut schema = schema.to_value();
                schema["properties"]["type"] = json!({ "const": name });
                schema
            })
            .collect();
        let schema = OnnxScorerConfig::json_schema(generator);
        if let Some(Value::Object(feed)) = generator.definitions_mut().get_mut("FeedTable")
            && !choices.is_empty()
        {
            *feed = match choices.len() {
                1 => choices.into_iter().next().and_then(|only| only.as_object().cloned()).unwrap_or_default(),
                _ => json!({ "oneOf": choices }).as_object().cloned().unwrap_or_default(),
            };
        }
        schema
    });
    let taken = registry.scorers.insert("onnx", plugin);
    assert!(taken.is_none(), "a plug-in of type \"onnx\" is registered twice");
}

/// The followers in use: all tasks of a pipeline share theirs.
struct Followers {
    feeds: ModelFeeds,
    known: Mutex<HashMap<String, WeakFollower>>,
}

impl Followers {
    fn of(&self, config: OnnxScorerConfig, context: &BuildContext) -> Result<Follower, ConfigError> {
        let Some(follow) = &config.follow else { return Err(ConfigError::new("nothing to follow")) };
        let written = serde_json::to_string(&config);
        let written = written.map_err(|source| ConfigError::with("the configuration cannot be compared", source))?;
        let key = format!("{}\n{written}", context.pipeline);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(follower) = known.get(&key).and_then(WeakFollower::upgrade) {
            return Ok(follower);
        }
        let feed = self.feeds.build(&follow.feed.0, context).map_err(|error| error.of_key("follow.feed"))?;
        let follower = Follower::new(config, feed)?;
        known.retain(|_, follower| follower.upgrade().is_some());
        known.insert(key, follower.downgrade());
        Ok(follower)
    }
}
