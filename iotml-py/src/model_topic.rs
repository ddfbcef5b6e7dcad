//! Where models are announced, as `iotml.ModelTopic` asks it.

use std::sync::Arc;

use iotml_core::error::Stage;
use iotml_core::model::{Announcement, ModelSet, Place, Rollout, SetError};
use iotml_core::plugin::config::Secrets;
use iotml_kafka::{KafkaModelFeedConfig, LogError, ModelTopic, ModelTopicError};
use iotml_model::ManifestSource;
use iotml_model::precheck::Limits;
use iotml_model::store::Draft;
use pyo3::prelude::*;
use serde_json::{Value, json};

use crate::error::{self, ConfigError, IotmlError, Make, RolloutError, of_stage, parse};
use crate::model::{digest_of, source_of};
use crate::pipeline::followed;
use crate::process::apart;
use crate::store::{Onnx, draft};

/// A topic of Kafka on which models are announced, with options in JSON: those of `[score.follow.feed]`. Every call has a
/// connection of its own.
#[pyclass(frozen, module = "iotml._iotml")]
pub struct TopicClient {
    topic: Arc<ModelTopic>,
    name: String,
    secrets: Secrets,
}

#[pymethods]
impl TopicClient {
    /// Raises `ConfigError` naming what is wrong with the options. Nothing is connected.
    #[new]
    fn new(py: Python<'_>, options: &str) -> PyResult<Self> {
        Self::of(py, parse(options)?, Secrets::default())
    }

    /// The topic that the scorer of a pipeline follows.
    #[staticmethod]
    #[pyo3(signature = (text, file, plugins=None))]
    fn of_pipeline(py: Python<'_>, text: &str, file: &str, plugins: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let (follow, secrets) = followed(py, text, file, plugins)?;
        let mut table = follow.feed.0;
        let kind = table.remove("type");
        if kind.as_ref().and_then(Value::as_str) != Some("kafka") {
            let what = format!("the feed that the scorer of {file} follows is no topic of Kafka");
            return Err(ConfigError::new_err(what));
        }
        let config = serde_json::from_value(Value::Object(table));
        let wrong = |error: serde_json::Error| {
            ConfigError::new_err(format!("score.follow.feed: {}", secrets.scrub(&error.to_string())))
        };
        Self::of(py, config.map_err(wrong)?, secrets)
    }

    /// The topic.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Announces a version, which is at ``uri`` with the digest ``sha256``, or comes along as ``onnx``; ``rollout`` is JSON.
    /// Gives what is in force then, as JSON.
    #[pyo3(signature = (model, version, rollout, *, uri=None, sha256=None, onnx=None, manifest=None, check=true))]
    #[expect(clippy::too_many_arguments, reason = "they are those of a call in Python")]
    fn announce(
        &self,
        py: Python<'_>,
        model: String,
        version: String,
        rollout: &str,
        uri: Option<String>,
        sha256: Option<&str>,
        onnx: Option<Onnx>,
        manifest: Option<String>,
        check: bool,
    ) -> PyResult<String> {
        let rollout: Rollout = parse(rollout)?;
        let given = source_of(py, manifest.as_deref())?;
        let announcement = match (uri, sha256, onnx) {
            (Some(uri), Some(sha256), None) => {
                let manifest = match &given {
                    ManifestSource::Given(manifest) => Some(parse(&manifest.to_json())?),
                    _ => None,
                };
                Announcement { manifest, ..Announcement::new(version, Place::Uri(uri), digest_of(sha256)?) }
            }
            (None, None, Some(onnx)) => {
                let name = model.clone();
                let inline = apart(py, "reads a model", move || inline(&onnx, &given, &name, version, check))?;
                inline.map_err(|failure| failure.raise(py))?
            }
            _ => return Err(ConfigError::new_err("give either uri and sha256, or the model itself as inline")),
        };
        let announcement = announcement.rolled_out(rollout);
        self.change(py, model, move |set| {
            set.announce(announcement.clone());
            Ok(())
        })
    }

    /// Lets a version score all rows.
    fn promote(&self, py: Python<'_>, model: String, version: String) -> PyResult<String> {
        self.change(py, model, move |set| set.promote(&version))
    }

    /// Lets the version that was retired last score all rows again.
    fn roll_back(&self, py: Python<'_>, model: String) -> PyResult<String> {
        self.change(py, model, ModelSet::roll_back)
    }

