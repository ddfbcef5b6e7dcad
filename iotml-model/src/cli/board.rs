//! Where models are announced, as the command line says it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use iotml_core::cli::clap::{self, Args};
use iotml_core::error::BoxError;
use iotml_core::model::{Announcer, ModelSet, ModelStatus, Rollout, SetError};
use iotml_core::plugin::config::{Config, Secrets};
use iotml_core::plugin::{BuildContext, Registry};
use serde_json::{Map, Value};

use super::Failure;
use super::reach::from_environment;
use crate::precheck::Limits;
use crate::scorer::OnnxScorerConfig;
use crate::store::StoreOptions;

/// Names a feed where nothing else does.
const ENVIRONMENT: &str = "IOTML_MODEL_FEED";

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Announcements")]
pub(super) struct Board {
    /// Configuration of a pipeline whose scorer follows models: it says where they are announced, and in which store they are
    #[arg(long, value_name = "FILE", conflicts_with = "feed")]
    config: Option<PathBuf>,
    /// Instead of --config: the feed's table as JSON, such as {"type": "kafka", "kafka": {"bootstrap.servers": "localhost:9092"}}.
    /// Without either the environment is asked [env: IOTML_MODEL_FEED]
    #[arg(long, value_name = "JSON")]
    feed: Option<String>,
}

/// A place where models are announced.
pub(super) struct Opened {
    announcer: Arc<dyn Announcer>,
    /// The store that the followers look into.
    pub store: Option<(String, StoreOptions)>,
    /// What an ONNX file may be at most for the scorer of the pipeline.
    pub limits: Limits,
    secrets: Secrets,
}

impl Board {
    /// Takes it from the configuration or the flag; opens nothing yet.
    pub fn open(&self, registry: &Arc<Registry>) -> Result<Opened, Failure> {
        let none = || "it is not said where models are announced: use --config or --feed".to_owned();
        self.open_if_named(registry)?.ok_or_else(none)
    }

    /// The same; `None` if nothing is said.
    pub fn open_if_named(&self, registry: &Arc<Registry>) -> Result<Option<Opened>, Failure> {
        let (table, secrets) = match (&self.config, &self.feed) {
            (Some(file), _) => {
                let config = Config::load(file, registry).map_err(|mistakes| mistakes.to_string())?;
                return Opened::of(&config, registry).map(Some);
            }
            (None, Some(text)) => json_table("--feed", text)?,
            (None, None) => match from_environment(ENVIRONMENT) {
                Some(text) => json_table(ENVIRONMENT, &text)?,
                None => return Ok(None),
            },
        };
        Opened::new(&table, None, Limits::default(), secrets, registry).map(Some)
    }
}

/// The table that a flag gives as JSON, and the secrets in it.
pub(super) fn json_table(flag: &str, text: &str) -> Result<(Map<String, Value>, Secrets), Failure> {
    let table = serde_json::from_str::<Map<String, Value>>(text);
    // The text itself may hold a password.
    let wrong = |error: serde_json::Error| format!("{flag} is no JSON object (column {})", error.column());
    let table = table.map_err(wrong)?;
    let mut secrets = Secrets::default();
    texts(&table).filter(|(key, _)| key.contains("password")).for_each(|(_, text)| secrets.add(text));
    Ok((table, secrets))
}

/// All texts of a table, with their keys.
fn texts(table: &Map<String, Value>) -> Box<dyn Iterator<Item = (&str, &str)> + '_> {
    Box::new(table.iter().flat_map(|(key, value)| match value {
        Value::String(text) => Box::new(std::iter::once((key.as_str(), text.as_str()))),
        Value::Object(inner) => texts(inner),
        _ => Box::new(std::iter::empty()) as Box<dyn Iterator<Item = _>>,
    }))
}

impl Opened {
    /// Where the models of a pipeline are announced.
    pub fn of(config: &Config, registry: &Registry) -> Result<Self, Failure> {
        let file = config.file.display();
        let scorer = OnnxScorerConfig::of_pipeline(config);
        let followed = scorer.and_then(|scorer| Some((scorer.follow?, scorer.limits)));
        let (follow, limits) = followed.ok_or_else(|| format!("the scorer of {file} follows no announcements"))?;
        let store = follow.store.map(|url| (url, follow.store_options));
        Self::new(&follow.feed.0, store, limits, config.secrets().clone(), registry)
    }

    fn new(
        table: &Map<String, Value>,
        store: Option<(String, StoreOptions)>,
        limits: Limits,
        secrets: Secrets,
        registry: &Registry,
    ) -> Result<Self, Failure> {
        let context = BuildContext { pipeline: "models".into(), task: 0, n_tasks: 1 };
        let announcer = registry.model_feeds.build_announcer(table, &context);
        let announcer = announcer.map_err(|error| secrets.scrub(&error.to_string()).into_owned())?;
        Ok(Opened { announcer, store, limits, secrets })
    }

    /// What is announced of a model.
    pub fn announced_of(&self, model: &str) -> Result<ModelSet, Failure> {
        match self.announced()?.remove(model) {
            Some(set) => set.map_err(|error| format!("what is announced of {model} cannot be read: {error}")),
            None => Err(format!("nothing is announced of {model}")),
        }
    }

    /// What is announced, by the model's name.
    pub fn announced(&self) -> Result<BTreeMap<String, Result<ModelSet, SetError>>, Failure> {
        self.announcer.announced().map_err(|error| self.told(&error))
    }

    /// What workers said, oldest first.
    pub fn reports(&self) -> Result<Vec<ModelStatus>, Failure> {
        self.announcer.reports().map_err(|error| self.told(&error))
    }

    /// Changes what is announced of a model.
    pub fn change(
        &self,
        model: &str,
        mut change: impl FnMut(&mut ModelSet) -> Result<(), SetError>,
    ) -> Result<ModelSet, Failure> {
        self.announcer.change(model, &mut change).map_err(|error| self.told(&error))
    }

    fn told(&self, error: &BoxError) -> Failure {
        self.secrets.scrub(&iotml_core::error::report(error.as_ref())).into_owned()
    }
}

/// What is in force, one line a version.
pub(super) fn in_force(set: &ModelSet) -> String {
    let mut out = format!("announced of {}:\n", set.model);
    if set.versions.is_empty() {
        out.push_str("  nothing\n");
    }
    for announced in &set.versions {
        let rows = match (announced.is_ready(), announced.rollout) {
            (false, _) => "retired".to_owned(),
            (true, Rollout::Full) => "all rows".to_owned(),
            (true, Rollout::Canary { percent }) => format!("canary, {percent} % of the keys"),
            (true, Rollout::Weighted { weight }) => format!("weight {weight}"),
            (true, Rollout::Shadow) => "shadow".to_owned(),
        };
        let _ = writeln!(out, "  {}  {rows}  {}", announced.version, announced.place.describe());
    }
    out
}
