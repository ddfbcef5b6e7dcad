//! Control over a running pipeline from elsewhere: a signal handler, an HTTP endpoint.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::board::{Board, Shown};
use super::order::{Order, Target};
use super::{Audit, Health, OnFailure, PipelineOptions, PipelineStatus, TaskState, TaskStatus};

/// Control over a running pipeline; cheap to clone, and good for as long as anyone wants to know what became of it.
///
/// Everything returns at once, and the tasks follow as soon as they can: [`status`](PipelineControl::status) tells when.
/// The words are Kafka Connect's.
#[derive(Clone, Debug)]
pub struct PipelineControl {
    steering: Arc<Steering>,
}

/// What the tasks of a pipeline and those who look at it share.
#[derive(Debug)]
pub(super) struct Steering {
    pub name: Arc<str>,
    pub instance: Arc<str>,
    pub options: PipelineOptions,
    pub tasks: Vec<Seat>,
}

/// One task: what it is told, and what it shows.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub order: watch::Sender<Order>,
    pub board: Arc<Board>,
}

impl Steering {
    /// Tells all tasks.
    pub fn order(&self, change: impl Fn(&mut Order)) {
        self.tasks.iter().for_each(|task| task.order.send_modify(&change));
    }

    /// Ends the pipeline if no task can go on any more, unless it is told to stay. Called whenever a task has ended or failed.
    pub fn settle(&self) {
        let shown: Vec<_> = self.tasks.iter().map(|task| task.board.shown()).collect();
        let has_failed = |shown: &Shown| shown.state == TaskState::Failed;
        let is_over = shown.iter().all(|shown| shown.has_ended || has_failed(shown));
        if self.options.on_failure == OnFailure::Exit && is_over && shown.iter().any(has_failed) {
            self.order(|order| order.ends = true);
        }
    }
}

impl PipelineControl {
    pub(super) fn new(steering: Arc<Steering>) -> Self {
        Self { steering }
    }

    /// Name of the pipeline.
    pub fn name(&self) -> &str {
        &self.steering.name
    }

    /// Makes every task receive nothing more and finish what is in flight; connections and heartbeats go on.
    pub fn pause(&self) {
        self.steering.order(|order| order.target = Target::Paused);
    }

    /// Makes paused and stopped tasks receive again. A failed task wants a restart.
    pub fn resume(&self) {
        self.steering.order(|order| order.target = Target::Running);
    }

    /// Makes every task drain and close its stages, and wait until it is resumed. What stops the pipeline for good is
    /// [`end`](PipelineControl::end).
    pub fn stop(&self) {
        self.steering.order(|order| order.target = Target::Stopped);
    }

    /// Begins all tasks anew, or only those that have failed: drained, closed, and opened again with fresh stages and a fresh
    /// budget of restarts. Returns their numbers. A stopped pipeline stays stopped until it is [resumed](Self::resume), as in
    /// Kafka Connect.
    pub fn restart(&self, only_failed: bool) -> Vec<usize> {
        let picked = |task: &usize| !only_failed || self.shown(*task).state == TaskState::Failed;
        (0..self.steering.tasks.len()).filter(picked).filter(|task| self.restart_task(*task)).collect()
    }

    /// Begins one task anew; false if there is no such task, or if it is stopped and so has nothing to begin anew.
    pub fn restart_task(&self, task: usize) -> bool {
        let restart = |order: &mut Order| {
            let is_stopped = order.target == Target::Stopped;
            order.n_restarts += u64::from(!is_stopped);
            !is_stopped
        };
        self.steering.tasks.get(task).is_some_and(|seat| seat.order.send_if_modified(restart))
    }

    /// Ends the pipeline: every task stops receiving, drains and closes.
    pub fn end(&self) {
        self.steering.order(|order| order.ends = true);
    }

    /// Ends the pipeline and takes leave of the far side, for an instance that does not come back: subscriptions are given up,
    /// what the far side has already assigned to this instance is still received and delivered, and then its session ends, so
    /// that nothing waits for a reader who never comes.
    pub fn leave(&self) {
        self.steering.order(|order| (order.ends, order.leaves) = (true, true));
    }

    /// How the pipeline and its tasks are doing.
    pub fn status(&self) -> PipelineStatus {
        let tasks = (0..self.steering.tasks.len()).map(|task| {
            let Shown { state, error, n_restarts, audit, offsets, .. } = self.shown(task);
            TaskStatus { task, state, trace: error, n_restarts, audit, offsets }
        });
        let tasks: Vec<_> = tasks.collect();
        let (name, instance) = (self.steering.name.to_string(), self.steering.instance.to_string());
        PipelineStatus { name, instance, state: PipelineStatus::of(&tasks), tasks }
    }

    /// The balance of all tasks; each task's part is consistent in itself.
    pub fn audit(&self) -> Audit {
        self.all_shown().iter().map(|task| task.audit).fold(Audit::default(), |sum, one| sum + one)
    }

    /// How many lanes the tasks receive from at present.
    pub fn n_lanes(&self) -> usize {
        self.all_shown().iter().map(|task| task.n_lanes).sum()
    }

    /// Whether every task has ended for good.
    pub fn has_ended(&self) -> bool {
        self.all_shown().iter().all(|task| task.has_ended)
    }

    /// Whether the pipeline is well.
    pub fn health(&self) -> Health {
        let now = Instant::now();
        let shown = self.all_shown();
        let troubled = shown.iter().enumerate().find(|(_, task)| task.state == TaskState::Failed);
        let troubled = troubled.or_else(|| shown.iter().enumerate().find(|(_, task)| task.error.is_some()));
        let age = shown.iter().filter_map(|task| task.oldest).map(|oldest| now - oldest).max().unwrap_or_default();
        let limit = self.steering.options.max_in_flight_age;
        let is_late = age > limit;
        let mut said: Vec<String> = Vec::new();
        for text in self.steering.tasks.iter().flat_map(|task| task.board.notices.texts()) {
            // Tasks that share a model say the same of it.
            if !said.contains(&text) {
                said.push(text);
            }
        }
        let mut detail = match troubled {
            Some((number, task)) => {
                let error = task.error.as_deref().unwrap_or_default();
                let word = task.state.as_str();
                if shown.len() == 1 { format!("{word}: {error}") } else { format!("task {number} {word}: {error}") }
            }
            None if is_late => format!("a row is in flight for {:.1} s, more than {limit:?}", age.as_secs_f64()),
            None => self.audit().to_string(),
        };
        // A task that restarts has not used up its chances, and one that is late waits for a far side that is slow or away. Whoever
        // supervises the process shall let them: to begin anew would only bring the same rows again.
        let is_healthy = shown.iter().all(|task| task.state != TaskState::Failed);
        // One that came to the end of its source has nothing left to be ready for.
        let is_ready = |task: &Shown| match task.state {
            TaskState::Running => true,
            TaskState::Stopped => task.has_ended,
            _ => false,
        };
        let is_held = self.steering.tasks.iter().any(|task| task.board.notices.hold_back());
        said.iter().for_each(|text| detail = format!("{detail}; {text}"));
        Health { is_healthy, is_ready: !is_held && !is_late && shown.iter().all(is_ready), detail }
    }

    fn shown(&self, task: usize) -> Shown {
        self.steering.tasks[task].board.shown()
    }

    fn all_shown(&self) -> Vec<Shown> {
        self.steering.tasks.iter().map(|task| task.board.shown()).collect()
    }
}
