//! The scorer `onnx` of a configuration, with or without a feed to follow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use iotml_core::error::ConfigError;
use iotml_core::model::ModelFeeds;
use iotml_core::plugin::{BuildContext, Plugin, Registry};
use iotml_core::schemars::JsonSchema;
use iotml_core::score::Scorer;
use serde_json::{Value, json};

use super::follower::{Follower, Handle};
use crate::scorer::{OnnxScorer, OnnxScorerConfig};
use crate::watch::{self, Watcher};

/// Adds the scorer `onnx`.
pub(crate) fn register(registry: &mut Registry) {
    let feeds = registry.model_feeds.clone();
    let described = feeds.clone();
    let scorers = Scorers { feeds, followers: InUse::default(), watchers: InUse::default() };
    let about = "scores rows with an ONNX model whose manifest names its features, scaling and threshold";
    let plugin = Plugin::new(about, move |config: OnnxScorerConfig, context| scorers.build(config, context));
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

/// What all tasks of a pipeline share: one for each pipeline and configuration that is in use.
struct InUse<T>(Mutex<HashMap<String, Weak<T>>>);

impl<T> Default for InUse<T> {
    fn default() -> Self {
        InUse(Mutex::default())
    }
}

impl<T> InUse<T> {
    fn of(
        &self,
        config: &OnnxScorerConfig,
        context: &BuildContext,
        make: impl FnOnce() -> Result<Arc<T>, ConfigError>,
    ) -> Result<Arc<T>, ConfigError> {
        let written = serde_json::to_string(config);
        let written = written.map_err(|source| ConfigError::with("the configuration cannot be compared", source))?;
        let key = format!("{}\n{written}", context.pipeline);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&key).and_then(Weak::upgrade) {
            return Ok(same);
        }
        let new = make()?;
        known.retain(|_, known| known.strong_count() > 0);
        known.insert(key, Arc::downgrade(&new));
        Ok(new)
    }
}

/// Builds scorers.
struct Scorers {
    feeds: ModelFeeds,
    followers: InUse<Handle>,
    watchers: InUse<watch::Shared>,
}

impl Scorers {
    fn build(&self, config: OnnxScorerConfig, context: &BuildContext) -> Result<Box<dyn Scorer>, ConfigError> {
        if let Some(follow) = &config.follow {
            let handle = self.followers.of(&config, context, || {
                let feed = self.feeds.build(&follow.feed.0, context).map_err(|error| error.within("follow.feed"))?;
                Ok(Follower::new(config.clone(), feed)?.0)
            })?;
            return Ok(Box::new(Follower(handle).scorer()));
        }
        let scorer = OnnxScorer::new(config.clone())?;
        let Some(watch) = &config.watch else { return Ok(Box::new(scorer)) };
        let watcher = self.watchers.of(&config, context, || {
            let feed = watch.feed.as_ref().map(|feed| self.feeds.build(&feed.0, context)).transpose();
            let feed = feed.map_err(|error| error.within("watch.feed"))?;
            Ok(Watcher::new(watch.clone(), feed)?.0)
        })?;
        Ok(Box::new(scorer.watched_by(Watcher(watcher))))
    }
}
