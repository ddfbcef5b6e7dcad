//! What a pipeline is made of, before it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::When;
use crate::decode::Decoder;
use crate::encode::Encoder;
use crate::error::ConfigError;
use crate::plugin::BuildContext;
use crate::preprocess::Preprocessor;
use crate::score::Scorer;
use crate::sink::Sink;
use crate::source::Source;
use crate::state::StateStore;

/// Builds the stages of one task; called once per task, at each of its restarts, and to validate. Opens nothing.
pub type BuildTask = Box<dyn Fn(&BuildContext) -> Result<TaskStages, ConfigError> + Send + Sync>;

/// A pipeline: its name, its options, and how to build the stages of each of its tasks.
pub struct PipelineSpec {
    /// Name, which labels metrics, dead letters and state.
    pub name: Arc<str>,
    /// Name of this instance of the worker, stable over restarts.
    pub instance: Arc<str>,
    /// Number of tasks (`tasks.max`), each with stages and a thread of its own.
    pub n_tasks: usize,
    /// Bounds and policies.
    pub options: PipelineOptions,
    /// Where stateful stages keep their snapshots; `None` keeps state in memory only.
    pub state: Option<Arc<dyn StateStore>>,
    /// Makes a task's stages.
    pub build: BuildTask,
}

impl PipelineSpec {
    /// A pipeline of one task with default options and no state store.
    pub fn new(
        name: &str,
        build: impl Fn(&BuildContext) -> Result<TaskStages, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            instance: "local".into(),
            n_tasks: 1,
            options: PipelineOptions::default(),
            state: None,
            build: Box::new(build),
        }
    }
}

impl fmt::Debug for PipelineSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("PipelineSpec");
        out.field("name", &self.name).field("n_tasks", &self.n_tasks).field("options", &self.options);
        out.finish_non_exhaustive()
    }
}

/// The stages of one task.
pub struct TaskStages {
    /// Receives.
    pub source: Box<dyn Source>,
    /// Bytes to columns; [`PassThrough`](crate::decode::PassThrough) where bytes only move.
    pub decoder: Box<dyn Decoder>,
    /// Applied in order; the name says which one failed.
    pub preprocessors: Vec<(String, Box<dyn Preprocessor>)>,
    /// Appends scores.
    pub scorer: Option<Box<dyn Scorer>>,
    /// Where rows go; at least one.
    pub routes: Vec<Route>,
    /// Where rejected rows go; `None` counts them as skipped if they are tolerated.
    pub dead_letter: Option<Arc<dyn Sink>>,
}

impl TaskStages {
    /// From `source` through `decoder` to `routes`, with nothing between.
    pub fn new(source: Box<dyn Source>, decoder: Box<dyn Decoder>, routes: Vec<Route>) -> Self {
        Self { source, decoder, preprocessors: Vec::new(), scorer: None, routes, dead_letter: None }
    }
}

/// One way out of the pipeline.
pub struct Route {
    /// Name, which labels metrics.
    pub name: String,
    /// Which rows take it; `None` is all.
    pub when: Option<When>,
    /// Columns to bytes; `None` passes the received bytes on.
    pub encoder: Option<Box<dyn Encoder>>,
    /// Where it leads.
    pub sink: Arc<dyn Sink>,
    /// Whether acknowledgement waits for it. A best-effort route drops rows, counted, rather than hold one back.
    pub required: bool,
    /// It takes what a shadow model made of the rows, and nothing while there is none; all other routes never see that.
    pub shadow: bool,
}

impl Route {
    /// A required route for all rows.
    pub fn required(name: &str, encoder: Option<Box<dyn Encoder>>, sink: Arc<dyn Sink>) -> Self {
        Self { name: name.into(), when: None, encoder, sink, required: true, shadow: false }
    }

    /// A best-effort route for the rows that `when` picks.
    pub fn best_effort(name: &str, when: When, encoder: Option<Box<dyn Encoder>>, sink: Arc<dyn Sink>) -> Self {
        Self { name: name.into(), when: Some(when), encoder, sink, required: false, shadow: false }
    }
}

/// What happens to a row that fails for good, in Kafka Connect's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tolerance {
    /// `none`: the task fails, and nothing behind the row is acknowledged.
    #[default]
    None,
    /// `all`: the row is dead-lettered, or skipped and counted where there is no dead-letter sink.
    All,
}

/// `delivery.guarantee`: how often a row may come out at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// `at_least_once`: after a failure rows may come again.
    #[default]
    AtLeastOnce,
    /// `exactly_once`: what is written and how far the source was read are committed as one. Source and required sinks must
    /// be transactional, and belong to the same cluster.
    ExactlyOnce,
}

/// Bounds and policies of a pipeline.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// `delivery.guarantee`.
    pub delivery: Delivery,
    /// How often a transaction is committed, where there are any.
    pub transaction_interval: Duration,
    /// `errors.tolerance`.
    pub tolerance: Tolerance,
    /// `errors.retry.timeout`: how long one batch is tried again before the task fails; `None` is for ever.
    pub retry_timeout: Option<Duration>,
    /// `errors.retry.delay.max`: the longest pause between two tries.
    pub retry_delay_max: Duration,
    /// Bytes of received messages, and of the columns made of them, kept until acknowledged, per task, and beside them as much at
    /// most for each best-effort route (invariant 6).
    pub max_in_flight_bytes: usize,
    /// Rows received and not yet acknowledged, per task.
    pub max_in_flight_rows: usize,
    /// Headers that a message may have; one with more is rejected.
    pub max_headers: usize,
    /// Batches waiting at most for a best-effort route, of no more than `max_in_flight_bytes`; more are dropped and counted.
    pub best_effort_queue: usize,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Duration,
    /// How often state is snapshotted.
    pub state_interval: Duration,
    /// The pipeline is not ready while something is in flight for longer than this.
    pub max_in_flight_age: Duration,
    /// How often in a row a task that failed is restarted by itself. A program that embeds a pipeline learns of the first
    /// failure; a worker's configuration restarts by default.
    pub restart_max: u32,
    /// The longest pause before a restart; pauses double from half a second.
    pub restart_backoff_max: Duration,
    /// A task that ran for this long without failing has all its restarts again.
    pub restart_window: Duration,
    /// What happens when no task can go on.
    pub on_failure: OnFailure,
}

/// What a pipeline does when every task has failed or ended, and at least one has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends with the error, so that whatever supervises the process sees it.
    #[default]
    Exit,
    /// It waits for a restart by hand, as a worker of Kafka Connect does.
    Stay,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self {
            delivery: Delivery::AtLeastOnce,
            transaction_interval: Duration::from_millis(100),
            tolerance: Tolerance::None,
            retry_timeout: Some(Duration::from_secs(300)),
            retry_delay_max: Duration::from_secs(10),
            max_in_flight_bytes: 32 << 20,
            max_in_flight_rows: 200_000,
            max_headers: 256,
            best_effort_queue: 64,
            drain_timeout: Duration::from_secs(30),
            state_interval: Duration::from_secs(10),
            max_in_flight_age: Duration::from_secs(60),
            restart_max: 0,
            restart_backoff_max: Duration::from_secs(30),
            restart_window: Duration::from_secs(600),
            on_failure: OnFailure::Exit,
        }
    }
}
