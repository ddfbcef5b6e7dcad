//! Under which subjects the encoder `confluent_avro` registers, on a real Kafka and Apicurio where their addresses are given.

use std::path::Path;
use std::sync::Arc;

use iotml_core::decode::SchemaResolver;
use iotml_core::encode::{Registration, SchemaRegistrar};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::Pipeline;
use iotml_core::plugin::Registry;
use iotml_core::plugin::config::Config;
use iotml_core::testing::servers;
use iotml_kafka::{SchemaRegistry, SchemaRegistryConfig};
use rdkafka::Message;

use crate::cluster::{Cluster, blocking, unique};

/// Runs JSON from `inputs` to Confluent Avro in the topic, or template, `output`, with all options of the encoder as they are
/// by default.
async fn run(cluster: &Cluster, registry: &str, inputs: &[&str], output: &str) {
    let (servers, group) = (&cluster.servers, unique("group"));
    let text = format!(
        r#"
[pipeline]
name = "subjects"

[source]
type = "kafka"
topics = {inputs:?}
stop_at_end = true

[source.kafka]
"bootstrap.servers" = "{servers}"
"group.id" = "{group}"

[decode]
type = "json"
columns = [{{ name = "speed", type = "float32" }}]

[[route]]
name = "out"

[route.encode]
type = "confluent_avro"
registry.url = "{registry}"

[route.sink]
type = "kafka"
topic = "{output}"
create_topics = {{ partitions = 1, replication = 1 }}

[route.sink.kafka]
"bootstrap.servers" = "{servers}"
"#
    );
    let mut plugins = Registry::with_core();
    iotml_kafka::register(&mut plugins);
    let config = Config::parse(&text, Path::new("subjects.toml"), &Arc::new(plugins));
    let spec = config.unwrap_or_else(|mistakes| panic!("{mistakes}")).pipeline();
    let summary = blocking(move || Pipeline::start(spec, Metrics::default()).unwrap().wait().unwrap()).await;
    assert_eq!((summary.audit.received, summary.audit.delivered), (inputs.len() as u64 * 10, inputs.len() as u64 * 10));
}

/// The id that all ten messages of `topic` are framed with must be that of their schema under `subject`.
async fn is_registered(cluster: &Cluster, registry: &SchemaRegistry, topic: &str, subject: &str) {
    for message in cluster.read(topic, 10).await {
        let framed = message.payload().unwrap();
        let id = u32::from_be_bytes(framed[1..5].try_into().unwrap());
        let schema = registry.resolve(id).await.unwrap();
        let lookup = Registration { subject, schema: &schema, auto_register: false, compatibility: None };
        assert_eq!(registry.register(lookup).await.unwrap(), id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subject_is_named_after_the_topic_that_the_sink_writes_to() {
    let (Some(cluster), Some(url)) = (Cluster::real(), servers::registry()) else { return };
    let registry = SchemaRegistry::new(SchemaRegistryConfig::new(&url)).unwrap();
    let (first, second) = (cluster.topic(1, &[]).await, cluster.topic(1, &[]).await);
    for topic in [&first, &second] {
        let rows = (0..10).map(|n| (0, "car".to_owned(), format!("{{\"speed\": {n}}}")));
        cluster.produce(topic, rows.collect()).await;
    }
    let predictions = unique("model-predictions");
    run(&cluster, &url, &[&first], &predictions).await;
    is_registered(&cluster, &registry, &predictions, &format!("{predictions}-value")).await;

    // By row: each topic that the template makes has a subject of its own.
    run(&cluster, &url, &[&first, &second], "{topic}-scored").await;
    for topic in [first, second] {
        is_registered(&cluster, &registry, &format!("{topic}-scored"), &format!("{topic}-scored-value")).await;
    }
}
