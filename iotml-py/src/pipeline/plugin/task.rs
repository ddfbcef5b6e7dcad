//! What a plug-in is told about the task it runs in.

use iotml_core::pipeline::TaskContext;
use pyo3::prelude::*;

/// The task that a plug-in runs in, given to its `open`. A pipeline has `n_tasks` of them, each with a thread and plug-in
/// instances of its own.
#[pyclass(frozen, module = "iotml")]
#[derive(Debug)]
pub struct Task {
    /// Name of the pipeline.
    #[pyo3(get)]
    pipeline: String,
    /// Name of this instance of the worker, stable over restarts.
    #[pyo3(get)]
    instance: String,
    /// Number of the task, from 0.
    #[pyo3(get)]
    number: usize,
    /// Number of tasks of the pipeline.
    #[pyo3(get)]
    n_tasks: usize,
}

impl Task {
    pub(super) fn new(context: &TaskContext) -> Self {
        let TaskContext { pipeline, instance, task, n_tasks, .. } = context;
        Self { pipeline: pipeline.to_string(), instance: instance.to_string(), number: *task, n_tasks: *n_tasks }
    }
}

#[pymethods]
impl Task {
    fn __repr__(&self) -> String {
        let Self { pipeline, instance, number, n_tasks } = self;
        format!("Task(pipeline={pipeline:?}, instance={instance:?}, number={number}, n_tasks={n_tasks})")
    }
}
