//! What a worker says of a version of a model.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How far a version is on a worker, in the words of Triton and TensorFlow Serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModelState {
    /// It is being fetched and checked, beside what runs.
    Loading,
    /// It scores from the task's next batch on.
    Ready,
    /// It is not used: refused, or retired. What ran before goes on.
    Unavailable,
    /// Another has taken its place, and it is let go.
    Unloading,
}

impl ModelState {
    /// The word, as in status reports.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelState::Loading => "LOADING",
            ModelState::Ready => "READY",
            ModelState::Unavailable => "UNAVAILABLE",
            ModelState::Unloading => "UNLOADING",
        }
    }
}

impl fmt::Display for ModelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One report of a worker: what became of a version there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The model's name.
    pub model: String,
    /// The version; empty where it could not even be read.
    pub version: String,
    /// What became of it.
    pub state: ModelState,
    /// Why, and what to do; always there with [`ModelState::Unavailable`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The pipeline.
    pub pipeline: String,
    /// The instance of the worker.
    pub instance: String,
    /// The task; loading and checking is done once for all tasks and names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<usize>,
    /// When, in milliseconds since the Unix epoch.
    pub time: i64,
}
