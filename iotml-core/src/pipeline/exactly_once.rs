//! Exactly once: a task's transactions, each of which covers what was received up to a cut and everything written for it.
//!
//! While one is committed the stages go on with what was received behind the cut, and only the writes of that wait. Whatever
//! goes wrong ends in the same place: the transaction is aborted, all that is not committed is forgotten, and the source goes
//! back to what is. See docs/decisions/0007-exactly-once.md.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::board::TransactionMetrics;
use super::order::Order;
use super::outlet::{Duty, Outlet};
use super::retry::Retry;
use super::task::{Revoking, Task, Work};
use super::tracker::{BatchId, Cut};
use super::{Delivery, PipelineError};
use crate::error::{BoxError, Class, Stage};
use crate::sink::{SinkError, Transaction};
use crate::source::{Source, SourceError};

/// The transactions of one task.
pub(super) struct ExactlyOnce {
    transaction: Arc<dyn Transaction>,
    /// A transaction is open at the far side.
    has_begun: bool,
    phase: Phase,
    /// Not before then is the next one committed, unless something presses.
    next_commit: Instant,
    /// Why the transaction must be aborted.
    doomed: Option<PipelineError>,
    /// Since when it is being aborted.
    aborting: Option<Instant>,
    /// The pause after an abort, and how many more there may be.
    retry: Option<Retry>,
    paused_until: Option<Instant>,
    metrics: TransactionMetrics,
}

enum Phase {
    /// Any write may begin.
    Filling,
    /// No write begins behind the cut, until everything before it is done and committed.
    Cutting(Cut),
    /// The commit is on its way since then.
    Committing(Cut, Instant, BoxFuture<'static, Result<(), SinkError>>),
}

impl ExactlyOnce {
    /// Behind which batch no write may begin.
    pub fn cut(&self) -> Option<BatchId> {
        match &self.phase {
            Phase::Filling => None,
            Phase::Cutting(cut) | Phase::Committing(cut, ..) => Some(cut.before),
        }
    }

    /// Whether nothing is open, doomed or pausing.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Filling) && !self.has_begun && self.doomed.is_none()
    }

    /// Whether nothing new may be received: after an abort the far side is left alone for a while.
    pub fn is_pausing(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// What was written must be aborted, for this reason.
    pub fn doom(&mut self, reason: PipelineError) {
        self.doomed.get_or_insert(reason);
    }

    /// Whether it should have been aborted and was not.
    pub fn is_doomed(&self) -> bool {
        self.doomed.is_some()
    }

    /// Since when a commit or an abort is on its way.
    pub fn ending_since(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Committing(_, since, _) => Some(*since),
            _ => self.aborting,
        }
    }

    /// When to look again, `in_flight` rows being not yet committed.
    pub fn wakes_at(&self, in_flight: u64) -> Option<Instant> {
        let is_due = matches!(self.phase, Phase::Filling) && in_flight > 0;
        self.paused_until.into_iter().chain(is_due.then_some(self.next_commit)).min()
    }

    /// The end of the commit that is on its way; never, if there is none. May be dropped and asked for again.
    pub async fn committed(this: &mut Option<Self>) -> Result<(), SinkError> {
        match this {
            Some(Self { phase: Phase::Committing(_, _, commit), .. }) => commit.await,
            _ => pending().await,
        }
    }
}

/// An error of the transaction as a whole.
fn failed(error: impl Into<BoxError>) -> PipelineError {
    PipelineError::stage(Stage::Sink, "transaction", error.into())
}

