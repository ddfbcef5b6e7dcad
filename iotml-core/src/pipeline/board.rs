//! What a running task shows to others: its state, its balance, its age; and the metrics made from them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::{Audit, Notices, TaskState};
use crate::error::{Reason, Stage};
use crate::metrics::{Counter, Gauge, Histogram, Metrics};
use crate::source::Acknowledged;

/// Written by the task once per step, read by anyone.
#[derive(Debug, Default)]
pub(super) struct Board {
    shown: Mutex<Shown>,
    /// What its stages say of themselves.
    pub notices: Notices,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Of all stages that the task has had, one after the other.
    pub audit: Audit,
    /// The part of it from before the present ones.
    before: Audit,
    pub oldest: Option<Instant>,
    pub n_lanes: usize,
    pub state: TaskState,
    pub offsets: Vec<Acknowledged>,
    /// Why the task failed last; gone once it receives again.
    pub error: Option<String>,
    pub n_restarts: u64,
    /// It has ended for good, by itself or because it was told to.
    pub has_ended: bool,
}

impl Board {
    pub fn shown(&self) -> Shown {
        self.lock().clone()
    }

    /// Every stage is open.
    pub fn opened(&self) {
        let mut shown = self.lock();
        (shown.state, shown.error) = (TaskState::Running, None);
    }

    pub fn pause(&self, is_paused: bool) {
        self.lock().state = if is_paused { TaskState::Paused } else { TaskState::Running };
    }

    /// The stages are closed for now.
    pub fn stopped(&self) {
        let mut shown = self.lock();
        (shown.state, shown.error) = (TaskState::Stopped, None);
    }

    /// The task is over; one that failed stays so.
    pub fn ended(&self) {
        let mut shown = self.lock();
        shown.has_ended = true;
        if shown.state != TaskState::Failed {
            shown.state = TaskState::Stopped;
        }
    }

    pub fn failed(&self, error: String) {
        let mut shown = self.lock();
        (shown.state, shown.error) = (TaskState::Failed, Some(error));
    }

    /// The stages failed; others come after a pause.
    pub fn restarting(&self, error: String) {
        let mut shown = self.lock();
        (shown.state, shown.error) = (TaskState::Restarting, Some(error));
    }

    /// Other stages are being opened. Why the last ones failed stays to be seen until these receive.
    pub fn begins_anew(&self) {
        let mut shown = self.lock();
        shown.n_restarts += 1;
        shown.state = TaskState::Restarting;
    }

    pub fn update(&self, audit: Audit, oldest: Option<Instant>, n_lanes: usize) {
        let mut shown = self.lock();
        shown.audit = shown.before + audit;
        (shown.oldest, shown.n_lanes) = (oldest, n_lanes);
    }

    pub fn show_offsets(&self, offsets: Vec<Acknowledged>) {
        self.lock().offsets = offsets;
    }

    /// The stages are gone, and what they had in flight is void: it is still the source's, and comes again. Returns how
    /// many rows that are.
    pub fn give_back(&self) -> u64 {
        let mut shown = self.lock();
        let n_rows = shown.audit.in_flight;
        shown.audit = shown.audit.given_back();
        (shown.before, shown.oldest, shown.n_lanes) = (shown.audit, None, 0);
        n_rows
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of a task.
pub(super) struct TaskMetrics {
    metrics: Metrics,
    received: Counter,
    delivered: Counter,
    dead_lettered: Counter,
    filtered: Counter,
    skipped: Counter,
    returned: Counter,
    in_flight: InFlight,
    pub chain_seconds: Histogram,
    rejected: HashMap<(Stage, Reason), Counter>,
    last: Audit,
}

impl TaskMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let rows = |name: &str, help| metrics.counter(&format!("iotml_pipeline_{name}_rows"), help, &[]);
        Self {
            received: rows("received", "Rows the source yielded."),
            delivered: rows("delivered", "Rows that every required route made durable."),
            dead_lettered: rows("dead_lettered", "Rows of which a result went to the dead-letter sink."),
            filtered: rows("filtered", "Rows left out on purpose."),
            skipped: rows("skipped", "Rejected rows dropped by errors.tolerance without a dead-letter sink."),
            returned: returned(metrics),
            in_flight: InFlight::new(metrics),
            chain_seconds: metrics.latency(
                "iotml_pipeline_chain_seconds",
                "Decode to score, for one batch of messages.",
                &[],
            ),
            rejected: HashMap::new(),
            last: Audit::default(),
            metrics: metrics.clone(),
        }
    }

