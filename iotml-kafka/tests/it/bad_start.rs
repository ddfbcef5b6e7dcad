//! What goes wrong at the start: one clear error, in bounded time.

use std::time::{Duration, Instant};

use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::sink::Sink;
use iotml_core::source::Source;
use iotml_kafka::{KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig};

use crate::cluster::{Cluster, build_context, unique};

/// An address on loopback where nobody listens.
fn nobody() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

async fn open_source(config: KafkaSourceConfig) -> iotml_core::source::SourceError {
    let mut source = KafkaSource::new(config, &build_context()).unwrap();
    source.open(&TaskContext::single("test")).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker_is_one_clear_error_in_bounded_time() {
    let address = nobody();
    let mut config = KafkaSourceConfig::new(&address, &["t"]);
    config.connect_timeout = "1s".parse().unwrap();
    let begun = Instant::now();
    let error = open_source(config).await;
    assert_eq!(error.class(), Class::Retryable, "it may come back");
    for part in [address.as_str(), "bootstrap.servers", "refused"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    let mut config = KafkaSinkConfig::new(&address, Some("t"));
    config.connect_timeout = "1s".parse().unwrap();
    let error = KafkaSink::new(config, &build_context()).unwrap().open(&TaskContext::single("test")).await.unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
    assert_eq!(error.class(), Class::Retryable, "it may come back");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_10_a_refused_log_on_is_one_clear_error_without_the_password() {
    for cluster in Cluster::all() {
        let mut config = KafkaSourceConfig::new(&cluster.servers, &["t"]);
        config.kafka = config
            .kafka
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", "me")
            .set("sasl.password", "hunter2");
        config.connect_timeout = "5s".parse().unwrap();
        let begun = Instant::now();
        let error = open_source(config).await;
        assert_eq!(error.class(), Class::Fatal);
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(&cluster.servers), "{shown}");
        assert!(shown.contains("SASL") || shown.contains("security.protocol"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_named() {
    for cluster in Cluster::all() {
        let name = unique("missing");
        let error = open_source(KafkaSourceConfig::new(&cluster.servers, &[&name])).await;
        assert_eq!(error.class(), Class::Fatal);
        assert!(error.to_string().contains(&name) && error.to_string().contains("does not exist"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_broker_learns_of_a_moment_later_is_found() {
    let cluster = Cluster::embedded();
    let name = unique("late");
    let mut source = KafkaSource::new(KafkaSourceConfig::new(&cluster.servers, &[&name]), &build_context()).unwrap();
    let context = TaskContext::single("test");
    let (opened, ()) = tokio::join!(source.open(&context), async {
        // Within the time that a controller's word takes to reach its brokers.
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.inner().create_topic(&name, 1).unwrap();
    });
    opened.unwrap();
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_dropped_without_a_close_leaves_nothing_behind() {
    let cluster = Cluster::embedded();
    let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
    let first = cluster.source(cluster.reads(&topic, &group)).await;
    drop(first);
    let mut second = cluster.source(cluster.reads(&topic, &group)).await;
    let lanes = crate::cluster::assignment(&mut second).await;
    assert_eq!(lanes.len(), 1, "the partition is free again");
    second.close().await.unwrap();
}
