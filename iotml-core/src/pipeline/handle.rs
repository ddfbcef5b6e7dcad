//! A running pipeline.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::board::Board;
use super::task::Task;
use super::{Audit, PipelineError, PipelineOptions, PipelineSpec, Shared, TaskContext, TaskStages};
use crate::error::ConfigError;
use crate::metrics::Metrics;
use crate::plugin::BuildContext;
use crate::state::StateStore;

/// Starts pipelines.
#[derive(Debug)]
pub struct Pipeline;

impl Pipeline {
    /// Builds and opens all tasks, and returns once every one of them receives; if one cannot, all are closed again and
    /// the error of the first is returned, so that nothing is left half-started.
    pub fn start(spec: PipelineSpec, metrics: Metrics) -> Result<PipelineHandle, PipelineError> {
        if spec.n_tasks == 0 {
            return Err(ConfigError::new("tasks.max is 0; a pipeline needs at least one task").into());
        }
        let contexts =
            (0..spec.n_tasks).map(|task| BuildContext { pipeline: spec.name.clone(), task, n_tasks: spec.n_tasks });
        let stages = contexts.map(|context| (spec.build)(&context)).collect::<Result<Vec<_>, _>>()?;
        let (stop, stopped) = watch::channel(false);
        let (opened, openings) = mpsc::channel();
        let mut handle =
            PipelineHandle { name: spec.name.clone(), options: spec.options.clone(), stop, tasks: Vec::new() };
        for (number, stages) in stages.into_iter().enumerate() {
            let label = number.to_string();
            let context = TaskContext {
                pipeline: spec.name.clone(),
                instance: spec.instance.clone(),
                task: number,
                n_tasks: spec.n_tasks,
                tolerance: spec.options.tolerance,
                delivery: spec.options.delivery,
                shared: Shared::default(),
                metrics: metrics.with(&[("pipeline", &spec.name), ("task", &label)]),
            };
            let board = Arc::new(Board::default());
            let parts = Parts {
                context,
                options: spec.options.clone(),
                stages,
                state: spec.state.clone(),
                board: board.clone(),
            };
            let (stopped, opened) = (stopped.clone(), opened.clone());
            let name = format!("{}-{number}", spec.name);
            let thread = thread::Builder::new().name(name).spawn(move || parts.run_caught(stopped, opened));
            match thread {
                Ok(thread) => handle.tasks.push(RunningTask { board, thread }),
                Err(error) => {
                    handle.stop();
                    let _ = handle.wait();
                    return Err(PipelineError::Spawn(error));
                }
            }
        }
        drop(opened);
        // A task that fails to open drops its sender; its error comes out of its thread.
        if openings.iter().take(spec.n_tasks).count() < spec.n_tasks {
            handle.stop();
            return match handle.wait() {
                Err(error) => Err(error),
                Ok(_) => Err(ConfigError::new("a task ended while the pipeline was starting").into()),
            };
        }
        tracing::info!(pipeline = &*spec.name, tasks = spec.n_tasks, "the pipeline runs");
        Ok(handle)
    }
}

/// A running pipeline; dropping it asks the tasks to stop without waiting for them.
#[derive(Debug)]
pub struct PipelineHandle {
    name: Arc<str>,
    options: PipelineOptions,
    stop: watch::Sender<bool>,
    tasks: Vec<RunningTask>,
}

#[derive(Debug)]
struct RunningTask {
    board: Arc<Board>,
    thread: JoinHandle<Result<bool, PipelineError>>,
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// The final balance of all tasks.
    pub audit: Audit,
    /// Whether everything in flight was done when it stopped; what was not is redelivered at the next start.
    pub is_drained: bool,
}

/// Whether a pipeline is well.
#[derive(Clone, Debug)]
pub struct Health {
    /// No task has failed and nothing is in flight for too long; idle is healthy.
    pub is_healthy: bool,
    /// Every task receives.
    pub is_ready: bool,
    /// Why not, or the balance.
    pub detail: String,
}

