//! One way out of a task: a queue in front of a sink, with the writes in flight and the pause after a failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::retry::Retry;
use super::tracker::BatchId;
use super::{PipelineOptions, When};
use crate::encode::Encoder;
use crate::metrics::{Counter, Histogram, Metrics};
use crate::sink::{Outgoing, Sink, SinkError, Written};

/// What an outlet owes the rows that take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Acknowledgement waits for it.
    Required,
    /// Rows may be dropped, counted.
    BestEffort,
    /// It takes rejected rows, and acknowledgement waits for it.
    DeadLetter,
}

/// Rows waiting for a write, or for another try.
pub(super) struct Pending {
    /// Order of the outlet; a retried write takes its old place again.
    seq: u64,
    pub id: BatchId,
    pub rows: Outgoing,
    /// Bytes that it keeps from being freed, on a route that nothing else bounds.
    n_bytes: usize,
    retry: Option<Retry>,
}

/// A write that ended.
pub(super) struct Finished {
    pub outlet: usize,
    pub pending: Pending,
    pub result: Result<Written, SinkError>,
}

pub(super) struct Outlet {
    pub name: Arc<str>,
    pub when: Option<When>,
    pub encoder: Option<Box<dyn Encoder>>,
    pub sink: Arc<dyn Sink>,
    pub duty: Duty,
    /// It takes what a shadow model made of the rows.
    pub is_shadow: bool,
    /// Its writes are part of the task's transactions.
    pub is_transactional: bool,
    queue: VecDeque<Pending>,
    /// Bytes of what waits and is being written, on a best-effort route.
    n_bytes: usize,
    n_writing: usize,
    n_writing_rows: usize,
    next_seq: u64,
    paused_until: Option<Instant>,
    is_broken: bool,
    pub n_rows: Counter,
    pub n_dropped: Counter,
    pub n_retries: Counter,
    write_seconds: Histogram,
}

impl Outlet {
    pub fn new(
        name: Arc<str>,
        when: Option<When>,
        mut encoder: Option<Box<dyn Encoder>>,
        sink: Arc<dyn Sink>,
        duty: Duty,
        metrics: &Metrics,
    ) -> Self {
        if let Some(encoder) = &mut encoder {
            encoder.bound_for(sink.clone());
        }
        let metrics = metrics.with(&[("route", &name)]);
        Self {
            n_rows: metrics.counter("iotml_sink_rows", "Rows made durable.", &[]),
            n_dropped: metrics.counter("iotml_sink_dropped_rows", "Rows a best-effort route gave up.", &[]),
            n_retries: metrics.counter("iotml_sink_retries", "Writes tried again.", &[]),
            write_seconds: metrics.latency("iotml_sink_write_seconds", "From the call of write to durable.", &[]),
            name,
            when,
            encoder,
            sink,
            duty,
            is_shadow: false,
            is_transactional: false,
            queue: VecDeque::new(),
            n_bytes: 0,
            n_writing: 0,
            n_writing_rows: 0,
            next_seq: 0,
            paused_until: None,
            is_broken: false,
        }
    }

    /// Queues rows behind all others. A best-effort route drops them if too many batches or bytes wait already: nobody else
    /// counts what it holds once the required routes are done with it (invariant 6).
    pub fn push(&mut self, id: BatchId, rows: Outgoing, options: &PipelineOptions) {
        let mut n_bytes = 0;
        if self.duty == Duty::BestEffort {
            // However few of its rows take this route, the whole batch as it was received is kept.
            n_bytes = rows.batch.n_bytes() + rows.messages.n_bytes();
            let is_beyond = self.n_bytes > 0 && self.n_bytes + n_bytes > options.max_in_flight_bytes;
            if self.is_broken || is_beyond || self.queue.len() >= options.best_effort_queue {
                self.n_dropped.inc_by(rows.len() as u64);
                return;
            }
            self.n_bytes += n_bytes;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.queue.push_back(Pending { seq, id, rows, n_bytes, retry: None });
    }

    /// Queues a failed write again in its old place. Gives the rows back if the budget is spent.
    pub fn push_again(
        &mut self,
        mut failed: Pending,
        options: &PipelineOptions,
        now: Instant,
    ) -> Result<(), Box<Pending>> {
        let retry = failed.retry.get_or_insert_with(|| Retry::new(options, now));
        let Some(at) = retry.next(now) else { return Err(Box::new(failed)) };
        self.n_retries.inc();
        self.paused_until = Some(self.paused_until.map_or(at, |paused| paused.max(at)));
        let place = self.queue.partition_point(|queued| queued.seq < failed.seq);
        self.n_bytes += failed.n_bytes;
        self.queue.insert(place, failed);
        Ok(())
    }

    /// The next write that may begin, if the sink has room and no pause is on: of the batches before `cut`, if there is one.
    pub fn next(&self, now: Instant, cut: Option<BatchId>) -> Option<usize> {
        if self.paused_until.is_some_and(|until| until > now) || self.n_writing >= self.sink.max_in_flight().max(1) {
            return None;
        }
        match cut {
            None if self.queue.is_empty() => None,
            None => Some(0),
            // Rows that a sink has rejected come late, and may stand behind those of later batches.
            Some(cut) => self.queue.iter().position(|pending| pending.id < cut),
        }
    }

    /// Begins a write that [`Outlet::next`] has found.
    pub fn write(&mut self, outlet: usize, next: usize, now: Instant) -> Option<BoxFuture<'static, Finished>> {
        self.paused_until = None;
        let pending = self.queue.remove(next)?;
        self.n_writing += 1;
        self.n_writing_rows += pending.rows.len();
        let (sink, seconds) = (self.sink.clone(), self.write_seconds.clone());
        let write = async move {
            let result = sink.write(pending.rows.clone()).await;
            seconds.observe(now.elapsed().as_secs_f64());
            Finished { outlet, pending, result }
        };
        Some(write.boxed())
    }

    /// The write of `written` has ended.
    pub fn write_ended(&mut self, written: &Pending) {
        self.n_writing -= 1;
        self.n_writing_rows -= written.rows.len();
        self.n_bytes -= written.n_bytes;
    }

    /// All writes that were running have been dropped; in a transaction, what waits is void as well.
    pub fn abort(&mut self) {
        if self.is_transactional {
            self.queue.clear();
            self.paused_until = None;
        } else {
            self.n_dropped.inc_by(self.n_writing_rows as u64);
        }
        (self.n_writing, self.n_writing_rows) = (0, 0);
        self.n_bytes = self.queue.iter().map(|pending| pending.n_bytes).sum();
    }

    /// A best-effort route whose sink failed for good takes no more rows.
    pub fn give_up(&mut self) {
        self.is_broken = true;
        self.n_bytes -= self.queue.iter().map(|pending| pending.n_bytes).sum::<usize>();
        let n_rows: usize = self.queue.drain(..).map(|pending| pending.rows.len()).sum();
        self.n_dropped.inc_by(n_rows as u64);
    }

    /// When to look again, if a pause is on.
    pub fn wakes_at(&self) -> Option<Instant> {
        if self.queue.is_empty() { None } else { self.paused_until }
    }

    /// Whether nothing waits and nothing is being written.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.n_writing == 0
    }
}
