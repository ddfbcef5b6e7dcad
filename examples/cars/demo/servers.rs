//! The servers of the demo: embedded ones in this process, or real ones by address.

use std::time::Duration;

use iotml_kafka::EmbeddedKafka;
use iotml_mqtt::embedded::EmbeddedBroker;

use crate::chain::N_PARTITIONS;
use crate::process::Failure;

/// Where MQTT and Kafka are; embedded servers live as long as this does.
pub struct Servers {
    /// MQTT, `host:port`.
    pub mqtt: String,
    /// Kafka, `host:port`.
    pub kafka: String,
    _broker: Option<EmbeddedBroker>,
    cluster: Option<EmbeddedKafka>,
}

impl Servers {
    /// Starts what is not given.
    pub fn start(mqtt: Option<String>, kafka: Option<String>) -> Result<Self, Failure> {
        let broker = if mqtt.is_none() { Some(EmbeddedBroker::start()?) } else { None };
        let cluster = if kafka.is_none() { Some(EmbeddedKafka::start(1)?) } else { None };
        if let Some(cluster) = &cluster {
            // Every group of the demo has one member.
            cluster.set_group_delay(Duration::from_millis(10));
        }
        let mqtt = mqtt.or_else(|| broker.as_ref().map(EmbeddedBroker::address)).unwrap_or_default();
        let kafka = kafka.or_else(|| cluster.as_ref().map(EmbeddedKafka::bootstrap_servers)).unwrap_or_default();
        Ok(Self { mqtt, kafka, _broker: broker, cluster })
    }

    /// Creates topics on the embedded cluster; on a real one the sinks create theirs.
    pub fn create_topics(&self, topics: &[&str]) -> Result<(), Failure> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        for topic in topics {
            cluster.create_topic(topic, N_PARTITIONS)?;
        }
        Ok(())
    }

    /// Whether Kafka is embedded, which cannot create topics through the protocol.
    pub fn has_embedded_kafka(&self) -> bool {
        self.cluster.is_some()
    }
}
