//! What the sink makes durable, and what it says about rows that are refused.

use std::time::Duration;

use iotml_core::batch::{Message, Messages};
use iotml_core::error::{Class, Reason};
use iotml_core::sink::Sink;
use iotml_kafka::{Failure, KafkaSinkConfig, Request, TopicCreation};
use rdkafka::Message as _;
use rdkafka::message::Headers;

use crate::cluster::{Cluster, outgoing, text, unique};

fn rows(payloads: &[&[u8]]) -> Messages {
    let mut messages = Messages::default();
    for payload in payloads {
        messages.push(Message { payload: Some(payload), key: Some(b"car"), ..Message::default() });
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn key_time_headers_and_tombstones_arrive_as_they_are() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(1, &[]).await;
        let sink = cluster.sink(KafkaSinkConfig::new(&cluster.servers, Some(&topic))).await;
        let mut messages = Messages::default();
        messages.push(Message {
            payload: Some(b"full"),
            key: Some(b"k"),
            time: Some(1_700_000_000_123),
            ..Message::default()
        });
        messages.push_header("content-type", Some(b"avro"));
        messages.push_header("content-type", Some(b"again"));
        messages.push_header("none", None);
        messages.push_header("empty", Some(b""));
        messages.push(Message { payload: None, key: Some(b"k"), ..Message::default() });
        messages.push(Message { payload: Some(b""), key: None, ..Message::default() });
        messages.push(Message { payload: Some(b"\0\xff"), key: Some(b""), ..Message::default() });
        let written = sink.write(outgoing(messages)).await.unwrap();
        assert!(written.rejected.is_empty() && written.retryable.is_empty(), "{written:?}");

        let stored = cluster.read(&topic, 4).await;
        let bodies: Vec<_> = stored.iter().map(|message| (message.key(), message.payload())).collect();
        type Body<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);
        let want: [Body<'_>; 4] =
            [(Some(b"k"), Some(b"full")), (Some(b"k"), None), (None, Some(b"")), (Some(b""), Some(b"\0\xff"))];
        assert_eq!(bodies, want);
        assert_eq!(stored[0].timestamp().to_millis(), Some(1_700_000_000_123));
        let headers: Vec<_> = stored[0].headers().unwrap().iter().map(|header| (header.key, header.value)).collect();
        let want: [(&str, Option<&[u8]>); 4] =
            [("content-type", Some(b"avro")), ("content-type", Some(b"again")), ("none", None), ("empty", Some(b""))];
        assert_eq!(headers, want);
        sink.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_7_a_row_that_is_too_large_fails_alone() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(1, &[]).await;
        let sink = cluster.sink(KafkaSinkConfig::new(&cluster.servers, Some(&topic))).await;
        let large = vec![b'x'; 2_000_000];
        let written = sink.write(outgoing(rows(&[b"a", &large, b"b"]))).await.unwrap();
        assert!(written.retryable.is_empty());
        let [rejected] = written.rejected.as_slice() else { panic!("one row: {:?}", written.rejected) };
        assert_eq!((rejected.row, rejected.cause.reason), (1, Reason::Oversized));
        let stored = cluster.read(&topic, 2).await;
        let stored: Vec<_> = stored.iter().map(|message| text(message.payload().unwrap())).collect();
        assert_eq!(stored, ["a", "b"]);
    }
}

