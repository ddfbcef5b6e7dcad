//! One task: a source, the chain, the routes, and the loop that moves rows between them.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::board::{Board, TaskMetrics};
use super::chain::Chain;
use super::exactly_once::ExactlyOnce;
use super::order::{Order, Target};
use super::outlet::{Duty, Finished, Outlet};
use super::retry::{Failure, Retry};
use super::tracker::{BatchId, Tracker};
use super::{Delivery, PipelineError, PipelineOptions, Shared, TaskContext, TaskStages};
use crate::batch::{Batch, Lane, RawBatch};
use crate::error::{Class, Stage};
use crate::source::{Demand, Farewell, Source, SourceEvent};
use crate::state::StateStore;

/// Rows between two steps of the task.
#[expect(clippy::large_enum_variant, reason = "moved once a batch")]
pub(super) enum Work {
    /// Received messages, to go through the chain.
    Chain(BatchId, Arc<RawBatch>),
    /// Rows that came out of it, to be encoded for one outlet.
    Encode(BatchId, Batch, usize),
}

/// A hand-back of lanes that has begun.
pub(super) struct Revoking {
    pub lanes: Vec<Lane>,
    deadline: Instant,
}

pub(super) struct Task {
    pub context: TaskContext,
    pub options: PipelineOptions,
    pub source: Box<dyn Source>,
    pub chain: Chain,
    pub outlets: Vec<Outlet>,
    pub tracker: Tracker,
    pub work: VecDeque<Work>,
    /// The pause of the step at the head of `work` after it failed.
    pub work_retry: Option<(Retry, Instant)>,
    pub writes: FuturesUnordered<BoxFuture<'static, Finished>>,
    poll_retry: Option<(Retry, Instant)>,
    pub partitions: HashMap<Lane, Arc<str>>,
    pub revoking: Option<Revoking>,
    /// Its transactions, if what it writes is committed in some.
    pub exactly_once: Option<ExactlyOnce>,
    state: Option<Arc<dyn StateStore>>,
    next_snapshot: Instant,
    next_offsets: Instant,
    pub has_ended: bool,
    /// What it was told when it began.
    pub order: Order,
    is_paused: bool,
    /// It takes leave of the far side, and what the source said to that.
    farewell: Option<Farewell>,
    pub stop_by: Option<Instant>,
    /// How many sinks, from the first on, were opened.
    n_opened: usize,
    pub metrics: TaskMetrics,
    board: Arc<Board>,
}

/// How the life of a task's stages ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lived {
    /// Everything in flight was done.
    pub is_drained: bool,
    /// The source has nothing more.
    pub has_ended: bool,
    /// It took leave of the far side.
    pub has_left: bool,
}

/// How often the offsets are shown.
const SHOW_OFFSETS: Duration = Duration::from_secs(1);

/// How much work may wait in front of the chain: one batch to work on and one to overlap with.
const MAX_WAITING: usize = 2;

impl Task {
    pub fn new(
        context: TaskContext,
        options: PipelineOptions,
        stages: TaskStages,
        state: Option<Arc<dyn StateStore>>,
        board: Arc<Board>,
    ) -> Self {
        // A task that is started again shares nothing with the run before.
        let context = TaskContext { shared: Shared::default(), ..context };
        context.notices.clear_all();
        let metrics = &context.metrics;
        let mut outlets: Vec<Outlet> = Vec::new();
        for route in stages.routes {
            let duty = if route.required { Duty::Required } else { Duty::BestEffort };
            let mut outlet = Outlet::new(route.name.into(), route.when, route.encoder, route.sink, duty, metrics);
            outlet.is_shadow = route.shadow;
            outlets.push(outlet);
        }
        if let Some(sink) = stages.dead_letter {
            outlets.push(Outlet::new("dead_letter".into(), None, None, sink, Duty::DeadLetter, metrics));
        }
        let preprocessors = stages.preprocessors.into_iter().map(|(name, stage)| (name.into(), stage)).collect();
        Self {
            metrics: TaskMetrics::new(metrics),
            source: stages.source,
            chain: Chain {
                decoder: stages.decoder,
                max_headers: options.max_headers,
                preprocessors,
                scorer: stages.scorer,
            },
            outlets,
            tracker: match options.delivery {
                Delivery::AtLeastOnce => Tracker::default(),
                Delivery::ExactlyOnce => Tracker::exactly_once(),
            },
            work: VecDeque::new(),
            work_retry: None,
            writes: FuturesUnordered::new(),
            poll_retry: None,
            partitions: HashMap::new(),
            revoking: None,
            exactly_once: None,
            state,
            next_snapshot: Instant::now() + options.state_interval,
            next_offsets: Instant::now(),
            has_ended: false,
            order: Order::default(),
            is_paused: false,
            farewell: None,
            stop_by: None,
            n_opened: 0,
            context,
            options,
            board,
        }
    }

