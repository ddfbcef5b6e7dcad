//! The Kafka source: a thread of its own fetches batches; the pipeline takes them and acknowledges positions.

mod begin;
#[expect(unsafe_code, reason = "calls librdkafka where rdkafka has no wrapper")]
mod commits;
mod config;
mod context;
mod fetch;
mod gap;
mod handover;
mod lanes;
mod metrics;
mod rebalance;
mod rewind;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;

use async_trait::async_trait;
use iotml_core::batch::{Ack, Lane};
use iotml_core::error::ConfigError;
use iotml_core::pipeline::{Delivery, TaskContext};
use iotml_core::plugin::BuildContext;
use iotml_core::source::{Acknowledged, Demand, Farewell, Source, SourceError, SourceEvent, SourceOffsets};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::oneshot;

pub(crate) use config::is_topic_name;
pub use config::{KafkaSourceConfig, Start};

use self::config::Settings;
use self::context::FetchContext;
use self::fetch::Fetcher;
use self::handover::Handover;
use self::lanes::Lanes;
use self::metrics::SourceMetrics;
use crate::client::{ConnectError, GroupMember, reach, serve};

/// Reads topics of Kafka as a member of a consumer group.
///
/// A lane is one partition in one assignment. Offsets are committed only behind acknowledgements (invariant 1). While the
/// pipeline has no room, messages stay in librdkafka's queue, which is bounded in bytes, and the group is served all the
/// same (invariant 5). When partitions move to another member they are drained first; when the group has already given
/// them away their positions are void (invariant 3).
///
/// Closing leaves the group, so that the others have the partitions at once, except as a static member (`group.instance.id`),
/// for whom the group waits until it is back or `session.timeout.ms` has passed. One that [leaves](Source::leave) tells the group.
#[derive(Debug)]
pub struct KafkaSource {
    settings: Settings,
    shared: Arc<Shared>,
    ended: Option<oneshot::Receiver<()>>,
}

/// The consumer, owned by the fetch thread.
type FetchConsumer = BaseConsumer<FetchContext>;

