//! A model in a pipeline.

use std::path::PathBuf;
use std::sync::Arc;

use iotml_core::arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, StringArray};
use iotml_core::arrow::buffer::NullBuffer;
use iotml_core::arrow::datatypes::{DataType, Field};
use iotml_core::async_trait;
use iotml_core::batch::{Batch, Rejected, StageOutput};
use iotml_core::error::ConfigError;
use iotml_core::metrics::Counter;
use iotml_core::pipeline::TaskContext;
use iotml_core::schemars::{self, JsonSchema};
use iotml_core::score::{ScoreError, Scorer, Threshold};
use iotml_core::state::Stateful;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::columns::{Appender, Constant, ConstantValue, item, numbers};
use crate::engine::EngineChoice;
use crate::evaluation::{Evaluation, Wants};
use crate::feature::Missing;
use crate::manifest::{Kind, Manifest, ManifestSource};
use crate::model::{Candidate, GoldenRule, Model, OpenOptions};
use crate::precheck::{Limits, Signature};
use crate::verdict::{Verdict, known};

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
    /// The ONNX file.
    pub model: PathBuf,
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
            model: model.into(),
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

    fn open_options(&self) -> OpenOptions {
        OpenOptions {
            manifest: self.manifest.clone().map_or(ManifestSource::Model, ManifestSource::File),
            engine: self.engine,
            library: self.library.clone(),
            golden: self.golden,
            limits: self.limits.clone(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let threshold = self.threshold.as_ref().map(Threshold::check).transpose();
        threshold.map_err(|source| ConfigError::with(format!("`threshold`: {source}"), source))?;
        if self.max_keys < 2 {
            return Err(ConfigError::new(format!("max_keys is {}, but at least 2 are needed", self.max_keys)));
        }
        Ok(())
    }

    /// Says which key is to be looked at when the model cannot be used.
    fn blame(&self, error: ModelError) -> ConfigError {
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
}

/// How far a model is.
enum Stage {
    /// Read and checked, but in no engine.
    Checked(Box<Candidate>),
    Open(Box<Model>),
    /// Its engine refused it.
    Refused,
}

/// All that is needed beside the model itself.
struct Work {
    evaluation: Evaluation,
    verdict: Verdict,
    appender: Appender,
    threshold: Constant,
    name: Constant,
    version: Constant,
    /// The width of the output column, if it is wanted.
    output_width: Option<usize>,
    wants_errors: bool,
    anomalies: Counter,
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
        let options = config.open_options();
        let candidate = Candidate::read(&config.model, &options).map_err(|error| config.blame(error))?;
        let work = Work::new(&candidate.manifest, &candidate.signature, &config)?;
        Ok(OnnxScorer { options, stage: Stage::Checked(Box::new(candidate)), work })
    }

    /// A scorer around a model that is already open; the fields of `config` that say how to open one are not used.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration does not fit the model.
    pub fn with_model(model: Model, config: OnnxScorerConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let work = Work::new(&model.manifest, &model.signature, &config)?;
        Ok(OnnxScorer { options: config.open_options(), stage: Stage::Open(Box::new(model)), work })
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
            self.work.register(model, task);
        }
        Ok(())
    }

    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        match &mut self.stage {
            Stage::Open(model) => self.work.score(model, batch),
            Stage::Checked(_) | Stage::Refused => Err(ScoreError::fatal("the scorer is not open")),
        }
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        let windows = self.work.evaluation.windows()?;
        Some(windows as &mut dyn Stateful)
    }
}

impl Work {
    fn new(manifest: &Manifest, signature: &Signature, config: &OnnxScorerConfig) -> Result<Self, ConfigError> {
        let has_errors = manifest.kind.has_feature_errors();
        let verdict = Verdict::new(manifest, config.threshold.as_ref())
            .map_err(|source| ConfigError::with(format!("`threshold`: {source}"), source))?;
        if (config.feature_errors || verdict.needs_errors()) && !has_errors {
            let kind = manifest.kind.as_str();
            return Err(ConfigError::new(format!("a model of kind {kind} has no feature errors to append or judge")));
        }
        let wants = Wants { errors: config.feature_errors || verdict.needs_errors(), output: config.output };
        let n_features = manifest.features.len();
        // A predicted sequence is cut to its last step, so the row's width is that of the features.
        let output_width = if has_errors { n_features } else { signature.output.width() };
        let output_width = config.output.then_some(output_width);

        let mut fields = vec![
            (column::SCORE, DataType::Float32),
            (column::THRESHOLD, DataType::Float32),
            (column::ANOMALY, DataType::Boolean),
            (column::MODEL, DataType::Utf8),
            (column::MODEL_VERSION, DataType::Utf8),
        ];
        if manifest.kind == Kind::Classifier {
            fields.push((column::LABEL, DataType::Utf8));
        }
        if config.feature_errors {
            fields.push((column::FEATURE_ERRORS, numbers(n_features)));
        }
        if let Some(width) = output_width {
            fields.push((column::OUTPUT, numbers(width)));
        }
        let field = |(name, data_type)| Field::new(format!("{}{name}", config.prefix), data_type, true);
        Ok(Work {
            evaluation: Evaluation::new(manifest, signature, config.missing, wants, config.max_keys),
            appender: Appender::new(fields.into_iter().map(field).collect()),
            threshold: Constant::new(ConstantValue::Number(verdict.limit())),
            name: Constant::new(ConstantValue::Text(manifest.name.clone())),
            version: Constant::new(ConstantValue::Text(manifest.version.clone())),
            output_width,
            wants_errors: config.feature_errors,
            anomalies: Counter::default(),
            verdict,
        })
    }

