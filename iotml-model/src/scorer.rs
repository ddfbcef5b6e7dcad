//! A model in a pipeline.

use std::path::PathBuf;

use iotml_core::async_trait;
use iotml_core::batch::{Batch, StageOutput};
use iotml_core::error::ConfigError;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::config::Config;
use iotml_core::schemars::{self, JsonSchema};
use iotml_core::score::{ScoreError, Scorer, Threshold};
use iotml_core::state::Stateful;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::columns::Appender;
use crate::engine::EngineChoice;
use crate::feature::Missing;
use crate::live::FollowConfig;
use crate::manifest::{Distribution, Manifest, ManifestSource};
use crate::model::{Candidate, GoldenRule, Model, OpenOptions};
use crate::precheck::Limits;
use crate::watch::{NO_DISTRIBUTION, WatchConfig, Watcher};
use crate::work::{Work, append};

/// The columns an [`OnnxScorer`] appends: those of core, and what only some models have.
pub mod column {
    pub use iotml_core::score::column::*;

    /// `Utf8`: the most likely class of a classifier.
    pub const LABEL: &str = "label";
    /// `FixedSizeList<Float32>`: the model's output (a reconstruction, a prediction, probabilities), where asked for.
    pub const OUTPUT: &str = "output";
}

/// The configuration of an [`OnnxScorer`], `type = "onnx"`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnnxScorerConfig {
    /// The ONNX file; with `follow`, the model that scores until one is announced.
    #[serde(default)]
    pub model: Option<PathBuf>,
    /// Where other models are announced, which take its place while the pipeline runs.
    #[serde(default)]
    pub follow: Option<FollowConfig>,
    /// Compare live rows with those that the model was trained on, and report when they differ for too long.
    #[serde(default)]
    pub watch: Option<WatchConfig>,
    /// A JSON file with the manifest, in the place of the one in the model's metadata or beside it.
    #[serde(default)]
    pub manifest: Option<PathBuf>,
    /// Which engine runs the model.
    #[serde(default)]
    pub engine: EngineChoice,
    /// The libonnxruntime to load; without it, `ORT_DYLIB_PATH`, Python wheels and the system are searched.
    #[serde(default)]
    pub library: Option<PathBuf>,
    /// Whether a model without golden rows is refused.
    #[serde(default)]
    pub golden: GoldenRule,
    /// What becomes of a row in which a feature is missing or no finite number.
    #[serde(default)]
    pub missing: Missing,
    /// The rule by which rows are judged, such as `{ value = 3.2 }`, in the place of the manifest's.
    #[serde(default)]
    pub threshold: Option<Threshold>,
    /// Append the squared error of every feature.
    #[serde(default)]
    pub feature_errors: bool,
    /// Append the model's output.
    #[serde(default)]
    pub output: bool,
    /// Put before the names of all appended columns, for a second scorer in one chain.
    #[serde(default)]
    pub prefix: String,
    /// `next_event` only: keys remembered for one partition; those not seen for the longest time are dropped first.
    #[serde(default = "default_max_keys")]
    pub max_keys: usize,
    /// What the file may be at most.
    #[serde(default)]
    pub limits: Limits,
}

fn default_max_keys() -> usize {
    1_000_000
}