impl Task {
    /// Finds the transaction that the required sinks share, once they are open, and makes it ready.
    pub(super) async fn open_transaction(&mut self) -> Result<(), PipelineError> {
        if self.options.delivery == Delivery::AtLeastOnce {
            return Ok(());
        }
        let refused = |stage, name: &str, why: &str| PipelineError::stage(stage, name, why.into());
        if !self.source.is_transactional() {
            return Err(refused(
                Stage::Source,
                "source",
                "exactly_once needs a source that takes part in transactions",
            ));
        }
        let mut found: Option<Arc<dyn Transaction>> = None;
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.duty != Duty::BestEffort) {
            let Some(transaction) = outlet.sink.transaction() else {
                let why = "exactly_once needs a sink that takes part in transactions";
                return Err(refused(Stage::Sink, &outlet.name, why));
            };
            if found.as_ref().is_some_and(|found| !Arc::ptr_eq(found, &transaction)) {
                let why = "exactly_once needs all required sinks in one transaction, and so on one cluster";
                return Err(refused(Stage::Sink, &outlet.name, why));
            }
            outlet.is_transactional = true;
            found = Some(transaction);
        }
        let Some(transaction) = found else {
            return Err(refused(Stage::Sink, "route", "exactly_once needs a route that is required"));
        };
        transaction.open().await.map_err(failed)?;
        self.exactly_once = Some(ExactlyOnce {
            transaction,
            has_begun: false,
            phase: Phase::Filling,
            next_commit: Instant::now(),
            doomed: None,
            aborting: None,
            retry: None,
            paused_until: None,
            metrics: TransactionMetrics::new(&self.context.metrics),
        });
        Ok(())
    }

    /// Refuses stages with state, which no transaction covers. They may know only once they are open.
    pub(super) fn check_transaction(&mut self) -> Result<(), PipelineError> {
        match (&self.exactly_once, self.chain.stateful().first()) {
            (Some(_), Some((name, _))) => {
                let why = "exactly_once does not cover the state of this stage; use at_least_once";
                Err(PipelineError::stage(Stage::Preprocess, name, why.into()))
            }
            _ => Ok(()),
        }
    }

    /// Begins a transaction if none is open. Whether one is.
    pub(super) async fn begin_transaction(&mut self) -> Result<bool, PipelineError> {
        let Some(ExactlyOnce { transaction, has_begun, doomed: None, .. }) = &mut self.exactly_once else {
            return Ok(false);
        };
        if *has_begun {
            return Ok(true);
        }
        match transaction.begin().await {
            Ok(()) => *has_begun = true,
            Err(error) => self.doom(error.class(), failed(error))?,
        }
        Ok(self.exactly_once.as_ref().is_some_and(|it| it.has_begun))
    }

    /// Moves the transaction on: to a cut when it is time, from there to a commit, and to an abort where it is doomed.
    pub(super) async fn turn_transaction(
        &mut self,
        now: Instant,
        orders: &watch::Receiver<Order>,
    ) -> Result<(), PipelineError> {
        let Some(exactly_once) = &mut self.exactly_once else { return Ok(()) };
        if exactly_once.doomed.is_some() {
            // The end of a commit on its way decides how much is to be read again.
            return if matches!(exactly_once.phase, Phase::Committing(..)) {
                Ok(())
            } else {
                self.abort(now, orders).await
            };
        }
        let presses = self.revoking.is_some() || self.stop_by.is_some() || self.has_ended;
        let is_due = self.tracker.audit().in_flight > 0 && (presses || now >= exactly_once.next_commit);
        if is_due && matches!(exactly_once.phase, Phase::Filling) {
            let unseen = self.work.iter().find_map(|work| match work {
                Work::Chain(id, _) => Some(*id),
                Work::Encode(..) => None,
            });
            let cut = self.tracker.cut(unseen);
            if !cut.acks.is_empty() {
                exactly_once.phase = Phase::Cutting(cut);
                exactly_once.next_commit = now + self.options.transaction_interval;
            }
        }
        match &exactly_once.phase {
            Phase::Cutting(cut) if self.tracker.is_settled(cut) => {
                let cut = cut.clone();
                self.commit(cut, now).await
            }
            _ => Ok(()),
        }
    }

    async fn commit(&mut self, cut: Cut, now: Instant) -> Result<(), PipelineError> {
        // Where every row was filtered there is no transaction yet, and its positions must be committed all the same.
        if !self.begin_transaction().await? {
            return Ok(());
        }
        match self.source.offsets(&cut.acks) {
            Ok(offsets) => {
                if let Some(ExactlyOnce { transaction, phase, .. }) = &mut self.exactly_once {
                    let transaction = transaction.clone();
                    let commit = async move { transaction.commit(offsets).await };
                    *phase = Phase::Committing(cut, now, commit.boxed());
                }
                Ok(())
            }
            Err(error) => self.doom(error.class(), PipelineError::stage(Stage::Source, "source", error.into())),
        }
    }

    /// Takes note of how a commit ended.
    pub(super) fn end_commit(&mut self, result: Result<(), SinkError>) -> Result<(), PipelineError> {
        let Some(exactly_once) = &mut self.exactly_once else { return Ok(()) };
        let phase = std::mem::replace(&mut exactly_once.phase, Phase::Filling);
        let Phase::Committing(cut, since, _) = phase else { return Ok(()) };
        if let Err(error) = result {
            // What it covers is in doubt, and what is committed is known only to the far side.
            return self.doom(error.class(), failed(error));
        }
        exactly_once.has_begun = false;
        exactly_once.retry = None;
        exactly_once.metrics.committed(since);
        self.tracker.committed(&cut);
        let acked = self.source.ack(&cut.acks);
        acked.map_err(|error| PipelineError::stage(Stage::Source, "source", error.into()))
    }

    /// An error in a transaction: it is aborted, or the task ends.
    pub(super) fn doom(&mut self, class: Class, error: PipelineError) -> Result<(), PipelineError> {
        match &mut self.exactly_once {
            Some(exactly_once) if class != Class::Fatal => {
                exactly_once.doom(error);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Drops everything that is not committed, here and at the far side, and goes back to what is. That takes as long as the far
    /// side is away, unless the task is told to end: then no longer than any other end.
    async fn abort(&mut self, now: Instant, orders: &watch::Receiver<Order>) -> Result<(), PipelineError> {
        let Some(reason) = self.exactly_once.as_mut().and_then(|it| it.doomed.take()) else { return Ok(()) };
        tracing::warn!(error = reason.report(), rows = self.tracker.audit().in_flight, "a transaction is aborted");
        self.writes.clear();
        self.outlets.iter_mut().for_each(Outlet::abort);
        self.work.clear();
        self.work_retry = None;
        self.tracker.void();
        self.partitions.clear();
        self.has_ended = false;
        let mut open = None;
        if let Some(ExactlyOnce { transaction, phase, has_begun, aborting, metrics, .. }) = &mut self.exactly_once {
            metrics.aborts.inc();
            *phase = Phase::Filling;
            // What ends the task early leaves it to time out, and does not begin to abort it once more.
            open = std::mem::take(has_begun).then(|| transaction.clone());
            *aborting = Some(now);
        }
        self.show(now);
        let ends = time_is_up(self.stop_by, orders.clone(), self.order, self.options.drain_timeout);
        let is_undone = tokio::select! {
            biased;
            undone = undo(open, &mut *self.source, self.revoking.take()) => undone.map(|()| true)?,
            () = ends => false,
        };
        if !is_undone {
            tracing::warn!("a transaction is left to time out, since it could not be aborted before the end");
            self.obey(*orders.borrow()).await?;
            self.stop_by = Some(now);
        }
        let Some(exactly_once) = &mut self.exactly_once else { return Ok(()) };
        exactly_once.aborting = None;
        if !is_undone {
            exactly_once.doomed = Some(reason);
            return Ok(());
        }
        // The far side is there again, however long it was away: that is not counted as trying.
        if now.elapsed() > AWAY {
            exactly_once.retry = None;
        }
        let retry = exactly_once.retry.get_or_insert_with(|| Retry::new(&self.options, Instant::now()));
        exactly_once.paused_until = Some(retry.next(Instant::now()).ok_or(reason)?);
        Ok(())
    }

    /// Ends what is open when the task ends: what is on its way may still be committed, and the rest is aborted, so that
    /// readers need not wait until it has timed out.
    pub(super) async fn end_transaction(&mut self) {
        let patience = self.options.drain_timeout.max(Duration::from_secs(1));
        let end = async {
            if matches!(&self.exactly_once, Some(ExactlyOnce { phase: Phase::Committing(..), .. })) {
                let result = ExactlyOnce::committed(&mut self.exactly_once).await;
                let _ = self.end_commit(result);
            }
            self.writes.clear();
            match &self.exactly_once {
                Some(ExactlyOnce { has_begun: true, transaction, .. }) => transaction.abort().await,
                _ => Ok(()),
            }
        };
        match tokio::time::timeout(patience, end).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("a transaction is left to time out: {}", crate::error::report(&error)),
            Err(_) => tracing::warn!("a transaction is left to time out, since it could not be ended in {patience:?}"),
        }
    }
}

/// Aborts what is open at the far side, lets lanes go that leave, and takes the source back to what is committed.
async fn undo(
    open: Option<Arc<dyn Transaction>>,
    source: &mut dyn Source,
    revoking: Option<Revoking>,
) -> Result<(), PipelineError> {
    if let Some(transaction) = open {
        transaction.abort().await.map_err(failed)?;
    }
    let in_source = |error: SourceError| PipelineError::stage(Stage::Source, "source", error.into());
    if let Some(revoking) = revoking {
        source.release(&revoking.lanes).await.map_err(in_source)?;
    }
    source.rewind().await.map_err(in_source)
}

/// An abort that takes longer has waited for a far side that was away.
const AWAY: Duration = Duration::from_secs(10);

/// What a far side that is there needs for an abort, however little time is left.
const LEAST: Duration = Duration::from_secs(1);

/// Waits until a task must have ended: until `by`, or for so long after an order that ends it.
async fn time_is_up(by: Option<Instant>, mut orders: watch::Receiver<Order>, under: Order, patience: Duration) {
    let begun = Instant::now();
    let by = match by {
        Some(by) => by,
        None => {
            // Whoever gives orders outlives the task.
            let _ = orders.wait_for(|order| under.is_over(*order)).await;
            Instant::now() + patience
        }
    };
    sleep_until(by.max(begun + LEAST).into()).await;
}
