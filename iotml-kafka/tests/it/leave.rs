//! A member that does not come back.

use std::time::{Duration, Instant};

use iotml_core::batch::Ack;
use iotml_core::source::{Farewell, Source};
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::cluster::{Cluster, PATIENCE, assignment, blocking, collect, numbered, unique, until};

/// How many members the coordinator counts in a group.
async fn n_members(cluster: &Cluster, group: &str) -> usize {
    let (client, group) = (cluster.client(), group.to_owned());
    blocking(move || {
        let client: BaseConsumer = client.create().unwrap();
        let groups = client.fetch_group_list(Some(&group), PATIENCE).unwrap();
        groups.groups().iter().map(|group| group.members().len()).sum()
    })
    .await
}

/// A static member is waited for when it only closes. When it leaves, the others have its partitions at once. The in-memory
/// cluster lists no groups.
#[tokio::test(flavor = "multi_thread")]
async fn inv_1_a_static_member_that_leaves_is_not_waited_for() {
    let Some(cluster) = Cluster::real() else { return };
    for leaves in [false, true] {
        let (topic, group) = (cluster.topic(2, &[]).await, unique("group"));
        cluster.produce(&topic, numbered(0..10)).await;
        let member = |name: &str| {
            let mut config = cluster.reads(&topic, &group);
            // Longer than the test has patience.
            config.kafka = config.kafka.set("group.instance.id", name).set("session.timeout.ms", 300_000);
            cluster.source(config)
        };
        let mut first = member("first").await;
        assignment(&mut first).await;
        let batches = collect(&mut first, 10).await;
        first.ack(&[Ack { lane: batches[0].lane(0), through: 9 }]).unwrap();
        assert_eq!(n_members(&cluster, &group).await, 1);

        if leaves {
            assert_eq!(first.leave().await.unwrap(), Farewell::Now);
        }
        let begun = Instant::now();
        first.close().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
        assert_eq!(cluster.committed(&group, &topic, 0).await, Some(10));
        if !leaves {
            assert_eq!(n_members(&cluster, &group).await, 1, "the group waits for a static member that only closed");
            continue;
        }
        until("the group has no members", async || n_members(&cluster, &group).await == 0).await;
        let mut second = member("second").await;
        assert_eq!(assignment(&mut second).await.len(), 2, "all partitions are the other's at once");
        cluster.produce(&topic, numbered(10..12)).await;
        assert_eq!(collect(&mut second, 2).await[0].coordinate(0).offset, 10);
        second.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_told_by_partition() {
    for cluster in Cluster::all() {
        let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
        cluster.produce(&topic, numbered(0..5)).await;
        let mut source = cluster.source(cluster.reads(&topic, &group)).await;
        assert!(source.acknowledged().is_empty());
        let batches = collect(&mut source, 5).await;
        source.ack(&[Ack { lane: batches[0].lane(0), through: 2 }]).unwrap();
        let offsets = source.acknowledged();
        assert_eq!(offsets[0].partition, serde_json::json!({ "kafka_topic": topic, "kafka_partition": 0 }));
        assert_eq!(offsets[0].offset, serde_json::json!({ "kafka_offset": 3 }));
        source.close().await.unwrap();
    }
}
