//! The transactions of a task: one producer for all its sinks, and the offsets of its source in them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use iotml_core::pipeline::TaskContext;
use iotml_core::sink::{SinkError, Transaction};
use iotml_core::source::SourceOffsets;
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::config::Settings;
use super::producer::{Place, Producing};
use crate::client::{CallError, GroupMember};

/// After this a cluster ends a transaction by itself. Until then readers of committed rows wait behind what a task that died
/// has left, and so does whoever takes over its partitions. As in Kafka Streams.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one call tries before it says that it may be tried again.
const TRY: Duration = Duration::from_secs(5);

/// What all sinks of a task share that write in its transactions.
#[derive(Default)]
pub(super) struct KafkaTransaction {
    /// What the first sink asked for, with what the others need.
    wanted: Mutex<Option<Wanted>>,
    place: Place,
}

struct Wanted {
    settings: Settings,
    id: String,
    /// The smallest batch that any of their topics takes.
    batch_bytes: usize,
}

impl KafkaTransaction {
    /// Adds a sink, whose topic takes batches of `batch_bytes`; gives it the place of its producer.
    pub fn join(&self, settings: &Settings, batch_bytes: usize, task: &TaskContext) -> Result<Place, SinkError> {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *wanted {
            None => {
                let id = format!("iotml-{}-{}-{}", task.pipeline, task.instance, task.task);
                *wanted = Some(Wanted { settings: settings.clone(), id, batch_bytes });
            }
            Some(first) if first.settings.config.kafka != settings.config.kafka => {
                return Err(SinkError::fatal(
                    "with exactly_once all sinks share one producer, so their tables of Kafka properties must be the same",
                ));
            }
            Some(first) => first.batch_bytes = first.batch_bytes.min(batch_bytes),
        }
        Ok(self.place.clone())
    }

    /// Makes the calls of `work`, which block, elsewhere.
    async fn blocking(
        &self,
        work: impl FnOnce(&Producing) -> Result<(), SinkError> + Send + 'static,
    ) -> Result<(), SinkError> {
        let place = self.place.clone();
        let done = tokio::task::spawn_blocking(move || match place.get() {
            Some(producing) => work(producing),
            None => Err(SinkError::fatal("the transaction is not open")),
        });
        done.await.unwrap_or_else(|error| Err(SinkError::fatal_from("a transaction died", error)))
    }
}

#[async_trait]
impl Transaction for KafkaTransaction {
    async fn open(&self) -> Result<(), SinkError> {
        let producing = {
            let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let Wanted { mut settings, id, batch_bytes } =
                wanted.take().ok_or_else(|| SinkError::fatal("no sink has joined the transaction"))?;
            settings.client.set("transactional.id", id).set("batch.size", batch_bytes.to_string());
            if settings.client.get("transaction.timeout.ms").is_none() {
                settings.client.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
            }
            Producing::new(&settings.client)?
        };
        self.place.set(producing).map_err(|_| SinkError::fatal("the transaction is opened twice"))?;
        let init = |producing: &Producing| {
            persist("the transactions cannot be made ready", || Ok(producing.producer.init_transactions(TRY)?))
        };
        self.blocking(init).await.map_err(|error| SinkError::fatal_from(error.to_string(), error))
    }

    async fn begin(&self) -> Result<(), SinkError> {
        let producing = self.place.get().ok_or_else(|| SinkError::fatal("the transaction is not open"))?;
        // Only notes it, so it may be called here.
        producing.producer.begin_transaction().map_err(|error| judged("a transaction cannot be begun", error.into()))
    }

    async fn commit(&self, offsets: SourceOffsets) -> Result<(), SinkError> {
        self.blocking(move |producing| {
            if !offsets.next.is_empty() {
                let mut list = TopicPartitionList::with_capacity(offsets.next.len());
                for next in &offsets.next {
                    let added = list.add_partition_offset(&next.topic, next.partition, Offset::Offset(next.offset));
                    added.map_err(|error| SinkError::fatal_from("the source has an offset below zero", error))?;
                }
                let member = GroupMember::from_bytes(&offsets.reader)
                    .map_err(|error| SinkError::fatal_from("the source is no member of a Kafka group", error))?;
                persist("the offsets of the source cannot be committed", || {
                    member.send_offsets(&producing.producer, &list, TRY)
                })?;
            }
            persist("a transaction cannot be committed", || Ok(producing.producer.commit_transaction(TRY)?))
        })
        .await
    }

    async fn abort(&self) -> Result<(), SinkError> {
        self.blocking(|producing| {
            persist("a transaction cannot be aborted", || Ok(producing.producer.abort_transaction(TRY)?))
        })
        .await
        // Nothing else can be done with this producer; a new one will end what it leaves.
        .map_err(|error| SinkError::fatal_from(error.to_string(), error))
    }
}

/// Calls again what may be called again, within the time in which a transaction must be over.
fn persist(what: &str, mut call: impl FnMut() -> Result<(), CallError>) -> Result<(), SinkError> {
    let begun = Instant::now();
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retriable && begun.elapsed() < 3 * TRANSACTION_TIMEOUT => {
                tracing::debug!("{what} yet: {error}");
            }
            Err(error) => return Err(judged(what, error)),
        }
    }
}

/// An error after which the transaction must be aborted, unless it is the producer that cannot go on.
fn judged(what: &str, error: CallError) -> SinkError {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    match error.code {
        Some(Fenced | ProducerFenced | InvalidProducerEpoch) if error.is_fatal => {
            let why = "another has taken over, or the cluster ended the transaction because it took too long; workers of \
                       one pipeline need an instance name each";
            SinkError::fatal_from(format!("{what}: {why}"), error)
        }
        _ if error.is_fatal => SinkError::fatal_from(format!("{what}: {error}"), error),
        _ => SinkError::retryable_from(format!("{what}: {error}"), error),
    }
}