    fn register(&mut self, model: &Model, task: &TaskContext) {
        let manifest = model.manifest();
        let labels =
            [("model", manifest.name.as_str()), ("version", manifest.version.as_str()), ("engine", model.engine())];
        task.metrics.gauge("iotml_score_model_info", "The model in service.", &labels).set(1);
        let help = "Rows whose verdict is that they are anomalies.";
        self.anomalies = task.metrics.counter("iotml_score_anomalies", help, &labels[..2]);
        tracing::info!(
            model = manifest.name,
            version = manifest.version,
            kind = manifest.kind.as_str(),
            engine = model.engine(),
            golden_rows = manifest.golden.as_ref().map_or(0, |golden| golden.input.len()),
            "model opened"
        );
    }

    fn score(&mut self, model: &mut Model, batch: Batch) -> Result<StageOutput, ScoreError> {
        let pass = self
            .evaluation
            .run(&(&batch).into(), model.engine.as_mut())
            .map_err(|error| ScoreError::fatal_from(error.to_string(), error))?;
        let n_rows = batch.len();
        let bad = std::mem::take(&mut pass.bad);
        let validity = known(pass);
        let anomaly = self.verdict.judge(pass);
        let mut keep = Vec::new();
        if bad.is_empty() {
            self.anomalies.inc_by(anomaly.true_count() as u64);
        } else {
            keep.resize(n_rows, true);
            bad.iter().for_each(|bad| keep[bad.row] = false);
            let n_anomalies =
                anomaly.iter().zip(&keep).filter(|(verdict, keep)| **keep && *verdict == Some(true)).count();
            self.anomalies.inc_by(n_anomalies as u64);
        }
        let scores = Float32Array::new(std::mem::take(&mut pass.scores).into(), validity.clone());
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(scores),
            self.threshold.rows(n_rows),
            Arc::new(anomaly),
            self.name.rows(n_rows),
            self.version.rows(n_rows),
        ];
        let manifest = &model.manifest;
        if manifest.kind == Kind::Classifier {
            let label = |label: &u32| manifest.classes[*label as usize].as_str();
            arrays.push(Arc::new(StringArray::from_iter_values(pass.labels.iter().map(label))));
        }
        if self.wants_errors {
            arrays.push(list(&mut pass.errors, manifest.features.len(), validity.clone())?);
        }
        if let Some(width) = self.output_width {
            arrays.push(list(&mut pass.output, width, validity)?);
        }
        let columns = self
            .appender
            .append(batch.columns(), arrays)
            .map_err(|error| ScoreError::fatal_from(error.to_string(), error))?;
        let misfit = |source| ScoreError::fatal_from("scores do not fit the batch", source);
        let batch = batch.with_columns(columns).map_err(misfit)?;
        if bad.is_empty() {
            return Ok(StageOutput::all(batch));
        }
        let (batch, _) = batch.filter(&keep).map_err(misfit)?;
        let rejected = bad.into_iter().map(|bad| Rejected { row: bad.row as u32, cause: bad.cause }).collect();
        Ok(StageOutput { batch, rejected, filtered: Vec::new() })
    }
}

/// `width` numbers a row, null where the row has no score.
fn list(values: &mut Vec<f32>, width: usize, validity: Option<NullBuffer>) -> Result<ArrayRef, ScoreError> {
    let values = Arc::new(Float32Array::from(std::mem::take(values)));
    let list = FixedSizeListArray::try_new(item(), width as i32, values, validity)
        .map_err(|source| ScoreError::fatal_from("the model's output does not fit the batch", source))?;
    Ok(Arc::new(list))
}
