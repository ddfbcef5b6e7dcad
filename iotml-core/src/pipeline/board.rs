//! What a running task shows to others: its balance, its age, its state; and the metrics made from them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Audit;
use crate::error::{Reason, Stage};
use crate::metrics::{Counter, Gauge, Histogram, Metrics};

/// Written by the task once per step, read by anyone.
#[derive(Debug, Default)]
pub(super) struct Board {
    shown: Mutex<Shown>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    pub audit: Audit,
    pub oldest: Option<Instant>,
    pub n_lanes: usize,
    pub is_open: bool,
    pub error: Option<String>,
}

impl Board {
    pub fn shown(&self) -> Shown {
        self.lock().clone()
    }

    pub fn opened(&self) {
        self.lock().is_open = true;
    }

    pub fn failed(&self, error: String) {
        self.lock().error = Some(error);
    }

    pub fn update(&self, audit: Audit, oldest: Option<Instant>, n_lanes: usize) {
        let mut shown = self.lock();
        (shown.audit, shown.oldest, shown.n_lanes) = (audit, oldest, n_lanes);
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
    in_flight_rows: Gauge,
    in_flight_bytes: Gauge,
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
            returned: rows("returned", "Rows of aborted transactions, which are received again."),
            in_flight_rows: metrics.gauge("iotml_pipeline_in_flight_rows", "Rows not yet done.", &[]),
            in_flight_bytes: metrics.gauge("iotml_pipeline_in_flight_bytes", "Bytes of rows not yet done.", &[]),
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
        self.in_flight_rows.set(audit.in_flight as i64);
        self.in_flight_bytes.set(n_bytes as i64);
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