    /// Adds what has changed since the last call.
    pub fn update(&mut self, audit: Audit, n_bytes: usize) {
        self.received.inc_by(audit.received - self.last.received);
        self.delivered.inc_by(audit.delivered - self.last.delivered);
        self.dead_lettered.inc_by(audit.dead_lettered - self.last.dead_lettered);
        self.filtered.inc_by(audit.filtered - self.last.filtered);
        self.skipped.inc_by(audit.skipped - self.last.skipped);
        self.returned.inc_by(audit.returned - self.last.returned);
        self.in_flight.set(audit.in_flight, n_bytes);
        self.last = audit;
    }

    /// Counts one rejected row by stage and reason.
    pub fn rejected(&mut self, stage: Stage, reason: Reason) {
        let metrics = &self.metrics;
        let counter = self.rejected.entry((stage, reason)).or_insert_with(|| {
            let labels = [("stage", stage.as_str()), ("reason", reason.as_str())];
            metrics.counter("iotml_pipeline_rejected_rows", "Rejected rows by stage and reason.", &labels)
        });
        counter.inc();
    }
}

/// The counters of a task's transactions.
pub(super) struct TransactionMetrics {
    commits: Counter,
    pub aborts: Counter,
    seconds: Histogram,
}

impl TransactionMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            commits: metrics.counter("iotml_pipeline_transaction_commits", "Transactions committed.", &[]),
            aborts: metrics.counter("iotml_pipeline_transaction_aborts", "Transactions aborted.", &[]),
            seconds: metrics.latency("iotml_pipeline_transaction_commit_seconds", "One commit, at the far side.", &[]),
        }
    }

    /// A commit that began then has ended well.
    pub fn committed(&self, since: Instant) {
        self.commits.inc();
        self.seconds.observe(since.elapsed().as_secs_f64());
    }
}

/// What outlives the stages of a task.
pub(super) struct SupervisorMetrics {
    returned: Counter,
    in_flight: InFlight,
    restarts: Counter,
    failed: Gauge,
}

impl SupervisorMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            returned: returned(metrics),
            in_flight: InFlight::new(metrics),
            restarts: metrics.counter("iotml_pipeline_task_restarts", "Times the task was begun anew.", &[]),
            failed: metrics.gauge(
                "iotml_pipeline_task_failed",
                "1 while the task has failed and is not restarted by itself any more.",
                &[],
            ),
        }
    }

    /// These rows are with the source again.
    pub fn returned(&self, n_rows: u64) {
        self.returned.inc_by(n_rows);
        self.in_flight.set(0, 0);
    }

    pub fn begins_anew(&self) {
        self.restarts.inc();
    }

    /// It receives.
    pub fn opened(&self) {
        self.failed.set(0);
    }

    pub fn failed(&self) {
        self.failed.set(1);
    }
}

/// Two count here: the task those of aborted transactions, its supervisor those that a life of it left behind.
fn returned(metrics: &Metrics) -> Counter {
    let help =
        "Rows in flight when their transaction was aborted or their task begun anew; the source yields them again.";
    metrics.counter("iotml_pipeline_returned_rows", help, &[])
}

struct InFlight {
    rows: Gauge,
    bytes: Gauge,
}

impl InFlight {
    fn new(metrics: &Metrics) -> Self {
        Self {
            rows: metrics.gauge("iotml_pipeline_in_flight_rows", "Rows not yet done.", &[]),
            bytes: metrics.gauge("iotml_pipeline_in_flight_bytes", "Bytes of rows not yet done.", &[]),
        }
    }

    fn set(&self, n_rows: u64, n_bytes: usize) {
        self.rows.set(n_rows as i64);
        self.bytes.set(n_bytes as i64);
    }
}
