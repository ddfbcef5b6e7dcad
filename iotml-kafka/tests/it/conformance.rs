//! The suites of core.

use std::sync::Arc;

use iotml_core::async_trait;
use iotml_core::error::Reason;
use iotml_core::plugin::ByteSize;
use iotml_core::sink::Sink;
use iotml_core::source::Source;
use iotml_core::testing::sink::{SinkHarness, Stored};
use iotml_core::testing::source::SourceHarness;
use iotml_core::testing::{sink, source};
use iotml_kafka::{KafkaSink, KafkaSinkConfig, KafkaSource};
use rdkafka::Message;

use crate::cluster::{Cluster, build_context, text, unique};

struct Harness<'a> {
    cluster: &'a Cluster,
    topic: String,
    group: String,
}

#[async_trait]
impl SourceHarness for Harness<'_> {
    async fn source(&mut self) -> Box<dyn Source> {
        let mut config = self.cluster.reads(&self.topic, &self.group);
        config.max_message_bytes = Some(ByteSize(64));
        Box::new(KafkaSource::new(config, &build_context()).unwrap())
    }

    async fn publish(&mut self, payloads: &[Vec<u8>]) {
        let messages =
            payloads.iter().enumerate().map(|(at, payload)| (at as i32 % 3, "key".to_owned(), text(payload)));
        self.cluster.produce(&self.topic, messages.collect()).await;
    }

    async fn publish_unusable(&mut self) -> Option<Reason> {
        self.cluster.produce(&self.topic, vec![(0, "key".to_owned(), "x".repeat(62))]).await;
        Some(Reason::Oversized)
    }
}

#[async_trait]
impl SinkHarness for Harness<'_> {
    async fn sink(&mut self) -> Arc<dyn Sink> {
        let config = KafkaSinkConfig::new(&self.cluster.servers, Some(&self.topic));
        Arc::new(KafkaSink::new(config, &build_context()).unwrap())
    }

    async fn stored(&mut self, n: usize) -> Vec<Stored> {
        let messages = self.cluster.read(&self.topic, n).await;
        let stored = messages.into_iter().map(|message| Stored {
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
        });
        stored.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_2_3_5_the_source_conforms() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(3, &[]).await;
        source::conforms(&mut Harness { cluster: &cluster, topic, group: unique("group") }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_11_the_sink_conforms() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(3, &[]).await;
        sink::conforms(&mut Harness { cluster: &cluster, topic, group: unique("group") }).await;
    }
}
