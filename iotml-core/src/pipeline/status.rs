//! The state of a pipeline and of its tasks, in Kafka Connect's words.

use std::fmt;

use super::Audit;
use crate::source::Acknowledged;

/// The state of a task or of a whole pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Its stages are being opened for the first time.
    #[default]
    Unassigned,
    /// It receives.
    Running,
    /// It keeps its connections and receives nothing; what was in flight is drained.
    Paused,
    /// Its stages are closed: until it is resumed, or because it has ended.
    Stopped,
    /// It failed, its budget of restarts is spent, and only a restart by hand helps.
    Failed,
    /// It failed or was told to restart; new stages are being opened, or soon will be.
    Restarting,
}

impl TaskState {
    /// The word, as in Kafka Connect's REST interface.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Unassigned => "UNASSIGNED",
            TaskState::Running => "RUNNING",
            TaskState::Paused => "PAUSED",
            TaskState::Stopped => "STOPPED",
            TaskState::Failed => "FAILED",
            TaskState::Restarting => "RESTARTING",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a task is doing.
#[derive(Clone, Debug)]
pub struct TaskStatus {
    /// Number of the task, from 0.
    pub task: usize,
    /// What it does.
    pub state: TaskState,
    /// Why it failed last, until it receives again.
    pub trace: Option<String>,
    /// How often it was begun anew.
    pub n_restarts: u64,
    /// Its balance over all restarts.
    pub audit: Audit,
    /// How far each of its lanes is acknowledged, at most two seconds ago.
    pub offsets: Vec<Acknowledged>,
}

/// How a pipeline is doing.
#[derive(Clone, Debug)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// Name of the instance of the worker.
    pub instance: String,
    /// What it does as a whole: as long as one task receives, it is running.
    pub state: TaskState,
    /// Its tasks, by number.
    pub tasks: Vec<TaskStatus>,
}

impl PipelineStatus {
    /// The state of a whole: of what its tasks do, what comes first here.
    pub(super) fn of(tasks: &[TaskStatus]) -> TaskState {
        let states = [
            TaskState::Running,
            TaskState::Paused,
            TaskState::Restarting,
            TaskState::Unassigned,
            TaskState::Failed,
            TaskState::Stopped,
        ];
        let is_any = |state: &TaskState| tasks.iter().any(|task| task.state == *state);
        states.into_iter().find(is_any).unwrap_or_default()
    }
}

/// Whether a pipeline is well.
#[derive(Clone, Debug)]
pub struct Health {
    /// No task has failed; idle is healthy.
    pub is_healthy: bool,
    /// Every task receives, and nothing is in flight for too long.
    pub is_ready: bool,
    /// Why not, or the balance.
    pub detail: String,
}
