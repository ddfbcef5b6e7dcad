//! Offsets that retention has removed.

use iotml_core::batch::Ack;
use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::source::{Source, SourceEvent};
use iotml_kafka::KafkaSource;
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::{Cluster, build_context, collect, next, numbered, payloads, unique};

/// A group that has committed offset 10 of a topic whose first 30 messages of 50 are gone.
async fn group_behind_a_gap(cluster: &Cluster) -> (String, String) {
    let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
    cluster.produce(&topic, numbered(0..50)).await;
    let mut source = cluster.source(cluster.reads(&topic, &group)).await;
    let batches = collect(&mut source, 50).await;
    source.ack(&[Ack { lane: batches[0].lane(0), through: 9 }]).unwrap();
    source.close().await.unwrap();
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(&topic, 0, Offset::Offset(30)).unwrap();
    cluster.admin().delete_records(&gone, &AdminOptions::new()).await.unwrap();
    (topic, group)
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_4_a_known_group_stops_at_a_gap_with_a_clear_error() {
    let Some(cluster) = Cluster::real() else { return };
    let (topic, group) = group_behind_a_gap(&cluster).await;
    let mut source = KafkaSource::new(cluster.reads(&topic, &group), &build_context()).unwrap();
    let task = TaskContext::single("test");
    source.open(&task).await.unwrap();
    let error = loop {
        match next(&mut source).await {
            Ok(SourceEvent::Batch(batch)) => panic!("jumped over the gap: {:?}", payloads(&[batch])),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), Class::Fatal);
    let text = error.to_string();
    for part in [topic.as_str(), "partition 0", "offset 10", "30..50", "20 messages", "auto.offset.reset", &group] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let metrics = task.metrics.text().unwrap();
    assert!(
        metrics.contains("iotml_source_kafka_offset_out_of_range_total{pipeline=\"test\",task=\"0\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("iotml_source_kafka_missed_messages_total{pipeline=\"test\",task=\"0\"} 20"), "{metrics}");
    source.close().await.unwrap();
    assert_eq!(cluster.committed(&group, &topic, 0).await, Some(10), "the group stays where it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_4_a_gap_is_jumped_over_by_order_and_counted() {
    let Some(cluster) = Cluster::real() else { return };
    for strategy in ["cooperative-sticky", "range"] {
        let (topic, group) = group_behind_a_gap(&cluster).await;
        let mut config = cluster.reads(&topic, &group);
        config.kafka = config.kafka.set("auto.offset.reset", "earliest").set("partition.assignment.strategy", strategy);
        let mut source = KafkaSource::new(config, &build_context()).unwrap();
        let task = TaskContext::single("test");
        source.open(&task).await.unwrap();
        let batches = collect(&mut source, 20).await;
        let want: Vec<String> = (30..50).map(|n| format!("{n:06}")).collect();
        assert_eq!(payloads(&batches), want, "{strategy}");
        assert!(task.metrics.text().unwrap().contains("missed_messages_total{pipeline=\"test\",task=\"0\"} 20"));
        source.ack(&[Ack { lane: batches[0].lane(0), through: 19 }]).unwrap();
        source.close().await.unwrap();
        assert_eq!(cluster.committed(&group, &topic, 0).await, Some(50));
    }
}
