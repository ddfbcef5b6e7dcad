//! A cluster to test against, and a plain client to look at its far side.

use std::sync::Arc;
use std::time::Duration;

use iotml_core::batch::{Batch, Coordinate, Lane, Message, Messages, Position, RawBatch, RawMessage};
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::BuildContext;
use iotml_core::sink::{Outgoing, Sink};
use iotml_core::source::{Demand, Source, SourceError, SourceEvent};
use iotml_core::testing::servers;
use iotml_kafka::{EmbeddedKafka, KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where a test runs.
pub struct Cluster {
    pub servers: String,
    embedded: Option<EmbeddedKafka>,
}

impl Cluster {
    /// The in-memory one.
    pub fn embedded() -> Self {
        log();
        let embedded = EmbeddedKafka::start(1).unwrap();
        Self { servers: embedded.bootstrap_servers(), embedded: Some(embedded) }
    }

    /// The real one, if there is one.
    pub fn real() -> Option<Self> {
        log();
        servers::kafka().map(|servers| Self { servers, embedded: None })
    }

    /// Both, as far as they are there.
    pub fn all() -> Vec<Self> {
        [Some(Self::embedded()), Self::real()].into_iter().flatten().collect()
    }

    /// The in-memory cluster, to make it fail.
    pub fn inner(&self) -> &EmbeddedKafka {
        self.embedded.as_ref().expect("an in-memory cluster")
    }

    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Creates a topic under a name of its own.
    pub async fn topic(&self, n_partitions: u16, config: &[(&str, &str)]) -> String {
        let name = unique("topic");
        if let Some(embedded) = &self.embedded {
            embedded.create_topic(&name, n_partitions).unwrap();
            return name;
        }
        let mut topic = NewTopic::new(&name, i32::from(n_partitions), TopicReplication::Fixed(1));
        for (key, value) in config {
            topic = topic.set(key, value);
        }
        let created = self.admin().create_topics([&topic], &AdminOptions::new()).await.unwrap();
        created.into_iter().for_each(|result| drop(result.unwrap()));
        name
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers);
        config
    }

    /// Writes messages as they are: (partition, key, payload).
    pub async fn produce(&self, topic: &str, messages: Vec<(i32, String, String)>) {
        let (mut client, topic) = (self.client(), topic.to_owned());
        blocking(move || {
            client.set("queue.buffering.max.messages", "1000000");
            // What others write may be larger than what iotml's own producers would.
            client.set("message.max.bytes", "10000000").set("compression.type", "lz4");
            let producer: ThreadedProducer<DefaultProducerContext> = client.create().unwrap();
            for (partition, key, payload) in &messages {
                let record = BaseRecord::to(&topic).partition(*partition).key(key).payload(payload);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
            producer.flush(PATIENCE).unwrap();
        })
        .await;
    }

    /// Reads `topic` from the beginning to its end, waiting until `n` messages are there; in the order of each partition.
    pub async fn read(&self, topic: &str, n: usize) -> Vec<rdkafka::message::OwnedMessage> {
        let (mut client, topic) = (self.client(), topic.to_owned());
        blocking(move || {
            client.set("group.id", unique("reader")).set("enable.auto.commit", "false");
            let consumer: BaseConsumer = client.create().unwrap();
            let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
            let mut list = TopicPartitionList::new();
            for partition in metadata.topics()[0].partitions() {
                list.add_partition_offset(&topic, partition.id(), Offset::Beginning).unwrap();
            }
            consumer.assign(&list).unwrap();
            let deadline = std::time::Instant::now() + PATIENCE;
            let mut messages = Vec::new();
            loop {
                assert!(std::time::Instant::now() < deadline, "{} of {n} messages in {topic}", messages.len());
                match consumer.poll(Duration::from_millis(100)) {
                    Some(message) => messages.push(message.unwrap().detach()),
                    None if messages.len() >= n => return messages,
                    None => {}
                }
            }
        })
        .await
    }

    /// The offset that `group` has committed for a partition.
    pub async fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let (mut client, group, topic) = (self.client(), group.to_owned(), topic.to_owned());
        blocking(move || {
            let consumer: BaseConsumer = client.set("group.id", group).create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition(&topic, partition);
            let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
            match committed.elements()[0].offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }
        })
        .await
    }

    /// A configuration that reads `topic` in `group`.
    pub fn reads(&self, topic: &str, group: &str) -> KafkaSourceConfig {
        let mut config = KafkaSourceConfig::new(&self.servers, &[topic]);
        // So that a member that leaves or goes is noticed soon.
        config.kafka =
            config.kafka.set("group.id", group).set("session.timeout.ms", 6000).set("heartbeat.interval.ms", 300);
        if let Ok(contexts) = std::env::var("IOTML_KAFKA_DEBUG") {
            config.kafka = config.kafka.set("debug", contexts);
        }
        config
    }

    /// An open source.
    pub async fn source(&self, config: KafkaSourceConfig) -> KafkaSource {
        let mut source = KafkaSource::new(config, &build_context()).unwrap();
        source.open(&TaskContext::single("test")).await.unwrap();
        source
    }

    /// An open sink.
    pub async fn sink(&self, config: KafkaSinkConfig) -> KafkaSink {
        let sink = KafkaSink::new(config, &build_context()).unwrap();
        sink.open(&TaskContext::single("test")).await.unwrap();
        sink
    }
}

