//! Taking over partitions, and handing them back in good order.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use iotml_core::batch::Lane;
use iotml_core::source::{SourceError, SourceEvent};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::begin::begin;
use super::context::{Rebalance, assign, unassign};
use super::fetch::Fetcher;

/// How long to wait for one answer of a broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries of a commit.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a group that rebalances is asked to take a commit, about a second if it answers at once. Counted and not timed, so
/// that a broker or a machine under load is asked as often as an idle one.
const TRIES: usize = 20;

/// How long after the pipeline's deadline its answer is still waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Partitions that the pipeline drains before they go.
#[derive(Debug)]
pub(super) struct Leaving {
    list: TopicPartitionList,
    lanes: Vec<Lane>,
    deadline: Instant,
}

impl Fetcher {
    pub(super) fn serve_rebalances(&mut self) {
        self.serve_leaving();
        if self.leaving.is_some() {
            return;
        }
        if let Some((list, at)) = self.deferred.take() {
            if Instant::now() < at {
                self.deferred = Some((list, at));
                return;
            }
            self.take_over(list);
        }
        while self.leaving.is_none() && self.deferred.is_none() {
            match self.consumer.context().next_rebalance() {
                None => return,
                Some(Rebalance::Assign(list)) => self.take_over(list),
                Some(Rebalance::Revoke { list, lost }) => self.hand_back(list, lost),
            }
        }
    }

