//! The steps of a task: messages through the chain, rows through an encoder, and what a write brought back.

use std::sync::Arc;
use std::time::Instant;

use super::dead_letter::{self, DeadLetter};
use super::outlet::{Duty, Finished, Pending};
use super::retry::Failure;
use super::shorten::shorten;
use super::task::{Task, Work};
use super::tracker::{BatchId, Outcome};
use super::{PipelineError, Tolerance};
use crate::batch::{Batch, Messages, RawBatch, Rejected};
use crate::error::{BoxError, Class, Reason, Stage};
use crate::score::split;
use crate::sink::{Outgoing, Written};

/// Whether the results of rejected rows were counted as open before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    Yes,
    No,
}

impl Task {
    pub(super) async fn try_step(&mut self, work: Work) -> Result<(), (Work, Failure)> {
        match work {
            Work::Chain(id, raw) => {
                let done = self.run_chain(id, &raw).await;
                done.map_err(|failure| (Work::Chain(id, raw), failure))
            }
            Work::Encode(id, batch, outlet) => {
                let done = self.encode(id, &batch, outlet).await;
                done.map_err(|failure| (Work::Encode(id, batch, outlet), failure))
            }
        }
    }

    async fn run_chain(&mut self, id: BatchId, raw: &Arc<RawBatch>) -> Result<(), Failure> {
        let shown = if raw.rejected().is_empty() { raw.clone() } else { Arc::new(raw.without_rejected()) };
        let prepared = self.chain.decoder.prepare(&shown).await;
        prepared.map_err(|error| Failure::of(error.class(), Stage::Decode, "decode", error))?;
        let start = Instant::now();
        let chained = self.chain.run(raw, &shown)?;
        self.metrics.chain_seconds.observe(start.elapsed().as_secs_f64());
        self.tracker.grow(id, chained.batch.columns().get_array_memory_size());
        self.reject(id, raw, chained.letters, Opened::No).map_err(Failure::Task)?;
        self.route(id, chained.batch).map_err(Failure::Task)?;
        self.tracker.decide(id);
        Ok(())
    }