/// Shows what the code under test logs, if `RUST_LOG` says so.
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub fn build_context() -> BuildContext {
    BuildContext { pipeline: "test".into(), task: 0, n_tasks: 1 }
}

/// A name that nobody else uses.
pub fn unique(what: &str) -> String {
    format!("it-{what}-{:016x}", rand::random::<u64>())
}

pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The next event within a test's patience.
pub async fn next(source: &mut KafkaSource) -> Result<SourceEvent, SourceError> {
    tokio::time::timeout(PATIENCE, source.poll(Demand::Batches)).await.expect("an event in time")
}

/// Waits for the first assignment: its lanes and their partitions.
pub async fn assignment(source: &mut KafkaSource) -> Vec<(Lane, String)> {
    loop {
        if let SourceEvent::Assigned(lanes) = next(source).await.unwrap() {
            return lanes.into_iter().map(|info| (info.lane, info.partition.to_string())).collect();
        }
    }
}

/// Collects batches until they hold `n` messages.
pub async fn collect(source: &mut KafkaSource, n: usize) -> Vec<RawBatch> {
    let mut batches: Vec<RawBatch> = Vec::new();
    while batches.iter().map(RawBatch::len).sum::<usize>() < n {
        if let SourceEvent::Batch(batch) = next(source).await.unwrap() {
            batches.push(batch);
        }
    }
    batches
}

/// The payloads of `batches`, as text.
pub fn payloads(batches: &[RawBatch]) -> Vec<String> {
    let of = |batch: &RawBatch| -> Vec<String> {
        (0..batch.len()).map(|row| text(batch.messages().payload(row).unwrap_or_default())).collect()
    };
    batches.iter().flat_map(of).collect()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Messages as a pipeline would hand them to a sink.
pub fn outgoing(messages: Messages) -> Outgoing {
    let mut raw = RawBatch::default();
    for row in 0..messages.len() {
        let position = Position { lane: Lane(0), seq: row as u64 };
        let message = Message { target: None, ..messages.message(row) };
        raw.push(RawMessage { message, position, coordinate: Coordinate::NONE });
    }
    Outgoing { batch: Batch::undecoded(Arc::new(raw)), messages: Arc::new(messages) }
}

/// Numbered messages for partition 0.
pub fn numbered(numbers: std::ops::Range<usize>) -> Vec<(i32, String, String)> {
    numbers.map(|number| (0, "key".to_owned(), format!("{number:06}"))).collect()
}

/// Waits until `holds` says so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
