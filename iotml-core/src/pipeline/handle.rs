//! A running pipeline.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use super::board::SupervisorMetrics;
use super::control::{PipelineControl, Seat, Steering};
use super::supervisor::{Failed, Supervisor, runtime};
use super::{Audit, Health, PipelineError, PipelineSpec, PipelineStatus, Shared, TaskContext};
use crate::error::ConfigError;
use crate::metrics::Metrics;
use crate::plugin::BuildContext;

/// Starts pipelines.
#[derive(Debug)]
pub struct Pipeline;

impl Pipeline {
    /// Builds and opens all tasks, and returns once every one of them receives; if one cannot, all are closed again and
    /// the error of the first is returned, so that nothing is left half-started.
    pub fn start(spec: PipelineSpec, metrics: Metrics) -> Result<PipelineHandle, PipelineError> {
        Self::start_controlled(spec, metrics, |_| {})
    }

    /// The same, and gives control away before any stage is opened: a stage may wait for long, and whoever asks shall learn why, and
    /// may end the wait.
    pub fn start_controlled(
        spec: PipelineSpec,
        metrics: Metrics,
        give: impl FnOnce(PipelineControl),
    ) -> Result<PipelineHandle, PipelineError> {
        let PipelineSpec { name, instance, n_tasks, options, state, build } = spec;
        if n_tasks == 0 {
            return Err(ConfigError::new("tasks.max is 0; a pipeline needs at least one task").into());
        }
        let contexts = (0..n_tasks).map(|task| BuildContext { pipeline: name.clone(), task, n_tasks });
        let stages = contexts.map(|context| build(&context)).collect::<Result<Vec<_>, _>>()?;
        let tasks = (0..n_tasks).map(|_| Seat::default()).collect();
        let steering = Steering { name: name.clone(), instance: instance.clone(), options: options.clone(), tasks };
        let (steering, build) = (Arc::new(steering), Arc::new(build));
        let (opened, openings) = mpsc::channel();
        let mut handle = PipelineHandle { control: PipelineControl::new(steering.clone()), tasks: Vec::new() };
        give(handle.control());
        for (number, stages) in stages.into_iter().enumerate() {
            let metrics = metrics.with(&[("pipeline", &name), ("task", &number.to_string())]);
            let supervisor = |idle| Supervisor {
                metrics: SupervisorMetrics::new(&metrics),
                context: TaskContext {
                    pipeline: name.clone(),
                    instance: instance.clone(),
                    task: number,
                    n_tasks,
                    tolerance: options.tolerance,
                    delivery: options.delivery,
                    shared: Shared::default(),
                    notices: steering.tasks[number].board.notices.clone(),
                    metrics: metrics.clone(),
                },
                options: options.clone(),
                state: state.clone(),
                build: build.clone(),
                orders: steering.tasks[number].order.subscribe(),
                steering: steering.clone(),
                idle,
                is_open: false,
            };
            let opened = opened.clone();
            let thread = thread::Builder::new().name(format!("{name}-{number}"));
            let spawned = runtime().map(supervisor);
            match spawned.and_then(|supervisor| thread.spawn(move || supervisor.run(stages, opened))) {
                Ok(thread) => handle.tasks.push(thread),
                Err(error) => {
                    handle.stop();
                    let _ = handle.wait();
                    return Err(PipelineError::Spawn(error));
                }
            }
        }
        drop(opened);
        // A task that fails to open drops its sender; its error comes out of its thread.
        if openings.iter().take(n_tasks).count() < n_tasks {
            handle.stop();
            return match handle.wait() {
                Err(error) => Err(error),
                Ok(_) => Err(ConfigError::new("a task ended while the pipeline was starting").into()),
            };
        }
        tracing::info!(pipeline = &*name, tasks = n_tasks, "the pipeline runs");
        Ok(handle)
    }
}

/// A running pipeline; dropping it asks the tasks to stop without waiting for them.
#[derive(Debug)]
pub struct PipelineHandle {
    control: PipelineControl,
    tasks: Vec<JoinHandle<Result<bool, Failed>>>,
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// The final balance of all tasks.
    pub audit: Audit,
    /// Whether everything in flight was done when it stopped; what was not is redelivered at the next start.
    pub is_drained: bool,
}

impl PipelineHandle {
    /// Name of the pipeline.
    pub fn name(&self) -> &str {
        self.control.name()
    }

    /// Control from elsewhere, also while another waits for the end and when it has come.
    pub fn control(&self) -> PipelineControl {
        self.control.clone()
    }

    /// Asks every task to stop receiving, to drain and to close. Returns at once.
    pub fn stop(&self) {
        self.control.end();
    }

    /// Waits until every task has ended: by itself, by [`stop`](PipelineHandle::stop), or by failure. A task that fails beyond
    /// its restarts leaves the others running; when none can go on any more, all end, unless
    /// [`OnFailure`](super::OnFailure) says otherwise. The first failure of a task that was not mended is returned.
    pub fn wait(mut self) -> Result<Summary, PipelineError> {
        let mut failures = Vec::new();
        let mut is_drained = true;
        for task in self.tasks.drain(..) {
            match task.join() {
                Ok(Ok(drained)) => is_drained &= drained,
                Ok(Err(failed)) => failures.push(failed),
                // The supervisor itself panicked: nothing is known of its rows but that they are not acknowledged.
                Err(_) => is_drained = false,
            }
        }
        match failures.into_iter().min_by_key(|failed| failed.at) {
            Some(first) => Err(*first.error),
            None => Ok(Summary { audit: self.audit(), is_drained }),
        }
    }

    /// Whether all tasks have ended.
    pub fn is_finished(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }

    /// How the pipeline and its tasks are doing.
    pub fn status(&self) -> PipelineStatus {
        self.control.status()
    }

    /// The balance of all tasks; each task's part is consistent in itself.
    pub fn audit(&self) -> Audit {
        self.control.audit()
    }

    /// How many lanes the tasks receive from at present: MQTT connections, Kafka partitions. A pipeline that reads from Kafka
    /// has none before its consumer group has formed, which may be seconds after it was started.
    pub fn n_lanes(&self) -> usize {
        self.control.n_lanes()
    }

    /// Whether the pipeline is well.
    pub fn health(&self) -> Health {
        self.control.health()
    }
}

impl Drop for PipelineHandle {
    fn drop(&mut self) {
        self.control.end();
    }
}