    /// Picks the rows of every route and opens one result per row and required route.
    fn route(&mut self, id: BatchId, batch: Batch) -> Result<(), PipelineError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (batch, shadow) =
            split(batch).map_err(|error| PipelineError::stage(Stage::Score, "score", error.into()))?;
        let mut steps = Vec::new();
        for (at, outlet) in self.outlets.iter().enumerate() {
            let failed = |error: BoxError| PipelineError::stage(Stage::Sink, &outlet.name, error);
            let batch = match (&shadow, outlet.is_shadow) {
                (Some(shadow), true) => shadow,
                (None, true) => continue,
                (_, false) => &batch,
            };
            let rows = match &outlet.when {
                _ if outlet.duty == Duty::DeadLetter => continue,
                None => batch.clone(),
                Some(when) => {
                    let picked = when.matches(batch).map_err(|message| failed(message.into()))?;
                    batch.clone().filter(&picked).map_err(|error| failed(error.into()))?.0
                }
            };
            if rows.is_empty() {
                continue;
            }
            if outlet.duty == Duty::Required {
                self.tracker.open(id, (0..rows.len()).map(|row| rows.origin(row)));
            }
            steps.push(Work::Encode(id, rows, at));
        }
        // Ahead of batches received later, so that rows keep their order.
        steps.into_iter().rev().for_each(|step| self.work.push_front(step));
        Ok(())
    }

    async fn encode(&mut self, id: BatchId, batch: &Batch, at: usize) -> Result<(), Failure> {
        let outlet = &mut self.outlets[at];
        let name = outlet.name.clone();
        let Some(encoder) = &mut outlet.encoder else {
            let raw = batch.raw();
            let origins = || (0..batch.len()).map(|row| batch.origin(row) as u32).collect::<Vec<_>>();
            let messages = raw.messages();
            let messages = if batch.is_dense() { messages.clone() } else { messages.take(&origins()) };
            outlet.push(id, Outgoing { batch: batch.clone(), messages: Arc::new(messages) }, &self.options);
            return Ok(());
        };
        let failed = |class, error: BoxError| Failure::of(class, Stage::Encode, &name, error);
        encoder.prepare(batch).await.map_err(|error| failed(error.class(), error.into()))?;
        let encoded = encoder.encode(batch).map_err(|error| failed(error.class(), error.into()))?;
        if encoded.messages.len() != batch.len() {
            let (got, want) = (encoded.messages.len(), batch.len());
            let what = format!("the stage broke its contract: {got} messages for {want} rows");
            return Err(failed(Class::Fatal, what.into()));
        }
        let rows = Outgoing { batch: batch.clone(), messages: Arc::new(encoded.messages) };
        if encoded.rejected.is_empty() {
            outlet.push(id, rows, &self.options);
            return Ok(());
        }
        let is_bad = marks(batch.len(), &encoded.rejected);
        let good: Vec<u32> = (0..batch.len() as u32).filter(|row| !is_bad[*row as usize]).collect();
        if !good.is_empty() {
            let good = take(&rows, &good).map_err(|error| failed(Class::Fatal, error))?;
            outlet.push(id, good, &self.options);
        }
        self.reject_rows(id, at, batch, Stage::Encode, encoded.rejected).map_err(Failure::Task)
    }

    /// Takes note of a write that ended.
    pub(super) fn finish(&mut self, finished: Finished) -> Result<(), PipelineError> {
        let Finished { outlet: at, pending, result } = finished;
        let now = Instant::now();
        let outlet = &mut self.outlets[at];
        outlet.write_ended(&pending);
        let written = match result {
            Ok(written) => written,
            Err(error) => match error.class() {
                Class::Retryable => return self.write_again(at, pending, error.into(), now),
                Class::Record => {
                    let crate::sink::SinkError::Record(cause) = error else { return Ok(()) };
                    let rows = 0..pending.rows.len() as u32;
                    let rejected = rows.map(|row| Rejected { row, cause: cause.clone() }).collect();
                    Written { rejected, retryable: Vec::new() }
                }
                Class::Fatal if outlet.duty == Duty::BestEffort => {
                    tracing::error!(route = &*outlet.name, %error, "a best-effort route failed and takes no more rows");
                    outlet.n_dropped.inc_by(pending.rows.len() as u64);
                    outlet.give_up();
                    return Ok(());
                }
                Class::Fatal => return Err(PipelineError::stage(Stage::Sink, &outlet.name, error.into())),
            },
        };
        self.settle_write(at, pending, written, now)
    }

    fn settle_write(
        &mut self,
        at: usize,
        mut pending: Pending,
        written: Written,
        now: Instant,
    ) -> Result<(), PipelineError> {
        let Written { rejected, retryable } = written;
        let outlet = &mut self.outlets[at];
        let batch = &pending.rows.batch;
        let mut is_open = marks(batch.len(), &rejected);
        retryable.iter().for_each(|row| is_open[row.row as usize] = true);
        let n_done = is_open.iter().filter(|is_open| !**is_open).count();
        outlet.n_rows.inc_by(n_done as u64);
        let outcome = match outlet.duty {
            Duty::Required => Some(Outcome::Delivered),
            Duty::DeadLetter => Some(Outcome::DeadLettered),
            Duty::BestEffort => None,
        };
        if let Some(outcome) = outcome {
            let done = (0..batch.len()).filter(|row| !is_open[*row]);
            self.tracker.done(pending.id, done.map(|row| batch.origin(row)), outcome);
        }
        if !rejected.is_empty() && self.outlets[at].duty == Duty::DeadLetter {
            self.shorten_letters(at, &pending, rejected)?;
        } else if !rejected.is_empty() {
            let batch = batch.clone();
            self.reject_rows(pending.id, at, &batch, Stage::Sink, rejected)?;
        }
        let Some(first) = retryable.first() else { return Ok(()) };
        let cause = first.cause.clone();
        let rows: Vec<u32> = retryable.iter().map(|row| row.row).collect();
        let name = self.outlets[at].name.clone();
        let left = take(&pending.rows, &rows).map_err(|error| PipelineError::stage(Stage::Sink, &name, error))?;
        pending.rows = left;
        self.write_again(at, pending, cause.into(), now)
    }

    fn write_again(&mut self, at: usize, pending: Pending, error: BoxError, now: Instant) -> Result<(), PipelineError> {
        let outlet = &mut self.outlets[at];
        if outlet.is_transactional {
            let error = PipelineError::stage(Stage::Sink, &outlet.name, error);
            return self.doom(Class::Retryable, error);
        }
        let n_rows = pending.rows.len();
        tracing::warn!(route = &*outlet.name, n_rows, %error, "a write failed and is tried again");
        match outlet.push_again(pending, &self.options, now) {
            Ok(()) => Ok(()),
            Err(spent) if outlet.duty == Duty::BestEffort => {
                outlet.n_dropped.inc_by(spent.rows.len() as u64);
                Ok(())
            }
            Err(_) => Err(PipelineError::stage(Stage::Sink, &outlet.name, error)),
        }
    }

    /// Dead letters that their sink refused: what is too large is written again with less of it.
    fn shorten_letters(&mut self, at: usize, refused: &Pending, rejected: Vec<Rejected>) -> Result<(), PipelineError> {
        let (outlet, batch) = (&mut self.outlets[at], &refused.rows.batch);
        let (mut messages, mut rows) = (Messages::default(), Vec::new());
        for Rejected { row, cause } in rejected {
            let is_shorter =
                cause.reason == Reason::Oversized && shorten(&refused.rows.messages, row as usize, &mut messages);
            if !is_shorter {
                // With nowhere left to put the bytes, stopping is the only way not to lose them.
                return Err(PipelineError::stage(Stage::Sink, &outlet.name, cause.into()));
            }
            let (topic, coordinate) = (messages.topic(rows.len()), batch.raw().coordinate(batch.origin(row as usize)));
            tracing::warn!(topic = topic.map(|topic| &**topic), ?coordinate, %cause, "a dead letter is shortened");
            rows.push(row);
        }
        let batch = batch.take(&rows);
        let batch = batch.map_err(|error| PipelineError::stage(Stage::Sink, &outlet.name, error.into()))?;
        outlet.push(refused.id, Outgoing { batch, messages: Arc::new(messages) }, &self.options);
        Ok(())
    }

    /// Rows that an outlet's encoder or sink refused for good.
    fn reject_rows(
        &mut self,
        id: BatchId,
        at: usize,
        batch: &Batch,
        stage: Stage,
        rejected: Vec<Rejected>,
    ) -> Result<(), PipelineError> {
        let outlet = &self.outlets[at];
        let name = outlet.name.clone();
        match outlet.duty {
            Duty::BestEffort => {
                outlet.n_dropped.inc_by(rejected.len() as u64);
                rejected.iter().for_each(|rejected| self.metrics.rejected(stage, rejected.cause.reason));
                Ok(())
            }
            // They are not encoded, and what their sink refuses is shortened.
            Duty::DeadLetter => match rejected.into_iter().next() {
                Some(first) => Err(PipelineError::stage(stage, &name, first.cause.into())),
                None => Ok(()),
            },
            Duty::Required => {
                let letters = rejected.into_iter().map(|rejected| DeadLetter {
                    origin: batch.origin(rejected.row as usize) as u32,
                    stage,
                    name: name.clone(),
                    cause: rejected.cause,
                });
                let letters = letters.collect();
                self.reject(id, batch.raw(), letters, Opened::Yes)
            }
        }
    }

    /// Applies `errors.tolerance` to rejected rows.
    fn reject(
        &mut self,
        id: BatchId,
        raw: &Arc<RawBatch>,
        letters: Vec<DeadLetter>,
        opened: Opened,
    ) -> Result<(), PipelineError> {
        let Some(first) = letters.first() else { return Ok(()) };
        for letter in &letters {
            self.metrics.rejected(letter.stage, letter.cause.reason);
        }
        if self.options.tolerance == Tolerance::None {
            let coordinate = raw.coordinate(first.origin as usize);
            return Err(PipelineError::Rejected {
                stage: first.stage,
                name: first.name.to_string(),
                topic: raw.messages().topic(first.origin as usize).map_or_else(String::new, |topic| topic.to_string()),
                partition: coordinate.partition,
                offset: coordinate.offset,
                cause: first.cause.clone(),
            });
        }
        if opened == Opened::No {
            self.tracker.open(id, letters.iter().map(|letter| letter.origin as usize));
        }
        let Some(outlet) = self.outlets.iter_mut().find(|outlet| outlet.duty == Duty::DeadLetter) else {
            self.tracker.done(id, letters.iter().map(|letter| letter.origin as usize), Outcome::Skipped);
            return Ok(());
        };
        let origins: Vec<u32> = letters.iter().map(|letter| letter.origin).collect();
        let batch = Batch::undecoded(raw.clone()).take(&origins);
        let batch = batch.map_err(|error| PipelineError::stage(Stage::Sink, &outlet.name, error.into()))?;
        let messages = Arc::new(dead_letter::messages(raw, &letters, &self.context));
        outlet.push(id, Outgoing { batch, messages }, &self.options);
        Ok(())
    }
}

fn marks(rows: usize, rejected: &[Rejected]) -> Vec<bool> {
    let mut marks = vec![false; rows];
    rejected.iter().for_each(|rejected| marks[rejected.row as usize] = true);
    marks
}

fn take(rows: &Outgoing, picked: &[u32]) -> Result<Outgoing, BoxError> {
    Ok(Outgoing { batch: rows.batch.take(picked)?, messages: Arc::new(rows.messages.take(picked)) })
}
