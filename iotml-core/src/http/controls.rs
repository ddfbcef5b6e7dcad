//! The pipelines that the endpoint gives control over.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use super::flat::flat;
use crate::pipeline::PipelineControl;

/// The pipelines of a process; cheap to clone, and all clones are the same list.
#[derive(Clone)]
pub struct Controls {
    pipelines: Arc<RwLock<Vec<Controlled>>>,
    plugins: Arc<Value>,
    scrub: Scrub,
}

/// Takes secrets out of a text.
type Scrub = Arc<dyn Fn(&str) -> Cow<'_, str> + Send + Sync>;

/// One pipeline.
#[derive(Clone)]
pub(super) struct Controlled {
    pub control: PipelineControl,
    /// Its configuration, flat and without secrets.
    pub config: Arc<Value>,
}

impl Controls {
    /// No pipelines yet. `plugins` is what `GET /connector-plugins` answers; every answer goes through `scrub`.
    pub fn new(plugins: Value, scrub: impl Fn(&str) -> Cow<'_, str> + Send + Sync + 'static) -> Self {
        Self { pipelines: Arc::default(), plugins: Arc::new(plugins), scrub: Arc::new(scrub) }
    }

    /// Adds a pipeline with its configuration, from which secrets have been taken out.
    pub fn add(&self, control: PipelineControl, config: Value) {
        let config = Arc::new(flat(control.name(), &config));
        let controlled = Controlled { control, config };
        self.pipelines.write().unwrap_or_else(PoisonError::into_inner).push(controlled);
    }

    /// All pipelines, in the order in which they were added.
    pub fn all(&self) -> Vec<PipelineControl> {
        self.list().into_iter().map(|pipeline| pipeline.control).collect()
    }

    pub(super) fn list(&self) -> Vec<Controlled> {
        self.pipelines.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn find(&self, name: &str) -> Option<Controlled> {
        self.list().into_iter().find(|pipeline| pipeline.control.name() == name)
    }

    pub(super) fn plugins(&self) -> &Value {
        &self.plugins
    }

    pub(super) fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        (self.scrub)(text)
    }
}

impl Default for Controls {
    fn default() -> Self {
        Self::new(Value::Array(Vec::new()), |text| Cow::Borrowed(text))
    }
}

impl fmt::Debug for Controls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.list().iter().map(|pipeline| pipeline.control.name().to_owned()).collect();
        f.debug_tuple("Controls").field(&names).finish()
    }
}