    /// Takes a version out of service.
    fn retire(&self, py: Python<'_>, model: String, version: String) -> PyResult<String> {
        self.change(py, model, move |set| set.retire(&version))
    }

    /// What is announced, by name: as JSON, or None and why it cannot be read.
    fn announced(&self, py: Python<'_>) -> PyResult<Vec<Announced>> {
        let topic = self.topic.clone();
        let announced = self.ask(py, move || topic.announced())?;
        let told = announced.into_iter().map(|(name, set)| match set {
            Ok(set) => (name, Some(shown(&set)), None),
            Err(error) => (name, None, Some(error.to_string())),
        });
        Ok(told.collect())
    }

    /// What workers reported, oldest first: one JSON object each.
    fn reports(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let topic = self.topic.clone();
        let reports = self.ask(py, move || topic.reports())?;
        Ok(reports.iter().map(|report| json!(report).to_string()).collect())
    }

    /// What workers reported of rows that drifted, oldest first: one JSON object each.
    fn drifts(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let topic = self.topic.clone();
        let drifts = self.ask(py, move || topic.drifts())?;
        Ok(drifts.iter().map(|drift| json!(drift).to_string()).collect())
    }
}

/// A model's name, and what is announced of it as JSON or why that cannot be read.
type Announced = (String, Option<String>, Option<String>);

impl TopicClient {
    fn of(py: Python<'_>, config: KafkaModelFeedConfig, secrets: Secrets) -> PyResult<Self> {
        let name = config.topic.clone();
        let topic = ModelTopic::new(config).map_err(|error| raise(py, &error, &secrets))?;
        Ok(Self { topic: Arc::new(topic), name, secrets })
    }

    fn change(
        &self,
        py: Python<'_>,
        model: String,
        change: impl FnMut(&mut ModelSet) -> Result<(), SetError> + Send + 'static,
    ) -> PyResult<String> {
        let topic = self.topic.clone();
        self.ask(py, move || topic.change(&model, change)).map(|set| shown(&set))
    }

    /// What may wait for Kafka, but not for longer than the configuration says.
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce() -> Result<T, ModelTopicError> + Send + 'static,
    ) -> PyResult<T> {
        apart(py, "talks to a topic of models", work)?.map_err(|error| raise(py, &error, &self.secrets))
    }
}

/// A model that comes along, of the name and version that are announced.
fn inline(
    onnx: &Onnx,
    manifest: &ManifestSource,
    model: &str,
    version: String,
    check: bool,
) -> Result<Announcement, crate::store::Failure> {
    let limits = Limits::default();
    let draft = draft(onnx, manifest, &limits, (Some(model), Some(&version)), check)?;
    let (file, manifest) = draft.into_parts();
    // Only what the file does not say of itself comes along.
    let own = Draft::from_bytes(file.clone(), &ManifestSource::Model, &limits);
    let is_own = own.is_ok_and(|own| *own.manifest() == manifest);
    let manifest = if is_own { None } else { serde_json::from_str(&manifest.to_json()).ok() };
    Ok(Announcement { manifest, ..Announcement::inline(version, file.to_vec()) })
}

/// A set as JSON, without the files that came along.
fn shown(set: &ModelSet) -> String {
    let versions = set.versions.iter().map(|announced| {
        let (uri, inline_bytes) = match &announced.place {
            Place::Uri(uri) => (Some(uri), None),
            Place::Inline(file) => (None, Some(file.len())),
        };
        json!({
            "version": announced.version,
            "uri": uri,
            "inline_bytes": inline_bytes,
            "sha256": announced.sha256,
            "state": announced.state,
            "rollout": announced.rollout,
        })
    });
    json!({ "model": set.model, "versions": versions.collect::<Vec<_>>() }).to_string()
}

/// Why models cannot be announced, as an exception without secrets.
fn raise(py: Python<'_>, error: &ModelTopicError, secrets: &Secrets) -> PyErr {
    let make: Make = match error {
        ModelTopicError::Config(_) | ModelTopicError::Read(LogError::Config(_)) => ConfigError::new_err,
        ModelTopicError::Read(_) | ModelTopicError::Registry(_) => of_stage(Stage::Source),
        ModelTopicError::Write(_) | ModelTopicError::Unknown { .. } => of_stage(Stage::Sink),
        ModelTopicError::Runtime(_) => IotmlError::new_err,
        _ => RolloutError::new_err,
    };
    error::raise_scrubbed(py, make, error, secrets)
}