/// What the pipeline's side and the fetch thread share.
struct Shared {
    handover: Handover,
    lanes: Mutex<Lanes>,
    released: Mutex<Vec<Released>>,
    /// The pipeline waits for all lanes to begin again at what is committed.
    rewind: Mutex<Option<oneshot::Sender<()>>>,
    /// For questions that only it can answer; it ends with the fetch thread.
    consumer: OnceLock<Weak<FetchConsumer>>,
    stop: AtomicBool,
    /// This member does not come back.
    leaves: AtomicBool,
    /// The fetch thread is gone, and nobody will answer.
    ended: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("handover", &self.handover).field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// Lanes that the pipeline lets go; dropping it tells the pipeline that they are gone.
#[derive(Debug)]
struct Released {
    lanes: Vec<Lane>,
    _answer: oneshot::Sender<()>,
}

impl KafkaSource {
    /// Checks the configuration; nothing is connected before [`Source::open`].
    pub fn new(config: KafkaSourceConfig, context: &BuildContext) -> Result<Self, ConfigError> {
        let settings = Settings::new(config, context)?;
        let shared = Shared {
            handover: Handover::new(settings.config.prefetch.0),
            lanes: Mutex::default(),
            released: Mutex::default(),
            rewind: Mutex::default(),
            consumer: OnceLock::new(),
            stop: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        };
        Ok(Self { settings, shared: Arc::new(shared), ended: None })
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn open(&mut self, task: &TaskContext) -> Result<(), SourceError> {
        let (opened, open) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let (settings, shared) = (self.settings.clone(), self.shared.clone());
        self.lanes().transactional = task.delivery == Delivery::ExactlyOnce;
        let metrics = SourceMetrics::new(&task.metrics);
        let work = move || {
            let _ending = ending;
            let _alarm = Alarm(shared.clone());
            match connect(&settings) {
                Err(error) => drop(opened.send(Err(error))),
                Ok(consumer) => {
                    let consumer = Arc::new(consumer);
                    // Set once, because a source is opened once.
                    let _ = shared.consumer.set(Arc::downgrade(&consumer));
                    let fetcher = Fetcher::new(consumer, settings, shared, metrics);
                    if opened.send(Ok(())).is_ok() {
                        fetcher.run();
                    }
                }
            }
        };
        let name = format!("kafka-source-{}", task.task);
        let spawned = thread::Builder::new().name(name).spawn(work);
        spawned.map_err(|error| SourceError::fatal_from("no thread can be started", error))?;
        self.ended = Some(ended);
        open.await.unwrap_or_else(|_| Err(SourceError::fatal("the fetch thread died while it connected")))
    }

    async fn poll(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        self.shared.handover.next(demand).await
    }

    fn ack(&mut self, acks: &[Ack]) -> Result<(), SourceError> {
        self.lanes().ack(acks);
        Ok(())
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn offsets(&mut self, acks: &[Ack]) -> Result<SourceOffsets, SourceError> {
        let consumer = self.shared.consumer.get().and_then(Weak::upgrade);
        let consumer = consumer.ok_or_else(|| SourceError::fatal("the source is closed"))?;
        // Before the lanes are looked at: while a lane is open its partition is ours, or the member's generation is an old one,
        // which the group refuses. The other way round, a new membership might vouch for what was read in the old one.
        let member = GroupMember::of(&consumer);
        drop(consumer);
        let next = self.lanes().offsets(acks);
        let (Some(member), Some(next)) = (member, next) else {
            return Err(SourceError::retryable("partitions are gone, and what was read of them cannot be committed"));
        };
        let reader = member.to_bytes().map_err(|error| SourceError::fatal_from(error.to_string(), error))?;
        Ok(SourceOffsets { next, reader })
    }

    async fn rewind(&mut self) -> Result<(), SourceError> {
        let (answer, answered) = oneshot::channel();
        *self.shared.rewind.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        if self.shared.ended.load(Ordering::Acquire) {
            return Ok(());
        }
        // Dropped without an answer when the thread has ended, whose last words come by `poll`.
        let _ = answered.await;
        Ok(())
    }

    async fn release(&mut self, lanes: &[Lane]) -> Result<(), SourceError> {
        let (answer, answered) = oneshot::channel();
        let released = Released { lanes: lanes.to_vec(), _answer: answer };
        {
            let mut waiting = self.shared.released.lock().unwrap_or_else(PoisonError::into_inner);
            if self.shared.ended.load(Ordering::Acquire) {
                return Ok(());
            }
            waiting.push(released);
        }
        // Either way the lanes are gone; the answer is never sent, only dropped.
        let _ = answered.await;
        Ok(())
    }

    fn acknowledged(&self) -> Vec<Acknowledged> {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner).acknowledged()
    }

    async fn leave(&mut self) -> Result<Farewell, SourceError> {
        self.shared.leaves.store(true, Ordering::Release);
        Ok(Farewell::Now)
    }

    async fn close(&mut self) -> Result<(), SourceError> {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
        Ok(())
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// Tells the pipeline when the fetch thread dies of a defect, instead of leaving it waiting.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.handover.event(Err(SourceError::fatal("the fetch thread died")));
        }
        let mut waiting = self.0.released.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.ended.store(true, Ordering::Release);
        waiting.clear();
        self.0.rewind.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn connect(settings: &Settings) -> Result<FetchConsumer, SourceError> {
    let consumer: FetchConsumer = settings
        .client
        .create_with_context(FetchContext::default())
        .map_err(|error| SourceError::fatal_from("the Kafka consumer cannot be made", error))?;
    let patience = settings.config.connect_timeout.0;
    let names = if settings.config.topics_regex.is_some() { &[] } else { settings.subscription.as_slice() };
    let serve = || serve(&consumer);
    let ask = |topic: Option<&str>| {
        reach(consumer.client(), &consumer.context().reports, serve, (&settings.config.kafka, topic, patience))
    };
    let refuse = |error: ConnectError| match error {
        ConnectError::Unreachable { .. } => SourceError::retryable_from(error.to_string(), error),
        ConnectError::Refused { .. } => SourceError::fatal_from(error.to_string(), error),
    };
    if names.is_empty() {
        ask(None).map_err(refuse)?;
    }
    for name in names {
        let metadata = ask(Some(name)).map_err(refuse)?;
        if let Some(code) = metadata.topics().iter().find_map(|topic| topic.error()) {
            let code = rdkafka::types::RDKafkaErrorCode::from(code);
            let message = match code {
                rdkafka::types::RDKafkaErrorCode::UnknownTopicOrPartition => {
                    format!("topic {name:?} does not exist at {:?}; create it first", settings.servers)
                }
                code => format!("topic {name:?} at {:?} cannot be read: {code}", settings.servers),
            };
            return Err(SourceError::fatal_from(message, code));
        }
    }
    let subscription: Vec<&str> = settings.subscription.iter().map(String::as_str).collect();
    consumer.subscribe(&subscription).map_err(|error| {
        SourceError::fatal_from(format!("{:?} cannot be subscribed to", settings.subscription.join(", ")), error)
    })?;
    Ok(consumer)
}