/// The broker refuses whole batches; neighbours must not go down with the one that is too large.
#[tokio::test(flavor = "multi_thread")]
async fn inv_7_a_row_that_only_the_broker_finds_too_large_fails_alone() {
    let Some(cluster) = Cluster::real() else { return };
    let topic = cluster.topic(1, &[("max.message.bytes", "20000")]).await;
    // Random bytes, since the broker looks at the compressed size.
    let large: Vec<u8> = (0..50_000).map(|_| rand::random()).collect();
    let small: Vec<Vec<u8>> = (0..400).map(|row| format!("row {row:03} {}", "y".repeat(200)).into_bytes()).collect();
    let mut payloads: Vec<&[u8]> = small.iter().map(Vec::as_slice).collect();
    payloads.insert(100, &large);
    for fixed in [true, false] {
        let mut messages = Messages::default();
        for payload in &payloads {
            let target = (!fixed).then_some(topic.as_str());
            messages.push(Message { payload: Some(payload), key: Some(b"car"), target, ..Message::default() });
        }
        let sink = cluster.sink(KafkaSinkConfig::new(&cluster.servers, fixed.then_some(topic.as_str()))).await;
        let written = sink.write(outgoing(messages)).await.unwrap();
        let refused: Vec<_> = written.rejected.iter().map(|rejected| (rejected.row, rejected.cause.reason)).collect();
        assert_eq!(refused, [(100, Reason::Oversized)], "topic known beforehand: {fixed}");
        assert!(written.retryable.is_empty());
        sink.close().await.unwrap();
    }
    let stored = cluster.read(&topic, 800).await;
    assert_eq!(stored.len(), 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_per_row_and_a_row_without_one_is_refused_alone() {
    for cluster in Cluster::all() {
        let (first, second) = (cluster.topic(1, &[]).await, cluster.topic(1, &[]).await);
        let sink = cluster.sink(KafkaSinkConfig::new(&cluster.servers, None)).await;
        let mut messages = Messages::default();
        for target in [Some(first.as_str()), Some(second.as_str()), None, Some("no such/topic")] {
            messages.push(Message { payload: Some(b"x"), target, ..Message::default() });
        }
        let written = sink.write(outgoing(messages)).await.unwrap();
        let refused: Vec<_> = written.rejected.iter().map(|rejected| (rejected.row, rejected.cause.reason)).collect();
        assert_eq!(refused, [(2, Reason::NoTarget), (3, Reason::NoTarget)]);
        for topic in [&first, &second] {
            assert_eq!(cluster.read(topic, 1).await.len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_the_fault_of_the_row_that_named_it() {
    let Some(cluster) = Cluster::real() else { return };
    let (good, missing) = (cluster.topic(1, &[]).await, unique("missing"));
    let mut config = KafkaSinkConfig::new(&cluster.servers, None);
    config.kafka = config.kafka.set("topic.metadata.propagation.max.ms", 1000);
    let sink = cluster.sink(config).await;
    let mut messages = Messages::default();
    for target in [&good, &missing, &good] {
        messages.push(Message { payload: Some(b"x"), target: Some(target), ..Message::default() });
    }
    let written = sink.write(outgoing(messages)).await.unwrap();
    let refused: Vec<_> = written.rejected.iter().map(|rejected| (rejected.row, rejected.cause.reason)).collect();
    assert_eq!(refused, [(1, Reason::NoTarget)]);
    assert!(written.rejected[0].cause.detail.contains(&missing), "{:?}", written.rejected);
    assert_eq!(cluster.read(&good, 2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_a_write_outlasts_a_broker_that_is_away_for_a_while() {
    let cluster = Cluster::embedded();
    let topic = cluster.topic(1, &[]).await;
    let sink = cluster.sink(KafkaSinkConfig::new(&cluster.servers, Some(&topic))).await;
    sink.write(outgoing(rows(&[b"before"]))).await.unwrap();
    let trouble = [Failure::NotEnoughReplicas, Failure::Disconnect, Failure::NotLeader];
    cluster.inner().fail_next(Request::Produce, &trouble).unwrap();
    let payloads: Vec<Vec<u8>> = (0..100).map(|row| format!("{row:03}").into_bytes()).collect();
    let slices: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let written = sink.write(outgoing(rows(&slices))).await.unwrap();
    assert!(written.rejected.is_empty() && written.retryable.is_empty());

    cluster.inner().down().unwrap();
    let mut write = Box::pin(sink.write(outgoing(rows(&[b"after"]))));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut write).await;
    assert!(early.is_err(), "not durable while no broker is there");
    cluster.inner().up().unwrap();
    write.await.unwrap();
    let stored: Vec<_> =
        cluster.read(&topic, 102).await.iter().map(|message| text(message.payload().unwrap())).collect();
    assert_eq!((stored.len(), stored[0].as_str(), stored[101].as_str()), (102, "before", "after"));
    assert!(stored[1..101].is_sorted(), "retries change no order: {stored:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_10_a_refusal_ends_the_write_with_one_clear_error() {
    let cluster = Cluster::embedded();
    let topic = cluster.topic(1, &[]).await;
    let sink = cluster.sink(KafkaSinkConfig::new(&cluster.servers, Some(&topic))).await;
    cluster.inner().fail_next(Request::Produce, &[Failure::TopicAuthorization]).unwrap();
    let error = sink.write(outgoing(rows(&[b"x"]))).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("refuses"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_6_a_full_queue_makes_a_write_wait_and_keeps_the_order() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(1, &[]).await;
        let mut config = KafkaSinkConfig::new(&cluster.servers, Some(&topic));
        config.kafka = config.kafka.set("queue.buffering.max.messages", 100);
        let sink = cluster.sink(config).await;
        let payloads: Vec<Vec<u8>> = (0..3000).map(|row| format!("{row:04}").into_bytes()).collect();
        let writes = payloads.chunks(1000).map(|chunk| {
            let slices: Vec<&[u8]> = chunk.iter().map(Vec::as_slice).collect();
            sink.write(outgoing(rows(&slices)))
        });
        for written in futures_util::future::join_all(writes).await {
            assert!(written.unwrap().rejected.is_empty());
        }
        let stored: Vec<_> = cluster.read(&topic, 3000).await.iter().map(|m| m.payload().unwrap().to_vec()).collect();
        assert_eq!(stored, payloads);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_by_option_and_only_then() {
    let Some(cluster) = Cluster::real() else { return };
    let name = unique("created");
    let creation = TopicCreation {
        partitions: Some(4),
        replication: Some(1),
        config: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
    };
    let mut config = KafkaSinkConfig::new(&cluster.servers, Some(&name));
    let build = crate::cluster::build_context();
    let task = iotml_core::pipeline::TaskContext::single("test");
    let refused = iotml_kafka::KafkaSink::new(config.clone(), &build).unwrap().open(&task).await.unwrap_err();
    assert!(
        refused.to_string().contains("does not exist") && refused.to_string().contains("create_topics"),
        "{refused}"
    );

    config.create_topics = Some(creation);
    let sink = cluster.sink(config.clone()).await;
    sink.write(outgoing(rows(&[b"x"]))).await.unwrap();
    sink.close().await.unwrap();
    cluster.sink(config.clone()).await.close().await.unwrap();

    config.topic = Some("{target}.copy".to_owned());
    let sink = cluster.sink(config).await;
    let target = unique("target");
    let mut messages = Messages::default();
    messages.push(Message { payload: Some(b"x"), key: Some(b"k"), target: Some(&target), ..Message::default() });
    // A topic that is compacted takes no message without a key.
    messages.push(Message { payload: Some(b"x"), target: Some(&target), ..Message::default() });
    let written = sink.write(outgoing(messages)).await.unwrap();
    let refused: Vec<_> = written.rejected.iter().map(|rejected| (rejected.row, rejected.cause.reason)).collect();
    assert_eq!(refused, [(1, Reason::Refused)]);
    assert_eq!(cluster.read(&format!("{target}.copy"), 1).await.len(), 1);
}
