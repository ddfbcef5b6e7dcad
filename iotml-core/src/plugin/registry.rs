//! The registry: `type` name, configuration type, factory.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Inspection, Remark};
use crate::decode::Decoder;
use crate::encode::Encoder;
use crate::error::{ConfigError, Stage};
use crate::model::ModelFeeds;
use crate::preprocess::Preprocessor;
use crate::score::Scorer;
use crate::sink::{ReadBack, Sink};
use crate::source::Source;

/// The configuration of a plug-in: a plain struct that deserializes and describes itself.
pub trait PluginConfig: DeserializeOwned + JsonSchema + Send + 'static {}

impl<C: DeserializeOwned + JsonSchema + Send + 'static> PluginConfig for C {}

/// What a factory may know of the pipeline it builds for. A factory opens nothing: it is also called to validate.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
    /// Number of the task, from 0; every task gets stages of its own.
    pub task: usize,
    /// Number of tasks.
    pub n_tasks: usize,
}

type Build<S> = Box<dyn Fn(Value, &BuildContext) -> Result<S, ConfigError> + Send + Sync>;
type Describe = Box<dyn Fn(&mut SchemaGenerator) -> Schema + Send + Sync>;

/// One registered plug-in.
pub struct Plugin<S> {
    /// What it does, in one line.
    pub about: &'static str,
    schema: Describe,
    build: Build<S>,
}

impl<S: 'static> Plugin<S> {
    /// A plug-in whose configuration is the Rust type `C`.
    pub fn new<C: PluginConfig>(
        about: &'static str,
        build: impl Fn(C, &BuildContext) -> Result<S, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Plugin {
            about,
            schema: Box::new(|generator| C::json_schema(generator)),
            build: Box::new(move |config, context| {
                let config = serde_json::from_value(config)
                    .map_err(|source| ConfigError::with(format!("configuration does not fit: {source}"), source))?;
                build(config, context)
            }),
        }
    }

    /// The same with a schema that says more than the type does, asked for whenever it is needed.
    #[must_use]
    pub fn described(mut self, schema: impl Fn(&mut SchemaGenerator) -> Schema + Send + Sync + 'static) -> Self {
        self.schema = Box::new(schema);
        self
    }
}

impl<S> Plugin<S> {
    /// A plug-in whose configuration is described by a JSON Schema and not by a Rust type, such as one written in another
    /// language. It goes into a map of the [`Registry`] under its `type`.
    pub fn with_schema(
        about: &'static str,
        schema: Schema,
        build: impl Fn(Value, &BuildContext) -> Result<S, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Self { about, schema: Box::new(move |_| schema.clone()), build: Box::new(build) }
    }

    /// The JSON Schema of its configuration.
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// Builds the stage from its configuration, without `type`.
    pub fn build(&self, config: Value, context: &BuildContext) -> Result<S, ConfigError> {
        (self.build)(config, context)
    }
}

/// The plug-ins a worker knows. There is no global one: a program makes its own and adds what it wants.
#[derive(Default)]
pub struct Registry {
    /// Sources by `type`.
    pub sources: BTreeMap<&'static str, Plugin<Box<dyn Source>>>,
    /// Decoders by `type`.
    pub decoders: BTreeMap<&'static str, Plugin<Box<dyn Decoder>>>,
    /// Preprocessors by `type`.
    pub preprocessors: BTreeMap<&'static str, Plugin<Box<dyn Preprocessor>>>,
    /// Scorers by `type`.
    pub scorers: BTreeMap<&'static str, Plugin<Box<dyn Scorer>>>,
    /// Encoders by `type`.
    pub encoders: BTreeMap<&'static str, Plugin<Box<dyn Encoder>>>,
    /// Sinks by `type`.
    pub sinks: BTreeMap<&'static str, Plugin<Arc<dyn Sink>>>,
    /// Sinks that write back to where a source of this `type` reads; each is configured by the source's own table.
    pub ways_back: BTreeMap<&'static str, Plugin<Arc<dyn Sink>>>,
    /// What reads again what a sink of this `type` has written; each is configured by the sink's own table.
    pub read_backs: BTreeMap<&'static str, Plugin<Box<dyn ReadBack>>>,
    /// Feeds of model announcements by `type`, for scorers that follow one.
    pub model_feeds: ModelFeeds,
    /// Checks of a pipeline as a whole.
    pub checks: Vec<Check>,
    /// Subcommands that plug-ins add to the command line.
    #[cfg(feature = "cli")]
    pub commands: Vec<Box<dyn crate::cli::Command>>,
}

