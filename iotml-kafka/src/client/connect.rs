//! The check at start-up: one clear error instead of an endless retry.

use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::refusal::{advice, known};
use super::{KafkaProperties, Reports};

/// Why a cluster could not be reached at start-up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// No broker answered in time.
    #[error(
        "no Kafka broker of {servers:?} answered within {waited:?}: {why}; check bootstrap.servers and that it runs"
    )]
    Unreachable {
        servers: String,
        waited: Duration,
        why: String,
        #[source]
        source: Box<KafkaError>,
    },
    /// A broker answered and refused.
    #[error("Kafka at {servers:?} refused the connection: {why}")]
    Refused { servers: String, why: String },
}

/// How long a topic that was just created may be unknown to the broker that is asked.
const PROPAGATION: Duration = Duration::from_secs(1);

/// Waits until the cluster answers a request for the metadata of `topic` (of all topics where it is `None`), at most
/// `timeout`. `properties` say which brokers. `serve` is called in between to let pending error reports through.
///
/// A topic that is unknown is asked for again for a moment, because a broker learns of new topics a little later than the
/// controller says that they exist.
pub(crate) fn reach<C: ClientContext>(
    client: &Client<C>,
    reports: &Reports,
    serve: impl Fn(),
    (properties, topic, timeout): (&KafkaProperties, Option<&str>, Duration),
) -> Result<Metadata, ConnectError> {
    let start = Instant::now();
    loop {
        let metadata = answered(client, reports, &serve, (properties, topic, timeout))?;
        let is_unknown = metadata
            .topics()
            .iter()
            .any(|topic| topic.error().map(RDKafkaErrorCode::from) == Some(RDKafkaErrorCode::UnknownTopicOrPartition));
        if !is_unknown || start.elapsed() >= PROPAGATION.min(timeout) {
            return Ok(metadata);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lets the reports through that wait on a consumer's queue, and drops its events.
pub(crate) fn serve<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    // Without a time-out a poll would end at the first log line, in front of the error that says what is wrong.
    while consumer.poll(Duration::from_millis(20)).is_some() {}
}

/// Waits until the cluster answers, whatever it says.
fn answered<C: ClientContext>(
    client: &Client<C>,
    reports: &Reports,
    serve: &impl Fn(),
    (properties, topic, timeout): (&KafkaProperties, Option<&str>, Duration),
) -> Result<Metadata, ConnectError> {
    let servers = properties.servers().unwrap_or_default();
    let start = Instant::now();
    // Short tries, so that a wrong password ends the wait at once.
    let mut patience = Duration::from_millis(250);
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let error = match client.fetch_metadata(topic, patience.min(left).max(Duration::from_millis(50))) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        serve();
        let refused = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication) => Some(error.to_string()),
            _ => reports.refusal(),
        };
        if let Some(why) = refused {
            return Err(ConnectError::Refused { servers: servers.into(), why: advice(&why, properties) });
        }
        if start.elapsed() >= timeout {
            let why = reports.trouble().unwrap_or_else(|| error.to_string());
            if let Some(advice) = known(&why, properties) {
                return Err(ConnectError::Refused { servers: servers.into(), why: advice.into() });
            }
            return Err(ConnectError::Unreachable {
                servers: servers.into(),
                waited: timeout,
                why,
                source: error.into(),
            });
        }
        // A refused connection may answer at once: without a pause this would spin.
        std::thread::sleep(Duration::from_millis(20));
        patience = (patience * 2).min(Duration::from_secs(2));
    }
}
