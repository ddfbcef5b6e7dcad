//! The conformance suites of core.

use iotml_core::async_trait;
use iotml_core::error::Reason;
use iotml_core::plugin::ByteSize;
use iotml_core::source::Source;
use iotml_core::testing::source::{SourceHarness, conforms};
use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::{MqttSource, MqttSourceConfig};

use crate::broker::{Broker, on_every_broker, unique};
use crate::cut::Wire;
use crate::publisher::Publisher;

struct Harness {
    config: MqttSourceConfig,
    topic: String,
    publisher: Publisher,
    wire: Wire,
    n_published: usize,
    /// HiveMQ asks its queue for more only when a client has nothing in flight, acknowledges, or connects. The suite
    /// collects many messages before it acknowledges one, so there messages are published while the wire is cut.
    publishes_behind_a_cut: bool,
}

impl Harness {
    async fn new(broker: &Broker, shared: bool) -> Self {
        let topic = unique("conformance");
        let wire = Wire::to(&broker.address()).await;
        let mut config = MqttSourceConfig::new(&wire.address, TopicConfig::new(format!("{topic}/#")));
        config.client_id = Some(unique("client"));
        config.max_message_bytes = ByteSize(1_000);
        config.group = shared.then(|| unique("group"));
        let publisher = Publisher::connect(&broker.address()).await;
        let publishes_behind_a_cut = Broker::hivemq().is_some_and(|hivemq| hivemq.address() == broker.address());
        Self { config, topic, publisher, wire, n_published: 0, publishes_behind_a_cut }
    }
}

#[async_trait]
impl SourceHarness for Harness {
    async fn source(&mut self) -> Box<dyn Source> {
        Box::new(MqttSource::new(self.config.clone()).expect("a valid configuration"))
    }

    async fn publish(&mut self, payloads: &[Vec<u8>]) {
        if self.publishes_behind_a_cut {
            // The suite has acknowledged all that it was sent before, and the broker shall know.
            self.wire.wait_for_acks(self.n_published).await;
            self.wire.cut();
            self.wire.wait_until_parted().await;
        }
        self.n_published += payloads.len();
        self.publisher.publish_all(&format!("{}/a", self.topic), payloads.iter().cloned()).await;
        self.wire.mend();
    }

    async fn publish_unusable(&mut self) -> Option<Reason> {
        self.n_published += 1;
        self.publisher.publish(&format!("{}/a", self.topic), vec![b'x'; 1_000]).await;
        Some(Reason::Oversized)
    }

    fn sends_ahead(&self) -> bool {
        !self.publishes_behind_a_cut
    }
}

async fn plain(broker: Broker) {
    conforms(&mut Harness::new(&broker, false).await).await;
}

async fn shared(broker: Broker) {
    conforms(&mut Harness::new(&broker, true).await).await;
}

on_every_broker! {
    source_conforms => plain;
    shared_source_conforms => shared;
}