/// Looks at a pipeline whose tables are valid by themselves, and says what is wrong with the whole.
pub type Check = Box<dyn Fn(&Inspection<'_>) -> Vec<Remark> + Send + Sync>;

macro_rules! register {
    ($(#[$doc:meta])* $method:ident, $field:ident, $stage:ty) => {
        $(#[$doc])*
        ///
        /// Panics if the name is taken: two plug-ins of one name are a defect of the program, not of its configuration.
        pub fn $method<C: PluginConfig>(
            &mut self,
            name: &'static str,
            about: &'static str,
            build: impl Fn(C, &BuildContext) -> Result<$stage, ConfigError> + Send + Sync + 'static,
        ) -> &mut Self {
            let plugin = Plugin::new(about, build);
            assert!(self.$field.insert(name, plugin).is_none(), "a plug-in of type {name:?} is registered twice");
            self
        }
    };
}

impl Registry {
    /// A registry with the plug-ins of core: decoders, preprocessors, encoders and sinks without a server.
    pub fn with_core() -> Self {
        let mut registry = Self::default();
        super::core::register(&mut registry);
        registry
    }

    register!(/** Adds a source. */ source, sources, Box<dyn Source>);
    register!(/** Adds a decoder. */ decoder, decoders, Box<dyn Decoder>);
    register!(/** Adds a preprocessor. */ preprocessor, preprocessors, Box<dyn Preprocessor>);
    register!(/** Adds a scorer. */ scorer, scorers, Box<dyn Scorer>);
    register!(/** Adds an encoder. */ encoder, encoders, Box<dyn Encoder>);
    register!(/** Adds a sink. */ sink, sinks, Arc<dyn Sink>);

    register!(
        /// Adds the sink that writes back to where the source of the same name reads, every row to its target: by it dead letters
        /// are fed back. Its configuration is the source's.
        way_back,
        ways_back,
        Arc<dyn Sink>
    );

    register!(
        /// Adds what reads again what the sink of the same name has written: by it models are compared. Its configuration is the
        /// sink's.
        read_back,
        read_backs,
        Box<dyn ReadBack>
    );

    /// Adds a check of pipelines as a whole, such as a source that does not go with stateful stages.
    pub fn check(&mut self, check: impl Fn(&Inspection<'_>) -> Vec<Remark> + Send + Sync + 'static) -> &mut Self {
        self.checks.push(Box::new(check));
        self
    }

    /// Adds a subcommand.
    ///
    /// Panics if the name is taken.
    #[cfg(feature = "cli")]
    pub fn command(&mut self, command: impl crate::cli::Command + 'static) -> &mut Self {
        let name = command.name();
        let is_taken = crate::cli::OWN_COMMANDS.contains(&name) || self.commands.iter().any(|it| it.name() == name);
        assert!(!is_taken, "a subcommand {name:?} is registered twice");
        self.commands.push(Box::new(command));
        self
    }

    /// The `type` names of a stage, in alphabetical order.
    pub fn names(&self, stage: Stage) -> Vec<&'static str> {
        match stage {
            Stage::Source => self.sources.keys().copied().collect(),
            Stage::Decode => self.decoders.keys().copied().collect(),
            Stage::Preprocess => self.preprocessors.keys().copied().collect(),
            Stage::Score => self.scorers.keys().copied().collect(),
            Stage::Encode => self.encoders.keys().copied().collect(),
            Stage::Sink => self.sinks.keys().copied().collect(),
        }
    }
}