    fn take_over(&mut self, list: TopicPartitionList) {
        let config = &self.settings.config;
        let (list, begins) = match begin(&self.consumer, &list, (config.start, config.stop_at_end), PATIENCE) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("the offsets to begin at cannot be looked up yet: {error}");
                let message = "the committed offsets cannot be looked up";
                self.shared.handover.event(Err(SourceError::retryable_from(message, error)));
                self.deferred = Some((list, Instant::now() + Duration::from_secs(1)));
                return;
            }
        };
        let mut fixed = TopicPartitionList::new();
        let infos: Vec<_> = {
            let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            begins.iter().map(|begin| lanes.open(&begin.topic, begin.partition, begin.offset, begin.end)).collect()
        };
        for begin in &begins {
            self.queue.forward(&self.consumer, &begin.topic, begin.partition);
            if let (true, Some(offset)) = (begin.fix, begin.offset) {
                // Fails for offsets below zero only.
                let _ = fixed.add_partition_offset(&begin.topic, begin.partition, Offset::Offset(offset));
            }
        }
        self.metrics.assigned.inc_by(infos.len() as u64);
        tracing::debug!("{begins:?}");
        tracing::info!("took over {} partitions in group {:?}", infos.len(), self.settings.group);
        if !infos.is_empty() {
            self.shared.handover.event(Ok(SourceEvent::Assigned(infos)));
        }
        if let Err(error) = assign(&self.consumer, &list) {
            self.shared.handover.event(Err(SourceError::fatal_from("partitions cannot be taken over", error)));
        }
        if fixed.count() > 0 {
            self.fix(&fixed);
        }
        self.settled = Some(Instant::now());
    }

    /// Commits where a new group begins. A transaction may not be overtaken by it, and so does not begin before its end.
    fn fix(&mut self, begins: &TopicPartitionList) {
        let is_transactional = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).transactional;
        if !is_transactional {
            self.send_commit(begins);
        } else if let Err(error) = self.consumer.commit(begins, CommitMode::Sync) {
            let message = "where a new group begins cannot be committed";
            self.shared.handover.event(Err(SourceError::fatal_from(message, error)));
        }
    }

    fn hand_back(&mut self, list: TopicPartitionList, lost: bool) {
        self.hand_over();
        let lanes: Vec<Lane> = {
            let mut open = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let of = |(topic, partition): (String, i32)| open.of_partition(&topic, partition).map(|lane| lane.lane);
            let lanes: Vec<Lane> = list.to_topic_map().into_keys().filter_map(of).collect();
            lanes.iter().for_each(|lane| open.leave(*lane));
            lanes
        };
        self.shared.handover.discard(&lanes);
        let leaving = Leaving { list, lanes, deadline: Instant::now() + self.settings.config.revoke_timeout.0 };
        if lost {
            self.metrics.lost.inc_by(leaving.lanes.len() as u64);
            self.give_up(leaving, "the group has given the partitions to others");
        } else if leaving.lanes.is_empty() {
            self.let_go(leaving);
        } else {
            let event =
                SourceEvent::Revoking { lanes: leaving.lanes.clone(), deadline: self.settings.config.revoke_timeout.0 };
            self.shared.handover.event(Ok(event));
            self.leaving = Some(leaving);
        }
    }

    /// Ends a hand-back once the pipeline has released all lanes, or its time is over.
    fn serve_leaving(&mut self) {
        let mut released = self.shared.released.lock().unwrap_or_else(PoisonError::into_inner);
        let all = |leaving: &Leaving| {
            leaving.lanes.iter().all(|lane| released.iter().any(|request| request.lanes.contains(lane)))
        };
        match &self.leaving {
            // Nothing leaves: what was released is gone already.
            None => released.clear(),
            Some(leaving) if all(leaving) => {
                // Answered when dropped, which is after the commit.
                let _answers = std::mem::take(&mut *released);
                drop(released);
                if let Some(leaving) = self.leaving.take() {
                    self.let_go(leaving);
                }
            }
            Some(leaving) if Instant::now() >= leaving.deadline + GRACE => {
                drop(released);
                if let Some(leaving) = self.leaving.take() {
                    self.give_up(leaving, "they were not drained in time");
                }
            }
            Some(_) => {}
        }
    }

    /// Commits what is acknowledged, and lets the partitions go.
    fn let_go(&mut self, leaving: Leaving) {
        self.commit_and_wait(|lane| leaving.lanes.contains(&lane));
        self.metrics.revoked.inc_by(leaving.lanes.len() as u64);
        self.close_lanes(&leaving);
    }

    /// Voids the lanes without waiting for the pipeline.
    fn give_up(&mut self, leaving: Leaving, reason: &str) {
        if !self.consumer.assignment_lost() {
            self.commit_and_wait(|lane| leaving.lanes.contains(&lane));
        }
        tracing::warn!("{} partitions are lost: {reason}", leaving.lanes.len());
        let event = SourceEvent::Lost { lanes: leaving.lanes.clone(), reason: reason.to_owned() };
        self.shared.handover.event(Ok(event));
        self.close_lanes(&leaving);
    }

    fn close_lanes(&mut self, leaving: &Leaving) {
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in lanes.iter().filter(|open| leaving.lanes.contains(&open.lane)) {
            self.metrics.lag(&lane.topic, lane.partition, 0);
        }
        lanes.close(&leaving.lanes);
        drop(lanes);
        if let Err(error) = unassign(&self.consumer, &leaving.list) {
            tracing::debug!("partitions were gone already: {error}");
        }
    }

    /// Commits the acknowledged offsets of the lanes that `pick` picks; the answer comes later. Whether there were any.
    pub(super) fn commit(&mut self, pick: impl Fn(Lane) -> bool) -> bool {
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let offsets = lanes.take_uncommitted(pick);
        drop(lanes);
        if !offsets.is_empty() {
            tracing::debug!("committing {offsets:?}");
        }
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        for (topic, partition, offset) in offsets {
            // Fails for offsets below zero only.
            let _ = list.add_partition_offset(&topic, partition, Offset::Offset(offset));
        }
        if list.count() > 0 {
            self.send_commit(&list);
        }
        list.count() > 0
    }

    fn send_commit(&mut self, list: &TopicPartitionList) {
        self.metrics.commits.inc();
        if let Err(code) = self.commits.send(&self.consumer, list) {
            self.commit_failed(code);
        }
    }

    /// Takes note of answers to commits, waiting for the first up to `timeout`; returns the last error among them.
    pub(super) fn serve_commits(&mut self, timeout: Duration) -> Option<RDKafkaErrorCode> {
        let mut timeout = timeout;
        let mut failed = None;
        while let Some(answer) = self.commits.answer(timeout) {
            if let Err(code) = answer {
                self.commit_failed(code);
                failed = Some(code);
            }
            timeout = Duration::ZERO;
        }
        failed
    }

    /// Commits as [`Fetcher::commit`] does, and waits for success a bounded time: without a broker a commit waits for ever.
    pub(super) fn commit_and_wait(&mut self, pick: impl Fn(Lane) -> bool) {
        let begun = Instant::now();
        let mut n_refused = 0;
        while begun.elapsed() < PATIENCE {
            let sent = self.commit(&pick);
            if !sent && self.commits.n_due() == 0 {
                return;
            }
            let failed = self.serve_commits(PAUSE);
            // Keeps the membership alive; its events are carried out later.
            let poll_for = if failed.is_some() { PAUSE } else { Duration::ZERO };
            if let Some(Err(error)) = self.consumer.poll(poll_for) {
                tracing::debug!("while waiting for a commit: {error}");
            }
            let is_hopeless = match failed {
                // The group has given up this member, or goes on without waiting for it.
                Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::FencedInstanceId) => true,
                Some(RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress) => {
                    n_refused += 1;
                    n_refused == TRIES
                }
                _ => self.consumer.assignment_lost(),
            };
            if is_hopeless {
                break;
            }
        }
        tracing::warn!("offsets could not be committed before their partitions went; what they cover will come again");
    }

    pub(super) fn commit_failed(&mut self, code: RDKafkaErrorCode) {
        self.metrics.failed_commits.inc();
        tracing::warn!("a commit of offsets failed and is tried again: {code}");
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).commit_failed();
    }

    /// Leaves the group, also as a static member: a consumer that only closes stays in it for as long as its session lasts, and
    /// one that gives its subscription up does not.
    pub(super) fn leave_group(&mut self) {
        self.consumer.unsubscribe();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(Err(error)) = self.consumer.poll(PAUSE) {
                tracing::debug!("while leaving the group: {error}");
            }
            self.finish_rebalances();
            if self.consumer.assignment().is_ok_and(|assignment| assignment.count() == 0) {
                return;
            }
        }
        tracing::warn!(
            "the group did not take the partitions back in time; it misses this member when its session ends"
        );
    }

    /// Carries out what librdkafka still waits for, so that the consumer can be closed.
    pub(super) fn finish_rebalances(&mut self) {
        if let Some(leaving) = self.leaving.take() {
            self.let_go(leaving);
        }
        let deferred = self.deferred.take().map(|(list, _)| Rebalance::Assign(list));
        let mut next = deferred.or_else(|| self.consumer.context().next_rebalance());
        while let Some(rebalance) = next {
            let done = match &rebalance {
                Rebalance::Assign(list) => assign(&self.consumer, list),
                Rebalance::Revoke { list, .. } => unassign(&self.consumer, list),
            };
            if let Err(error) = done {
                tracing::debug!("a rebalance while closing failed: {error}");
            }
            next = self.consumer.context().next_rebalance();
        }
        self.shared.released.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
