//! What a stage is told about the task it runs in.

use std::sync::Arc;

use super::{Delivery, Notices, Shared, Tolerance};
use crate::metrics::Metrics;

/// What a stage is told when it opens.
#[derive(Clone, Debug)]
pub struct TaskContext {
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
    /// Name of this instance of the worker, stable over restarts: client ids are made from it.
    pub instance: Arc<str>,
    /// Number of the task, from 0.
    pub task: usize,
    /// Number of tasks of the pipeline in this instance.
    pub n_tasks: usize,
    /// What happens to a row that fails for good: with `none`, a stage need not look at the rows behind the first bad one.
    pub tolerance: Tolerance,
    /// How often a row may come out at the other end. A sink of a best-effort route is told `AtLeastOnce`, since it has no
    /// part in transactions.
    pub delivery: Delivery,
    /// What the stages of this task share with each other.
    pub shared: Shared,
    /// What the stages of this task want those to know who ask whether it is ready.
    pub notices: Notices,
    /// Metrics with the labels `pipeline` and `task` already set.
    pub metrics: Metrics,
}

impl TaskContext {
    /// The context of a single task, for tests and for stages used without a pipeline.
    pub fn single(pipeline: &str) -> Self {
        let metrics = Metrics::default().with(&[("pipeline", pipeline), ("task", "0")]);
        Self {
            pipeline: pipeline.into(),
            instance: "local".into(),
            task: 0,
            n_tasks: 1,
            tolerance: Tolerance::default(),
            delivery: Delivery::default(),
            shared: Shared::default(),
            notices: Notices::default(),
            metrics,
        }
    }
}
