//! Callbacks of the consumer: they only take notes, which the fetch thread acts on.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;

use crate::client::Reports;

/// A rebalance that librdkafka waits for us to carry out.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke {
        list: TopicPartitionList,
        /// The group has already given the partitions to others: nothing can be committed any more.
        lost: bool,
    },
}

#[derive(Default)]
pub(super) struct FetchContext {
    pub reports: Reports,
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// The consumer is being dropped, and nobody will act on notes.
    closing: AtomicBool,
}

impl FetchContext {
    /// The oldest rebalance that is not carried out yet.
    pub fn next_rebalance(&self) -> Option<Rebalance> {
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// From now on rebalances are carried out at once.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for FetchContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.reports.log(level, facility, text);
    }
}

impl ConsumerContext for FetchContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Relaxed) {
            let done = if assign { self::assign(consumer, list) } else { unassign(consumer, list) };
            if let Err(error) = done {
                tracing::debug!("a rebalance while closing failed: {error}");
            }
            return;
        }
        let note = if assign {
            Rebalance::Assign(list.clone())
        } else {
            Rebalance::Revoke { list: list.clone(), lost: consumer.assignment_lost() }
        };
        self.rebalances.lock().unwrap_or_else(PoisonError::into_inner).push_back(note);
    }
}

/// Begins to read `list`, by the protocol of the group.
pub(super) fn assign(consumer: &BaseConsumer<FetchContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

/// Lets go of `list`, by the protocol of the group.
pub(super) fn unassign(consumer: &BaseConsumer<FetchContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}