    /// Opens every stage, sinks first and the source last, so that nothing is received before it can be delivered. Who does not
    /// wait for its good end [gives up](Self::give_up).
    pub async fn open(&mut self) -> Result<(), PipelineError> {
        let context = &self.context;
        let outside = TaskContext { delivery: Delivery::AtLeastOnce, ..context.clone() };
        for outlet in &mut self.outlets {
            let failed = |error| PipelineError::stage(Stage::Sink, &outlet.name, error);
            let told = if outlet.duty == Duty::BestEffort { &outside } else { context };
            outlet.sink.open(told).await.map_err(|error| failed(error.into()))?;
            self.n_opened += 1;
            if let Some(encoder) = &mut outlet.encoder {
                let opened = encoder.open(context).await;
                opened.map_err(|error| PipelineError::stage(Stage::Encode, &outlet.name, error.into()))?;
            }
        }
        if let Some(scorer) = &mut self.chain.scorer {
            let opened = scorer.open(context).await;
            opened.map_err(|error| PipelineError::stage(Stage::Score, "score", error.into()))?;
        }
        for (name, preprocessor) in &mut self.chain.preprocessors {
            let opened = preprocessor.open(context).await;
            opened.map_err(|error| PipelineError::stage(Stage::Preprocess, name, error.into()))?;
        }
        let opened = self.chain.decoder.open(context).await;
        opened.map_err(|error| PipelineError::stage(Stage::Decode, "decode", error.into()))?;
        self.open_transaction().await?;
        self.check_transaction()?;
        let opened = self.source.open(&self.context).await;
        opened.map_err(|error| PipelineError::stage(Stage::Source, "source", error.into()))
    }

    /// Closes what was opened of a task that is not going to run.
    pub async fn give_up(&self) {
        // Why it does not run is what to report; what a sink says of its end would hide that.
        let _ = self.close_sinks(self.n_opened).await;
    }

    /// Runs until the source ends, an order ends it that differs from the one it begins `under`, or a stage fails; then closes
    /// every stage in any case.
    pub async fn run(&mut self, mut orders: watch::Receiver<Order>, under: Order) -> Result<Lived, PipelineError> {
        self.order = under;
        let ran = self.turn_until_done(&mut orders).await;
        if self.exactly_once.is_some() {
            self.end_transaction().await;
        } else if ran.is_err() {
            self.let_writes_end().await;
        }
        let is_doomed = self.exactly_once.as_ref().is_some_and(ExactlyOnce::is_doomed);
        let is_drained = self.tracker.audit().in_flight == 0 && !is_doomed;
        let has_left = self.farewell.is_some();
        let lived = Lived { is_drained, has_ended: self.has_ended, has_left };
        self.board.show_offsets(self.source.acknowledged());
        let closed = self.close().await;
        self.show(Instant::now());
        ran.and(closed)?;
        if self.farewell == Some(Farewell::UntilEnd) && !(lived.is_drained && lived.has_ended) {
            return Err(PipelineError::Stayed(self.tracker.n_rows()));
        }
        Ok(lived)
    }

