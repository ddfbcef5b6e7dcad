//! An in-memory Kafka cluster in this process, for demos and tests.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaErrorCode, RDKafkaRespErr, RDKafkaType};

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
    /// The client whose property made the cluster, which ends with it.
    owner: Client<DefaultClientContext>,
    bootstrap_servers: String,
}

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
    /// Committing or aborting a transaction.
    EndTransaction,
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
    /// The group is between two generations.
    RebalanceInProgress,
    /// The coordinator is still loading.
    CoordinatorLoading,
    /// The group does not know the member.
    UnknownMember,
}

impl EmbeddedKafka {
    /// Starts a cluster of `n_brokers`.
    pub fn start(n_brokers: u16) -> Result<Self, EmbeddedError> {
        let failed = |source| EmbeddedError { what: "start", source };
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", n_brokers.max(1).to_string());
        let native = config.create_native_config().map_err(failed)?;
        let owner = Client::new(&config, native, RDKafkaType::RD_KAFKA_PRODUCER, DefaultClientContext);
        let mut kafka = Self { owner: owner.map_err(failed)?, bootstrap_servers: String::new() };
        kafka.bootstrap_servers = kafka.ask("start", |cluster| Ok(cluster.bootstrap_servers()))?;
        Ok(kafka)
    }

    /// What to set `bootstrap.servers` to.
    pub fn bootstrap_servers(&self) -> String {
        self.bootstrap_servers.clone()
    }

    /// Creates a topic. One that is only written to is created by itself, with 4 partitions.
    pub fn create_topic(&self, name: &str, n_partitions: u16) -> Result<(), EmbeddedError> {
        self.ask("create a topic", |cluster| cluster.create_topic(name, i32::from(n_partitions), 1))
    }

    /// Makes the next requests of one kind fail, one after the other.
    pub fn fail_next(&self, request: Request, failures: &[Failure]) -> Result<(), EmbeddedError> {
        let codes: Vec<RDKafkaRespErr> = failures.iter().map(|failure| failure.code()).collect();
        self.ask("make requests fail", |cluster| Ok(cluster.request_errors(request.key(), &codes)))
    }

    /// Takes back failures that are still to come.
    pub fn fail_no_more(&self, request: Request) -> Result<(), EmbeddedError> {
        self.ask("take back failures", |cluster| Ok(cluster.clear_request_errors(request.key())))
    }

    /// Cuts all connections and accepts none until [`up`](EmbeddedKafka::up).
    pub fn down(&self) -> Result<(), EmbeddedError> {
        self.ask("go down", |cluster| cluster.broker_down(-1))
    }

    /// Accepts connections again.
    pub fn up(&self) -> Result<(), EmbeddedError> {
        self.ask("come up", |cluster| cluster.broker_up(-1))
    }

    /// Delays every answer.
    pub fn delay(&self, delay: Duration) -> Result<(), EmbeddedError> {
        self.ask("delay answers", |cluster| cluster.broker_round_trip_time(-1, delay))
    }

    /// Sets how long a group without members waits for more of them once the first joins: `group.initial.rebalance.delay.ms`
    /// of a broker, 3 seconds unless set. Who joins a group that stands waits for about its session time-out, whatever this is.
    pub fn set_group_delay(&self, delay: Duration) {
        let millis = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client made this cluster and outlives the call, which takes the cluster's own lock.
        unsafe {
            let cluster = rdkafka_sys::rd_kafka_handle_mock_cluster(self.owner.native_ptr());
            rdkafka_sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, millis);
        }
    }

    fn ask<T>(
        &self,
        what: &'static str,
        ask: impl FnOnce(&MockCluster<'_, DefaultClientContext>) -> KafkaResult<T>,
    ) -> Result<T, EmbeddedError> {
        let cluster = self.owner.mock_cluster().ok_or(KafkaError::MockCluster(RDKafkaErrorCode::Fail));
        cluster.and_then(|cluster| ask(&cluster)).map_err(|source| EmbeddedError { what, source })
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
            Request::EndTransaction => RDKafkaApiKey::EndTxn,
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
            Failure::RebalanceInProgress => Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
            Failure::CoordinatorLoading => Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            Failure::UnknownMember => Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        }
    }
}
