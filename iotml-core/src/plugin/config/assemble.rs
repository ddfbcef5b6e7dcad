//! From a checked configuration to a pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::frame::{Frame, PluginTable};
use super::load::Config;
use super::tables::build;
use crate::decode::PassThrough;
use crate::error::{ConfigError, Stage};
use crate::pipeline::{PipelineSpec, Route, TaskStages};
use crate::plugin::{BuildContext, Plugin, Registry};
use crate::state::{FileStateStore, StateStore};

impl Config {
    /// The pipeline that this configuration describes.
    pub fn pipeline(&self) -> PipelineSpec {
        let Frame { pipeline, state, .. } = &self.frame;
        let store = state.as_ref().map(|state| Arc::new(FileStateStore::new(&state.folder)) as Arc<dyn StateStore>);
        let (frame, registry) = (self.frame.clone(), self.registry.clone());
        PipelineSpec {
            name: pipeline.name.as_str().into(),
            instance: pipeline.instance.as_deref().map_or_else(host_name, Into::into),
            n_tasks: pipeline.n_tasks,
            options: pipeline.options(state.as_ref()),
            state: store,
            build: Box::new(move |context| stages(&frame, &registry, context)),
        }
    }
}

/// The stages of one task.
fn stages(frame: &Frame, registry: &Registry, context: &BuildContext) -> Result<TaskStages, ConfigError> {
    let maker = Maker { context };
    let source = maker.make(&registry.sources, Stage::Source, "source", &frame.source)?;
    let decoder = frame.decode.as_ref().map(|table| maker.make(&registry.decoders, Stage::Decode, "decode", table));
    let mut preprocessors = Vec::with_capacity(frame.preprocess.len());
    for (at, table) in frame.preprocess.iter().enumerate() {
        let place = format!("preprocess[{at}]");
        let stage = maker.make(&registry.preprocessors, Stage::Preprocess, &place, table)?;
        preprocessors.push((preprocessor_name(&frame.preprocess, at), stage));
    }
    let scorer = frame.score.as_ref().map(|table| maker.make(&registry.scorers, Stage::Score, "score", table));
    let mut routes = Vec::with_capacity(frame.route.len());
    for (at, route) in frame.route.iter().enumerate() {
        let place = format!("route[{at}].encode");
        let encoder = route.encode.as_ref().map(|table| maker.make(&registry.encoders, Stage::Encode, &place, table));
        routes.push(Route {
            name: route.name.clone(),
            when: route.when.as_deref().map(str::parse).transpose()?,
            encoder: encoder.transpose()?,
            sink: maker.make(&registry.sinks, Stage::Sink, &format!("route[{at}].sink"), &route.sink)?,
            required: route.required,
            shadow: route.shadow,
        });
    }
    let dead_letter = frame.dead_letter.as_ref();
    let dead_letter = dead_letter.map(|table| maker.make(&registry.sinks, Stage::Sink, "dead_letter", table));
    Ok(TaskStages {
        source,
        decoder: decoder.transpose()?.unwrap_or_else(|| Box::new(PassThrough)),
        preprocessors,
        scorer: scorer.transpose()?,
        routes,
        dead_letter: dead_letter.transpose()?,
    })
}

struct Maker<'a> {
    context: &'a BuildContext,
}

impl Maker<'_> {
    /// Builds one stage; an error says where its table stands.
    fn make<S>(
        &self,
        plugins: &BTreeMap<&'static str, Plugin<S>>,
        stage: Stage,
        place: &str,
        table: &PluginTable,
    ) -> Result<S, ConfigError> {
        build(plugins, stage, &table.0, self.context).map_err(|error| {
            let key = error.key.as_ref().map(|key| format!(".{key}")).unwrap_or_default();
            ConfigError::with(format!("{place}{key}: {}", error.message), error)
        })
    }
}

/// The name of a preprocessor: its own, or its type, numbered where the type stands more than once.
pub(super) fn preprocessor_name(tables: &[PluginTable], at: usize) -> String {
    let table = &tables[at];
    if let Some(name) = table.0.get("name").and_then(Value::as_str) {
        return name.to_owned();
    }
    let before = tables[..at].iter().filter(|other| other.kind() == table.kind()).count();
    if before == 0 { table.kind().to_owned() } else { format!("{}-{}", table.kind(), before + 1) }
}

/// The name of this machine, which stays the same over restarts.
fn host_name() -> Arc<str> {
    gethostname::gethostname().to_string_lossy().as_ref().into()
}