impl OnnxScorerConfig {
    /// The defaults for the ONNX file `model`.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        OnnxScorerConfig {
            model: Some(model.into()),
            follow: None,
            watch: None,
            manifest: None,
            engine: EngineChoice::default(),
            library: None,
            golden: GoldenRule::default(),
            missing: Missing::default(),
            threshold: None,
            feature_errors: false,
            output: false,
            prefix: String::new(),
            max_keys: default_max_keys(),
            limits: Limits::default(),
        }
    }

    /// Follows a feed, without a model of its own.
    pub fn following(follow: FollowConfig) -> Self {
        OnnxScorerConfig { model: None, follow: Some(follow), ..Self::new("") }
    }

    /// The scorer of a pipeline's configuration, if it is one of this kind.
    pub fn of_pipeline(config: &Config) -> Option<Self> {
        serde_json::from_value(config.frame.score.as_ref()?.settings()).ok()
    }

    pub(crate) fn open_options(&self) -> OpenOptions {
        OpenOptions {
            manifest: self.manifest.clone().map_or(ManifestSource::Model, ManifestSource::File),
            engine: self.engine,
            library: self.library.clone(),
            golden: self.golden,
            limits: self.limits.clone(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let threshold = self.threshold.as_ref().map(Threshold::check).transpose();
        threshold.map_err(|source| ConfigError::with(format!("`threshold`: {source}"), source))?;
        if self.max_keys < 2 {
            return Err(ConfigError::new(format!("max_keys is {}, but at least 2 are needed", self.max_keys)));
        }
        if let Some(watch) = &self.watch {
            watch.check()?;
            if self.follow.is_some() && watch.feed.is_some() {
                let message = "is not for a scorer that follows a feed, which reports there: leave it out";
                return Err(ConfigError::new(message).of_key("watch.feed"));
            }
        }
        Ok(())
    }

    /// Says which key is to be looked at when the model cannot be used.
    pub(crate) fn blame(&self, error: ModelError) -> ConfigError {
        let is_in_manifest = match &error {
            ModelError::Read { path, .. } | ModelError::FileTooLarge { path, .. } => {
                Some(path.as_path()) == self.manifest.as_deref()
            }
            ModelError::Manifest { .. } => true,
            _ => false,
        };
        let key = if is_in_manifest && self.manifest.is_some() { "manifest" } else { "model" };
        ConfigError::with(error.to_string(), error).of_key(key)
    }
}

/// Scores rows with an ONNX model; see [`mod@column`] for what it appends.
pub struct OnnxScorer {
    options: OpenOptions,
    stage: Stage,
    work: Work,
    appender: Appender,
    watcher: Option<Watcher>,
}

/// What watches the rows of one scorer, if that is wanted.
fn watcher(manifest: &Manifest, config: &OnnxScorerConfig) -> Result<Option<Watcher>, ConfigError> {
    let Some(watch) = &config.watch else { return Ok(None) };
    // Without features there may still be a rate of anomalies to look at.
    let is_enough = |it: &Distribution| !it.features.is_empty() || watch.anomaly_ratio.is_some();
    if !manifest.distribution.as_ref().is_some_and(is_enough) {
        let Manifest { name, version, .. } = manifest;
        return Err(ConfigError::new(format!("model {name} {version}: {NO_DISTRIBUTION}")).of_key("watch"));
    }
    Watcher::new(watch.clone(), None).map(Some)
}

/// How far a model is.
enum Stage {
    /// Read and checked, but in no engine.
    Checked(Box<Candidate>),
    Open(Box<Model>),
    /// Its engine refused it.
    Refused,
}

impl OnnxScorer {
    /// A scorer around the model that `config` names. The file and its manifest are read and checked here; the engine is
    /// loaded, and the golden rows run, when the scorer is opened.
    ///
    /// # Errors
    /// [`ConfigError`] with the key at fault if there is no such file, if it is refused before any engine sees it, or if a value
    /// of the configuration cannot be right for it.
    pub fn new(config: OnnxScorerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        if config.follow.is_some() {
            return Err(ConfigError::new("a scorer that follows a feed is made by a Follower").of_key("follow"));
        }
        let options = config.open_options();
        let Some(file) = &config.model else {
            let message = "is missing: name an ONNX file, or let `follow` name a feed of models";
            return Err(ConfigError::new(message).of_key("model"));
        };
        let candidate = Candidate::read(file, &options).map_err(|error| config.blame(error))?;
        let work = Work::new(&candidate.manifest, &candidate.signature, &config)?;
        let watcher = watcher(&candidate.manifest, &config)?;
        let appender = Appender::new(work.fields().to_vec());
        Ok(OnnxScorer { options, stage: Stage::Checked(Box::new(candidate)), work, appender, watcher })
    }

    /// A scorer around a model that is already open; the fields of `config` that say how to open one are not used.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration does not fit the model.
    pub fn with_model(model: Model, config: OnnxScorerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let work = Work::new(&model.manifest, &model.signature, &config)?;
        let watcher = watcher(&model.manifest, &config)?;
        let appender = Appender::new(work.fields().to_vec());
        let options = config.open_options();
        Ok(OnnxScorer { options, stage: Stage::Open(Box::new(model)), work, appender, watcher })
    }

    /// The same scorer, whose rows count into `watcher`, in the place of one of its own.
    #[must_use]
    pub fn watched_by(self, watcher: Watcher) -> Self {
        OnnxScorer { watcher: Some(watcher), ..self }
    }

    /// The model, once it is open.
    pub fn model(&self) -> Option<&Model> {
        match &self.stage {
            Stage::Open(model) => Some(model),
            Stage::Checked(_) | Stage::Refused => None,
        }
    }
}

#[async_trait]
impl Scorer for OnnxScorer {
    async fn open(&mut self, task: &TaskContext) -> Result<(), ScoreError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Refused) {
            Stage::Checked(candidate) => {
                let model = candidate.open(&self.options);
                let model = model.map_err(|error| ScoreError::fatal_from(error.to_string(), error))?;
                Stage::Open(Box::new(model))
            }
            Stage::Open(model) => Stage::Open(model),
            Stage::Refused => return Err(ScoreError::fatal("the model was refused when the scorer was opened first")),
        };
        if let Stage::Open(model) = &self.stage {
            self.work.register(model, &task.metrics);
            self.work.watch(self.watcher.as_ref().and_then(|watcher| watcher.observer(&model.manifest, task)));
            self.work.serves();
            let manifest = model.manifest();
            tracing::info!(
                model = manifest.name,
                version = manifest.version,
                kind = manifest.kind.as_str(),
                engine = model.engine(),
                golden_rows = manifest.golden.as_ref().map_or(0, |golden| golden.input.len()),
                "model opened"
            );
        }
        Ok(())
    }

    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        match &mut self.stage {
            Stage::Open(model) => {
                let scores = self.work.evaluate(model, &(&batch).into());
                let scores = scores.map_err(|error| ScoreError::fatal_from(error.to_string(), error))?;
                append(batch, &mut self.appender, scores.arrays, scores.bad)
            }
            Stage::Checked(_) | Stage::Refused => Err(ScoreError::fatal("the scorer is not open")),
        }
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        let windows = self.work.evaluation.windows()?;
        Some(windows as &mut dyn Stateful)
    }
}