impl PipelineHandle {
    /// Name of the pipeline.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks every task to stop receiving, to drain and to close. Returns at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// A way to stop the pipeline from elsewhere, such as a signal handler.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let stop = self.stop.clone();
        move || {
            stop.send_replace(true);
        }
    }

    /// Waits until every task has ended: by itself, by [`stop`](PipelineHandle::stop), or by failure, upon which the others
    /// are stopped too. The first failure is returned.
    pub fn wait(mut self) -> Result<Summary, PipelineError> {
        let mut failed = None;
        let mut is_drained = true;
        let audit = self.auditor();
        let mut running: Vec<_> = self.tasks.drain(..).collect();
        while !running.is_empty() {
            let (ended, rest): (Vec<_>, Vec<_>) = running.into_iter().partition(|task| task.thread.is_finished());
            running = rest;
            if ended.is_empty() {
                thread::sleep(Duration::from_millis(10));
            }
            for task in ended {
                match task.thread.join() {
                    Ok(Ok(drained)) => is_drained &= drained,
                    Ok(Err(error)) => {
                        self.stop.send_replace(true);
                        failed.get_or_insert(error);
                    }
                    Err(_) => is_drained = false,
                }
            }
        }
        failed.map_or(Ok(Summary { audit: audit(), is_drained }), Err)
    }

    /// Whether all tasks have ended.
    pub fn is_finished(&self) -> bool {
        self.tasks.iter().all(|task| task.thread.is_finished())
    }

    /// The balance of all tasks; each task's part is consistent in itself.
    pub fn audit(&self) -> Audit {
        self.auditor()()
    }

    /// A way to ask for the balance from elsewhere, also while another waits for the end and when it has come.
    pub fn auditor(&self) -> impl Fn() -> Audit + Send + Sync + 'static {
        let boards: Vec<_> = self.tasks.iter().map(|task| task.board.clone()).collect();
        move || boards.iter().map(|board| board.shown().audit).fold(Audit::default(), |sum, one| sum + one)
    }

    /// How many lanes the tasks receive from at present: MQTT connections, Kafka partitions. A pipeline that reads from Kafka
    /// has none before its consumer group has formed, which may be seconds after it was started.
    pub fn n_lanes(&self) -> usize {
        self.tasks.iter().map(|task| task.board.shown().n_lanes).sum()
    }

    /// Whether the pipeline is well.
    pub fn health(&self) -> Health {
        self.monitor()()
    }

    /// A way to ask for the health from elsewhere, such as an HTTP endpoint.
    pub fn monitor(&self) -> impl Fn() -> Health + Send + Sync + 'static {
        let boards: Vec<_> = self.tasks.iter().map(|task| task.board.clone()).collect();
        let limit = self.options.max_in_flight_age;
        move || {
            let now = Instant::now();
            let shown: Vec<_> = boards.iter().map(|board| board.shown()).collect();
            let is_ready = shown.iter().all(|task| task.is_open && task.error.is_none());
            let error = shown.iter().find_map(|task| task.error.clone());
            let age = shown.iter().filter_map(|task| task.oldest).map(|oldest| now - oldest).max().unwrap_or_default();
            let audit = shown.iter().map(|task| task.audit).fold(Audit::default(), |sum, one| sum + one);
            let is_late = age > limit;
            let detail = match error {
                Some(error) => error,
                None if is_late => format!("a row is in flight for {:.1} s, more than {limit:?}", age.as_secs_f64()),
                None => audit.to_string(),
            };
            let is_healthy = !is_late && shown.iter().all(|task| task.error.is_none());
            Health { is_healthy, is_ready, detail }
        }
    }
}

impl Drop for PipelineHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// What a task's thread needs.
struct Parts {
    context: TaskContext,
    options: PipelineOptions,
    stages: TaskStages,
    state: Option<Arc<dyn StateStore>>,
    board: Arc<Board>,
}

impl Parts {
    fn run_caught(self, stopped: watch::Receiver<bool>, opened: mpsc::Sender<()>) -> Result<bool, PipelineError> {
        let (board, number) = (self.board.clone(), self.context.task);
        let ran = catch_unwind(AssertUnwindSafe(|| self.run(stopped, opened)));
        let ran = ran.unwrap_or_else(|panic| {
            Err(PipelineError::Panicked { task: number, message: panic_message(panic.as_ref()).to_owned() })
        });
        if let Err(error) = &ran {
            board.failed(error.report());
        }
        ran
    }

    fn run(self, stopped: watch::Receiver<bool>, opened: mpsc::Sender<()>) -> Result<bool, PipelineError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(PipelineError::Spawn)?;
        let board = self.board.clone();
        let mut task = Task::new(self.context, self.options, self.stages, self.state, self.board);
        runtime.block_on(async {
            task.open().await?;
            board.opened();
            let _ = opened.send(());
            drop(opened);
            task.run(stopped).await
        })
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
