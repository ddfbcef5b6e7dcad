//! The transactions of a task: one producer for all its sinks, and the offsets of its source in them.

use std::sync::{Arc, Mutex, PoisonError, Weak};
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

/// How long one call tries before it says that it may be tried again. So long an end may have to wait for one.
const TRY: Duration = Duration::from_secs(5);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a start tries, and when a commit or an abort is said to take long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all sinks of a task share that write in its transactions.
#[derive(Default)]
pub(super) struct KafkaTransaction {
    /// What the first sink asked for, with what the others need.
    asked: Mutex<Option<Asked>>,
    place: Place,
}

struct Asked {
    settings: Settings,
    id: String,
    /// The smallest batch that any of their topics takes.
    batch_bytes: usize,
}

impl KafkaTransaction {
    /// Adds a sink, whose topic takes batches of `batch_bytes`; gives it the place of its producer.
    pub fn join(&self, settings: &Settings, batch_bytes: usize, task: &TaskContext) -> Result<Place, SinkError> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *asked {
            None => {
                let id = format!("iotml-{}-{}-{}", task.pipeline, task.instance, task.task);
                *asked = Some(Asked { settings: settings.clone(), id, batch_bytes });
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

    /// Makes the calls of `work`, which block, elsewhere, until nobody waits for them any more.
    async fn blocking(
        &self,
        work: impl FnOnce(&Producing, &Wanted) -> Result<(), SinkError> + Send + 'static,
    ) -> Result<(), SinkError> {
        let place = self.place.clone();
        // Goes with this future.
        let waiting = Arc::new(());
        let wanted = Wanted(Arc::downgrade(&waiting));
        let done = tokio::task::spawn_blocking(move || match place.get() {
            Some(producing) => work(producing, &wanted),
            None => Err(SinkError::fatal("the transaction is not open")),
        });
        done.await.unwrap_or_else(|error| Err(SinkError::fatal_from("a transaction died", error)))
    }
}

#[async_trait]
impl Transaction for KafkaTransaction {
    async fn open(&self) -> Result<(), SinkError> {
        let producing = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let Asked { mut settings, id, batch_bytes } =
                asked.take().ok_or_else(|| SinkError::fatal("no sink has joined the transaction"))?;
            settings.client.set("transactional.id", id).set("batch.size", batch_bytes.to_string());
            if settings.client.get("transaction.timeout.ms").is_none() {
                settings.client.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
            }
            Producing::new(&settings.client)?
        };
        self.place.set(producing).map_err(|_| SinkError::fatal("the transaction is opened twice"))?;
        let init = |producing: &Producing, wanted: &Wanted| {
            // There is no transaction yet that could be aborted, so what cannot be tried again is final.
            let init = || {
                let error = producing.producer.init_transactions(TRY).err().map(CallError::from);
                error.map_or(Ok(()), |it| Err(CallError { is_fatal: it.is_fatal || !it.is_retriable, ..it }))
            };
            persist("the transactions cannot be made ready", (wanted, Some(PATIENCE)), init)
        };
        self.blocking(init).await
    }

    async fn begin(&self) -> Result<(), SinkError> {
        let producing = self.place.get().ok_or_else(|| SinkError::fatal("the transaction is not open"))?;
        // Only notes it, so it may be called here.
        producing.producer.begin_transaction().map_err(|error| judged("a transaction cannot be begun", error.into()))
    }

    async fn commit(&self, offsets: SourceOffsets) -> Result<(), SinkError> {
        self.blocking(move |producing, wanted| {
            if !offsets.next.is_empty() {
                let mut list = TopicPartitionList::with_capacity(offsets.next.len());
                for next in &offsets.next {
                    let added = list.add_partition_offset(&next.topic, next.partition, Offset::Offset(next.offset));
                    added.map_err(|error| SinkError::fatal_from("the source has an offset below zero", error))?;
                }
                let member = GroupMember::from_bytes(&offsets.reader)
                    .map_err(|error| SinkError::fatal_from("the source is no member of a Kafka group", error))?;
                persist("the offsets of the source cannot be committed", (wanted, None), || {
                    member.send_offsets(&producing.producer, &list, TRY)
                })?;
            }
            let commit = || Ok(producing.producer.commit_transaction(TRY)?);
            persist("a transaction cannot be committed", (wanted, None), commit)
        })
        .await
    }

    async fn abort(&self) -> Result<(), SinkError> {
        self.blocking(|producing, wanted| {
            let abort = || Ok(producing.producer.abort_transaction(TRY)?);
            persist("a transaction cannot be aborted", (wanted, None), abort)
        })
        .await
        // Nothing else can be done with this producer; a new one will end what it leaves.
        .map_err(|error| SinkError::fatal_from(error.to_string(), error))
    }
}

/// Whether somebody still waits for the outcome.
struct Wanted(Weak<()>);

impl Wanted {
    fn still(&self) -> bool {
        self.0.strong_count() > 0
    }
}

/// Calls again what may be called again, as long as it is wanted and, if there is a limit, within that. To give up a commit or an
/// abort would help nobody: while the cluster is away, nothing else can be done with the producer either.
fn persist(
    what: &str,
    (wanted, limit): (&Wanted, Option<Duration>),
    mut call: impl FnMut() -> Result<(), CallError>,
) -> Result<(), SinkError> {
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        match call() {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retriable && wanted.still() && limit.is_none_or(|limit| begun.elapsed() < limit) => {
                if begun.elapsed() >= PATIENCE && !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(%error, "{what} for {PATIENCE:?} now; it is tried until the cluster answers");
                }
                // Some errors come at once.
                std::thread::sleep(PAUSE);
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

#[cfg(test)]
mod tests {
    use iotml_core::error::Class;

    use super::*;

    fn away(n_tries: &mut u32) -> Result<(), CallError> {
        *n_tries += 1;
        Err(CallError { code: None, text: "timed out".to_owned(), is_fatal: false, is_retriable: true })
    }

    #[test]
    fn inv_9_a_commit_is_tried_as_long_as_somebody_waits_for_it_and_a_start_for_its_time() {
        let mut waiting = Some(Arc::new(()));
        let wanted = Wanted(Arc::downgrade(waiting.as_ref().unwrap()));
        let mut n_tries = 0;
        let start = persist("it fails", (&wanted, Some(Duration::ZERO)), || away(&mut n_tries));
        assert_eq!((start.unwrap_err().class(), n_tries), (Class::Retryable, 1));
        let back = persist("it fails", (&wanted, None), || match n_tries {
            10 => Ok(()),
            _ => away(&mut n_tries),
        });
        assert_eq!((back.is_ok(), n_tries), (true, 10));
        let given_up = persist("it fails", (&wanted, None), || {
            if n_tries == 20 {
                waiting = None;
            }
            away(&mut n_tries)
        });
        assert_eq!((given_up.unwrap_err().class(), n_tries), (Class::Retryable, 21));
    }
}
