//! An in-memory Kafka cluster in this process, for demos and tests.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// librdkafka's in-memory cluster, on loopback and free ports; it ends when dropped.
///
/// It speaks enough of the protocol for producers, consumer groups and committed offsets. Its limits:
///
/// - a partition keeps the newest 5 MiB and at most 100,000 messages: **older ones are dropped without a word**, so spread a
///   load over partitions and read along;
/// - no creation of topics through the protocol (use [`create_topic`](EmbeddedKafka::create_topic)), no compaction, no
///   transaction markers, no retention by time;
/// - nothing survives the process.
pub struct EmbeddedKafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

// SAFETY: the cluster runs in a thread of librdkafka's own, to which every call sends a message through a locked queue; the
// handle holds no state of the thread that made it.
unsafe impl Send for EmbeddedKafka {}
// SAFETY: as above.
unsafe impl Sync for EmbeddedKafka {}

/// The in-memory cluster could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("the in-memory Kafka cluster failed to {what}")]
pub struct EmbeddedError {
    what: &'static str,
    #[source]
    source: KafkaError,
}

/// A kind of request that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Writing messages.
    Produce,
    /// Reading messages.
    Fetch,
    /// Committing offsets.
    OffsetCommit,
    /// Looking up committed offsets.
    OffsetFetch,
    /// Asking for topics and brokers.
    Metadata,
    /// Staying in a group.
    Heartbeat,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection breaks.
    Disconnect,
    /// The broker is not the leader: passes by itself in a real cluster.
    NotLeader,
    /// Too few replicas are in sync.
    NotEnoughReplicas,
    /// The message is too large.
    MessageTooLarge,
    /// The record is not acceptable.
    InvalidRecord,
    /// Not allowed to.
    TopicAuthorization,
    /// The offset is not there.
    OffsetOutOfRange,
    /// The member belongs to an older generation of the group.
    IllegalGeneration,
    /// The coordinator is still loading.
    CoordinatorLoading,
    /// The group does not know the member.
    UnknownMember,
}

impl EmbeddedKafka {
    /// Starts a cluster of `n_brokers`.
    pub fn start(n_brokers: u16) -> Result<Self, EmbeddedError> {
        let cluster = MockCluster::new(i32::from(n_brokers.max(1)));
        cluster.map(|cluster| Self { cluster }).map_err(|source| EmbeddedError { what: "start", source })
    }

    /// What to set `bootstrap.servers` to.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates a topic. One that is only written to is created by itself, with 4 partitions.
    pub fn create_topic(&self, name: &str, n_partitions: u16) -> Result<(), EmbeddedError> {
        let created = self.cluster.create_topic(name, i32::from(n_partitions), 1);
        created.map_err(|source| EmbeddedError { what: "create a topic", source })
    }

    /// Makes the next requests of one kind fail, one after the other.
    pub fn fail_next(&self, request: Request, failures: &[Failure]) {
        let codes: Vec<RDKafkaRespErr> = failures.iter().map(|failure| failure.code()).collect();
        self.cluster.request_errors(request.key(), &codes);
    }

    /// Takes back failures that are still to come.
    pub fn fail_no_more(&self, request: Request) {
        self.cluster.clear_request_errors(request.key());
    }

    /// Cuts all connections and accepts none until [`up`](EmbeddedKafka::up).
    pub fn down(&self) -> Result<(), EmbeddedError> {
        self.cluster.broker_down(-1).map_err(|source| EmbeddedError { what: "go down", source })
    }

    /// Accepts connections again.
    pub fn up(&self) -> Result<(), EmbeddedError> {
        self.cluster.broker_up(-1).map_err(|source| EmbeddedError { what: "come up", source })
    }

    /// Delays every answer.
    pub fn delay(&self, delay: Duration) -> Result<(), EmbeddedError> {
        let delayed = self.cluster.broker_round_trip_time(-1, delay);
        delayed.map_err(|source| EmbeddedError { what: "delay answers", source })
    }
}

impl std::fmt::Debug for EmbeddedKafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedKafka").field("bootstrap_servers", &self.bootstrap_servers()).finish()
    }
}

impl Request {
    fn key(self) -> RDKafkaApiKey {
        match self {
            Request::Produce => RDKafkaApiKey::Produce,
            Request::Fetch => RDKafkaApiKey::Fetch,
            Request::OffsetCommit => RDKafkaApiKey::OffsetCommit,
            Request::OffsetFetch => RDKafkaApiKey::OffsetFetch,
            Request::Metadata => RDKafkaApiKey::Metadata,
            Request::Heartbeat => RDKafkaApiKey::Heartbeat,
        }
    }
}

impl Failure {
    fn code(self) -> RDKafkaRespErr {
        use RDKafkaRespErr as Code;
        match self {
            Failure::Disconnect => Code::RD_KAFKA_RESP_ERR__TRANSPORT,
            Failure::NotLeader => Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Failure::NotEnoughReplicas => Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            Failure::MessageTooLarge => Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            Failure::InvalidRecord => Code::RD_KAFKA_RESP_ERR_INVALID_RECORD,
            Failure::TopicAuthorization => Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Failure::OffsetOutOfRange => Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
            Failure::IllegalGeneration => Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
            Failure::CoordinatorLoading => Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Failure::UnknownMember => Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        }
    }
}
