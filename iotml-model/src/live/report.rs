//! What a worker says of the models it loads.

use iotml_core::clock::now_millis;
use iotml_core::model::{ModelState, ModelStatus};
use iotml_core::pipeline::TaskContext;

use super::follower::Shared;

impl Shared {
    /// Reports on a version: for one task, or for the worker where none is given.
    pub(crate) fn report(&self, version: &str, state: ModelState, cause: Option<&str>, task: Option<&TaskContext>) {
        let Some(first) = task.cloned().or_else(|| self.seats().first().map(|seat| seat.task.clone())) else { return };
        let model = self.follow.name.as_str();
        match cause {
            Some(cause) => tracing::warn!(model, version, %state, cause, "model"),
            None => tracing::info!(model, version, %state, task = task.map(|task| task.task), "model"),
        }
        self.feed.report(ModelStatus {
            model: model.to_owned(),
            version: version.to_owned(),
            state,
            cause: cause.map(str::to_owned),
            pipeline: first.pipeline.to_string(),
            instance: first.instance.to_string(),
            task: task.map(|task| task.task),
            time: now_millis(),
        });
    }

    /// Every task waits for this.
    pub(crate) fn hold(&self, text: &str) {
        let name = self.notice();
        self.seats().iter().for_each(|seat| seat.task.notices.hold(&name, text));
    }

    /// Every task goes on, but somebody should know this.
    pub(crate) fn note(&self, text: &str) {
        let name = self.notice();
        self.seats().iter().for_each(|seat| seat.task.notices.note(&name, text));
    }

    /// All is well again.
    pub(crate) fn clear(&self) {
        let name = self.notice();
        self.seats().iter().for_each(|seat| seat.task.notices.clear(&name));
    }

    /// The name under which notices of this model stand.
    pub(crate) fn notice(&self) -> String {
        format!("model {}", self.follow.name)
    }
}
