//! The Kafka sink: an idempotent producer, or a transactional one that a task's sinks share; a write is done when every row
//! of it is.

mod config;
mod create;
mod delivery;
#[expect(unsafe_code, reason = "calls librdkafka where rdkafka has no wrapper")]
mod handles;
mod produce;
mod producer;
mod topic;
mod transaction;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use iotml_core::batch::Message;
use iotml_core::error::ConfigError;
use iotml_core::pipeline::Delivery;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::BuildContext;
use iotml_core::sink::{Outgoing, Sink, SinkError, Transaction, Written};
use rdkafka::producer::{Producer, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode;

pub use config::{KafkaSinkConfig, TopicCreation};

use self::config::Settings;
use self::create::{Limits, Topics};
use self::produce::Open;
use self::producer::{Place, Producing};
use self::topic::TopicRule;
use self::transaction::KafkaTransaction;
use crate::client::{ConnectError, reach};
use crate::source::KafkaSourceConfig;

/// Writes rows to Kafka: payload, key, time and headers as they are, tombstones included.
///
/// A write resolves when all in-sync replicas have every row of it (`acks=all`), and retries by librdkafka neither double
/// rows nor change their order (idempotence). librdkafka tries as long as it takes: it is the pipeline that gives up, by
/// dropping the write, which may store its rows all the same.
///
/// Opened for exactly once, all Kafka sinks of a task share one transactional producer, and their rows are committed together
/// with the offsets of the task's [`KafkaSource`](crate::KafkaSource). Its `transactional.id` is
/// `iotml-<pipeline>-<instance>-<task>`: of two with the same, the younger one fences the older one off.
pub struct KafkaSink {
    settings: Settings,
    open: OnceLock<Open>,
    transaction: OnceLock<Arc<KafkaTransaction>>,
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// Checks the configuration; nothing is connected before [`Sink::open`].
    pub fn new(config: KafkaSinkConfig, context: &BuildContext) -> Result<Self, ConfigError> {
        Ok(Self { settings: Settings::new(config, context)?, open: OnceLock::new(), transaction: OnceLock::new() })
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn open(&self, task: &TaskContext) -> Result<(), SinkError> {
        let settings = &self.settings;
        let creation = settings.config.create_topics.clone();
        let topics = match (&settings.topic, &creation) {
            (TopicRule::Fixed(_), _) | (_, Some(_)) => Some(
                Topics::new(settings).map_err(|error| SinkError::fatal_from("no Kafka client can be made", error))?,
            ),
            _ => None,
        };
        let mut limits = Limits::default();
        match (&settings.topic, &topics) {
            (TopicRule::Fixed(name), Some(topics)) => {
                check(settings, creation.is_none().then_some(name)).await?;
                if let Some(how) = &creation {
                    let cannot = |error| SinkError::fatal_from(format!("topic {name:?} cannot be created"), error);
                    topics.create(name, how).await.map_err(cannot)?;
                    // Others may read it from now on, so it is there for all before this sink counts as open.
                    check(settings, Some(name)).await?;
                }
                limits = topics.limits(name).await;
            }
            _ => check(settings, None).await?,
        }
        // A broker refuses a batch as a whole, so that one made too large would take good rows with it.
        let configured = settings.client.get("batch.size").and_then(|size| size.parse().ok());
        let batch_bytes = limits.batch_bytes.unwrap_or(usize::MAX).min(configured.unwrap_or(1_000_000)).max(1);
        let producer = if task.delivery == Delivery::ExactlyOnce {
            let transaction = task.shared.get::<KafkaTransaction>();
            let place = transaction.join(settings, batch_bytes, task)?;
            self.transaction.set(transaction).map_err(|_| SinkError::fatal("the sink is opened twice"))?;
            (place, Some(limits))
        } else {
            let mut client = settings.client.clone();
            client.set("batch.size", batch_bytes.to_string());
            (Place::new(OnceLock::from(Producing::new(&client)?)), None)
        };
        let creator = creation.zip(topics);
        let open = Open::new(producer, (settings.topic.clone(), creator), &task.metrics);
        self.open.set(open).map_err(|_| SinkError::fatal("the sink is opened twice"))
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        self.transaction.get().map(|transaction| transaction.clone() as Arc<dyn Transaction>)
    }

    fn max_in_flight(&self) -> usize {
        self.settings.config.max_in_flight
    }

    fn topic<'a>(&'a self, envelope: &Message<'a>) -> Option<Cow<'a, str>> {
        self.settings.topic.topic_of(|| *envelope).ok()
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let open = self.open.get().ok_or_else(|| SinkError::fatal("the sink is not open"))?;
        open.write(&rows.messages).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        // One that never came so far has nothing to finish.
        let Some(producing) = self.open.get().and_then(|open| open.producing().ok()) else { return Ok(()) };
        let timeout = self.settings.config.close_timeout.0;
        if tokio::time::timeout(timeout, producing.drained()).await.is_ok() {
            return Ok(());
        }
        let left = producing.deliveries.n_rows();
        // Nobody waits for them any more, and the producer's end would.
        producing.producer.purge(PurgeConfig::default().queue().inflight());
        Err(SinkError::retryable(format!("{left} rows were not delivered within {timeout:?}")))
    }
}

/// Waits for a broker, and for `topic` if one is given, off the async threads.
async fn check(settings: &Settings, topic: Option<&String>) -> Result<(), SinkError> {
    let (settings, topic) = (settings.clone(), topic.cloned());
    let checked = tokio::task::spawn_blocking(move || {
        let Producing { producer, deliveries, .. } = Producing::new(&settings.client)?;
        let what = (&settings.config.kafka, topic.as_deref(), settings.config.connect_timeout.0);
        let metadata = reach(producer.client(), &deliveries.reports, || {}, what).map_err(|error| match error {
            ConnectError::Unreachable { .. } => SinkError::retryable_from(error.to_string(), error),
            ConnectError::Refused { .. } => SinkError::fatal_from(error.to_string(), error),
        })?;
        let Some(name) = topic else { return Ok(()) };
        match metadata.topics().iter().find_map(|topic| topic.error()).map(RDKafkaErrorCode::from) {
            None => Ok(()),
            Some(code @ RDKafkaErrorCode::UnknownTopicOrPartition) => {
                let servers = &settings.servers;
                let message = format!("topic {name:?} does not exist at {servers:?}; create it, or set create_topics");
                Err(SinkError::fatal_from(message, code))
            }
            Some(code) => Err(SinkError::fatal_from(format!("topic {name:?} cannot be written: {code}"), code)),
        }
    });
    checked.await.unwrap_or_else(|error| Err(SinkError::fatal_from("the check of the cluster died", error)))
}

/// Writes every row to its target, at the cluster that `source` reads.
pub(crate) fn back(source: &KafkaSourceConfig) -> KafkaSinkConfig {
    KafkaSinkConfig { kafka: source.kafka.connection(), ..KafkaSinkConfig::new("", None) }
}

/// What is written when it is written by itself, for the plug-in registry.
pub(crate) fn build(config: KafkaSinkConfig, context: &BuildContext) -> Result<Arc<dyn Sink>, ConfigError> {
    Ok(Arc::new(KafkaSink::new(config, context)?))
}