    async fn turn_until_done(&mut self, orders: &mut watch::Receiver<Order>) -> Result<(), PipelineError> {
        let order = *orders.borrow_and_update();
        self.obey(order).await?;
        loop {
            let mut now = Instant::now();
            if self.work_retry.as_ref().is_none_or(|(_, at)| *at <= now)
                && let Some(work) = self.work.pop_front()
            {
                self.step(work, now).await?;
                now = Instant::now();
            }
            self.start_writes(now).await?;
            while let Some(Some(finished)) = self.writes.next().now_or_never() {
                self.finish(finished)?;
                self.start_writes(now).await?;
            }
            self.acknowledge()?;
            self.end_revoking(now).await?;
            self.turn_transaction(now, orders).await?;
            self.snapshot_when_due(now)?;
            self.show(now);
            if self.is_done(now) {
                return Ok(());
            }
            let can_step = !self.work.is_empty() && self.work_retry.as_ref().is_none_or(|(_, at)| *at <= now);
            if can_step && self.work.len() >= MAX_WAITING {
                continue;
            }
            let demand = self.demand(now);
            let wake = if can_step { now } else { self.wakes_at(now) };
            let may_poll = !self.has_ended && self.poll_retry.as_ref().is_none_or(|(_, at)| *at <= now);
            tokio::select! {
                biased;
                Some(finished) = self.writes.next(), if !self.writes.is_empty() => self.finish(finished)?,
                result = ExactlyOnce::committed(&mut self.exactly_once) => self.end_commit(result)?,
                event = self.source.poll(demand), if may_poll => self.take(event)?,
                // Whoever gives orders outlives the task.
                Ok(()) = orders.changed() => {
                    let order = *orders.borrow_and_update();
                    self.obey(order).await?;
                }
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    pub(super) async fn obey(&mut self, order: Order) -> Result<(), PipelineError> {
        self.is_paused = order.target == Target::Paused;
        self.board.pause(self.is_paused);
        if self.stop_by.is_none() && self.order.is_over(order) {
            self.stop_by = Some(Instant::now() + self.options.drain_timeout);
        }
        if order.leaves && self.farewell.is_none() {
            let said = self.source.leave().await;
            let said = said.map_err(|error| PipelineError::stage(Stage::Source, "source", error.into()))?;
            self.farewell = Some(said);
        }
        Ok(())
    }

    /// Whether the source still yields what the far side had assigned to it before it took leave.
    fn is_clearing(&self) -> bool {
        self.farewell == Some(Farewell::UntilEnd) && !self.has_ended
    }

    fn demand(&self, now: Instant) -> Demand {
        let has_room = self.tracker.n_bytes() < self.options.max_in_flight_bytes
            && self.tracker.n_rows() < self.options.max_in_flight_rows
            && self.work.len() < MAX_WAITING;
        let is_closing = (self.is_paused || self.stop_by.is_some()) && !self.is_clearing();
        let is_committing = self.exactly_once.as_ref().is_some_and(|it| it.is_pausing(now));
        let is_open = !is_closing && !is_committing && self.revoking.is_none();
        if has_room && is_open { Demand::Batches } else { Demand::EventsOnly }
    }

    /// The earliest time at which something must be looked at without an event.
    fn wakes_at(&self, now: Instant) -> Instant {
        let mut wakes = vec![now + Duration::from_secs(1), self.next_snapshot];
        wakes.extend(self.work_retry.as_ref().map(|(_, at)| *at));
        wakes.extend(self.poll_retry.as_ref().map(|(_, at)| *at));
        wakes.extend(self.revoking.as_ref().map(|revoking| revoking.deadline));
        wakes.extend(self.stop_by);
        wakes.extend(self.outlets.iter().filter_map(Outlet::wakes_at));
        wakes.extend(self.exactly_once.as_ref().and_then(|it| it.wakes_at(self.tracker.audit().in_flight)));
        wakes.into_iter().filter(|at| *at > now).min().unwrap_or(now)
    }

    fn is_done(&self, now: Instant) -> bool {
        let is_committed = self.exactly_once.as_ref().is_none_or(ExactlyOnce::is_idle);
        let is_empty = self.tracker.audit().in_flight == 0
            && is_committed
            && self.work.is_empty()
            && self.outlets.iter().all(Outlet::is_idle);
        let is_late = self.stop_by.is_some_and(|by| now >= by);
        (self.has_ended || self.stop_by.is_some() && !self.is_clearing()) && is_empty || is_late
    }

    fn take(&mut self, event: Result<SourceEvent, crate::source::SourceError>) -> Result<(), PipelineError> {
        let now = Instant::now();
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                let class = error.class();
                let failure = PipelineError::stage(Stage::Source, "source", error.into());
                if class != Class::Retryable {
                    return Err(failure);
                }
                tracing::warn!(error = failure.report(), "the source failed and is tried again");
                let (mut retry, _) = self.poll_retry.take().unwrap_or_else(|| (Retry::new(&self.options, now), now));
                let at = retry.next(now).ok_or(failure)?;
                self.poll_retry = Some((retry, at));
                return Ok(());
            }
        };
        self.poll_retry = None;
        match event {
            SourceEvent::Assigned(lanes) => {
                // A stage that keeps state by partition must know each lane's before its first row.
                self.chain.stateful().into_iter().for_each(|(_, stage)| stage.assigned(&lanes));
                for info in lanes {
                    self.tracker.assign(info.lane);
                    self.restore(&info.partition)?;
                    self.partitions.insert(info.lane, info.partition);
                }
            }
            SourceEvent::Batch(raw) => {
                let raw = Arc::new(raw);
                let id = self.tracker.receive(raw.clone(), now).map_err(|what| {
                    let message = format!("the source broke its contract: {what}");
                    PipelineError::stage(Stage::Source, "source", message.into())
                })?;
                self.work.push_back(Work::Chain(id, raw));
                // What the far side still has for us may be much; it is done as long as it moves.
                if self.is_clearing() {
                    self.stop_by = Some(now + self.options.drain_timeout);
                }
            }
            SourceEvent::Idle => {}
            SourceEvent::Revoking { lanes, deadline } => {
                self.revoking = Some(Revoking { lanes, deadline: now + deadline });
            }
            SourceEvent::Lost { lanes, reason } => {
                // Whether their messages come again, the source's reason says.
                tracing::warn!(lanes = lanes.len(), reason, "lanes are lost, and positions in them are void");
                // Lanes that it does not know were voided by a rewind.
                if self.tracker.audit().in_flight > 0
                    && lanes.iter().any(|lane| self.partitions.contains_key(lane))
                    && let Some(exactly_once) = &mut self.exactly_once
                {
                    let lost = format!("partitions were lost: {reason}");
                    exactly_once.doom(PipelineError::stage(Stage::Source, "source", lost.into()));
                }
                for lane in lanes {
                    self.tracker.drop_lane(lane);
                    if let Some(partition) = self.partitions.remove(&lane) {
                        self.forget(&partition);
                    }
                }
            }
            SourceEvent::End => self.has_ended = true,
        }
        Ok(())
    }

    /// Does one step; a failure that may pass puts it back and pauses.
    async fn step(&mut self, work: Work, now: Instant) -> Result<(), PipelineError> {
        match self.try_step(work).await {
            Ok(()) => {
                self.work_retry = None;
                Ok(())
            }
            Err((_, Failure::Task(error))) => Err(error),
            Err((work, Failure::Retryable(error))) => {
                tracing::warn!(error = error.report(), "a step failed and is tried again");
                let (mut retry, _) = self.work_retry.take().unwrap_or_else(|| (Retry::new(&self.options, now), now));
                let at = retry.next(Instant::now()).ok_or(error)?;
                self.work_retry = Some((retry, at));
                self.work.push_front(work);
                Ok(())
            }
        }
    }

    /// Begins all writes that may begin. Each is polled at once, because that fixes its place at the far side.
    async fn start_writes(&mut self, now: Instant) -> Result<(), PipelineError> {
        for outlet in 0..self.outlets.len() {
            let is_transactional = self.outlets[outlet].is_transactional;
            let cut = self.exactly_once.as_ref().and_then(ExactlyOnce::cut).filter(|_| is_transactional);
            while let Some(next) = self.outlets[outlet].next(now, cut) {
                if is_transactional && !self.begin_transaction().await? {
                    break;
                }
                let Some(mut write) = self.outlets[outlet].write(outlet, next, now) else { break };
                match poll_fn(|context| Poll::Ready(write.as_mut().poll(context))).await {
                    Poll::Ready(finished) => self.finish(finished)?,
                    Poll::Pending => self.writes.push(write),
                }
            }
        }
        Ok(())
    }

    /// Acknowledges the prefixes that have become durable, where that does not wait for a commit.
    fn acknowledge(&mut self) -> Result<(), PipelineError> {
        if self.exactly_once.is_some() {
            return Ok(());
        }
        let acks = self.tracker.take_acks();
        if acks.is_empty() {
            return Ok(());
        }
        let acked = self.source.ack(&acks);
        acked.map_err(|error| PipelineError::stage(Stage::Source, "source", error.into()))
    }

    async fn end_revoking(&mut self, now: Instant) -> Result<(), PipelineError> {
        let Some(revoking) = &self.revoking else { return Ok(()) };
        let is_late = now >= revoking.deadline;
        let is_drained = match &mut self.exactly_once {
            None => self.tracker.is_drained(&revoking.lanes) || is_late,
            Some(exactly_once) => {
                let is_committed = self.tracker.is_committed(&revoking.lanes);
                if is_late && !is_committed {
                    let late = "partitions were to be handed back before what was read of them could be committed";
                    exactly_once.doom(PipelineError::stage(Stage::Source, "source", late.into()));
                }
                is_committed
            }
        };
        let Some(revoking) = self.revoking.take_if(|_| is_drained) else { return Ok(()) };
        for lane in &revoking.lanes {
            self.tracker.drop_lane(*lane);
            if let Some(partition) = self.partitions.remove(lane) {
                self.snapshot(&partition)?;
                self.forget(&partition);
            }
        }
        let released = self.source.release(&revoking.lanes).await;
        released.map_err(|error| PipelineError::stage(Stage::Source, "source", error.into()))
    }

    /// After a failure: what is being written may still become durable, and need not be redelivered then.
    async fn let_writes_end(&mut self) {
        let deadline = Instant::now() + self.options.drain_timeout;
        let end = async {
            while let Some(finished) = self.writes.next().await {
                // The first error is the one to report; a later one only leaves its rows unacknowledged.
                let _ = self.finish(finished);
            }
        };
        let _ = tokio::time::timeout_at(deadline.into(), end).await;
        let _ = self.acknowledge();
    }

    async fn close(&mut self) -> Result<(), PipelineError> {
        let partitions: Vec<_> = self.partitions.values().cloned().collect();
        let kept = partitions.iter().try_for_each(|partition| self.snapshot(partition));
        let source = match tokio::time::timeout(self.patience(), self.source.close()).await {
            Ok(closed) => closed.map_err(|error| PipelineError::stage(Stage::Source, "source", error.into())),
            // Whoever takes leave has not, then.
            Err(_) if self.farewell.is_some() => Err(late(Stage::Source)),
            Err(_) => {
                let patience = self.patience();
                tracing::warn!(?patience, "the source did not close in time; what is not acknowledged comes again");
                Ok(())
            }
        };
        let sinks = self.close_sinks(self.outlets.len()).await;
        kept.and(source).and(sinks)
    }

    /// Closes the first `n` sinks, whatever becomes of one of them.
    async fn close_sinks(&self, n: usize) -> Result<(), PipelineError> {
        let mut sinks = Ok(());
        for outlet in &self.outlets[..n] {
            let closed = match tokio::time::timeout(self.patience(), outlet.sink.close()).await {
                Ok(closed) => closed.map_err(|error| PipelineError::stage(Stage::Sink, &outlet.name, error.into())),
                Err(_) => Err(late(Stage::Sink)),
            };
            sinks = sinks.and(closed);
        }
        sinks
    }

    /// How long a stage may take to close.
    fn patience(&self) -> Duration {
        self.options.drain_timeout.max(Duration::from_secs(1))
    }

    fn snapshot_when_due(&mut self, now: Instant) -> Result<(), PipelineError> {
        if now < self.next_snapshot {
            return Ok(());
        }
        self.next_snapshot = now + self.options.state_interval;
        let partitions: Vec<_> = self.partitions.values().cloned().collect();
        partitions.iter().try_for_each(|partition| self.snapshot(partition))
    }

    fn snapshot(&mut self, partition: &str) -> Result<(), PipelineError> {
        let Some(store) = &self.state else { return Ok(()) };
        for (name, stage) in self.chain.stateful() {
            if let Some(snapshot) = stage.snapshot(partition)? {
                store.put(&name, partition, &snapshot)?;
            }
        }
        Ok(())
    }

    fn restore(&mut self, partition: &str) -> Result<(), PipelineError> {
        let Some(store) = &self.state else { return Ok(()) };
        for (name, stage) in self.chain.stateful() {
            if let Some(snapshot) = store.get(&name, partition)? {
                stage.restore(partition, &snapshot)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, partition: &str) {
        for (_, stage) in self.chain.stateful() {
            stage.forget(partition);
        }
    }

    pub(super) fn show(&mut self, now: Instant) {
        let audit = self.tracker.audit();
        self.metrics.update(audit, self.tracker.n_bytes());
        let ending = self.exactly_once.as_ref().and_then(ExactlyOnce::ending_since);
        let oldest = self.tracker.oldest().into_iter().chain(ending).min();
        self.board.update(audit, oldest, self.partitions.len());
        if now >= self.next_offsets {
            self.next_offsets = now + SHOW_OFFSETS;
            self.board.show_offsets(self.source.acknowledged());
        }
    }
}

fn late(stage: Stage) -> PipelineError {
    PipelineError::stage(stage, stage.as_str(), "it did not close in time".into())
}
