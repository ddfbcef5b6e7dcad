//! Partitions that move between members of a group under load.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iotml_core::batch::{Ack, Lane};
use iotml_core::source::{Demand, Source, SourceEvent};
use iotml_kafka::{Failure, KafkaSource, Request};

use crate::cluster::{Cluster, PATIENCE, assignment, collect, next, numbered, unique, until};

/// What all members of a group have processed: how often each payload was.
pub type Processed = Arc<Mutex<BTreeMap<Vec<u8>, usize>>>;

/// Waits until lanes are asked back, and says which.
async fn revoking(source: &mut KafkaSource) -> Vec<Lane> {
    loop {
        if let SourceEvent::Revoking { lanes, .. } = next(source).await.unwrap() {
            return lanes;
        }
    }
}

/// Processes at once and acknowledges, handing partitions back in good order, until told to stop.
pub async fn member(mut source: KafkaSource, processed: Processed, mut stop: tokio::sync::oneshot::Receiver<()>) {
    let mut gone: HashSet<Lane> = HashSet::new();
    loop {
        let event = tokio::select! {
            event = source.poll(Demand::Batches) => event.unwrap(),
            _ = &mut stop => break,
        };
        match event {
            SourceEvent::Batch(batch) => {
                let mut last = HashMap::new();
                let mut processed = processed.lock().unwrap();
                for row in 0..batch.len() {
                    let position = batch.position(row);
                    assert!(!gone.contains(&position.lane), "a message of a lane that is gone");
                    *processed.entry(batch.messages().payload(row).unwrap().to_vec()).or_default() += 1;
                    last.insert(position.lane, position.seq);
                }
                drop(processed);
                let acks: Vec<Ack> = last.into_iter().map(|(lane, through)| Ack { lane, through }).collect();
                source.ack(&acks).unwrap();
            }
            SourceEvent::Revoking { lanes, .. } => {
                gone.extend(&lanes);
                source.release(&lanes).await.unwrap();
            }
            SourceEvent::Lost { lanes, .. } => gone.extend(&lanes),
            _ => {}
        }
    }
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_3_4_two_members_share_a_load_and_nothing_is_lost() {
    for cluster in Cluster::all() {
        for strategy in ["cooperative-sticky", "range"] {
            let (topic, group) = (cluster.topic(6, &[]).await, unique("group"));
            let mut config = cluster.reads(&topic, &group);
            config.max_batch_rows = 50;
            config.kafka = config.kafka.set("partition.assignment.strategy", strategy);
            let processed = Processed::default();
            let start = async || {
                let (stop, stopped) = tokio::sync::oneshot::channel();
                let source = cluster.source(config.clone()).await;
                (stop, tokio::spawn(member(source, processed.clone(), stopped)))
            };
            let n_done = || processed.lock().unwrap().len();
            let load = async |from: usize| {
                let messages = (from..from + 3000).map(|n| (n as i32 % 6, "k".to_owned(), format!("{n:06}")));
                cluster.produce(&topic, messages.collect()).await;
            };
            let (stop_first, first) = start().await;
            load(0).await;
            until("the first has begun", async || n_done() > 100).await;
            let (stop_second, second) = start().await;
            load(3000).await;
            until("both are through", async || n_done() == 6000).await;
            load(6000).await;
            stop_first.send(()).unwrap();
            first.await.unwrap();
            load(9000).await;
            until("the second took over", async || n_done() == 12_000).await;
            stop_second.send(()).unwrap();
            second.await.unwrap();
            let doubled = processed.lock().unwrap().values().filter(|times| **times > 1).count();
            // The in-memory cluster, unlike Kafka, takes no commits while a group rebalances.
            if !cluster.is_embedded() {
                assert_eq!(doubled, 0, "{strategy}: what was acknowledged before a hand-over does not come again");
            }
            let mut committed = 0;
            for partition in 0..6 {
                committed += cluster.committed(&group, &topic, partition).await.unwrap_or(0);
            }
            assert_eq!(committed, 12_000);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_3_what_was_not_acknowledged_before_the_hand_over_goes_to_the_next_owner() {
    for cluster in Cluster::all() {
        let (topic, group) = (cluster.topic(2, &[]).await, unique("group"));
        let config = cluster.reads(&topic, &group);
        let messages = (0..200).map(|n| (n % 2, "k".to_owned(), format!("{n:06}")));
        cluster.produce(&topic, messages.collect()).await;
        let mut first = cluster.source(config.clone()).await;
        let lanes: HashMap<Lane, String> = assignment(&mut first).await.into_iter().collect();
        collect(&mut first, 200).await;
        for lane in lanes.keys() {
            first.ack(&[Ack { lane: *lane, through: 59 }]).unwrap();
        }
        let second = cluster.source(config);
        let (mut second, leaving) = tokio::join!(second, revoking(&mut first));
        let [gone] = leaving.as_slice() else { panic!("one of two partitions moves: {leaving:?}") };
        // Drained a little further, as a pipeline would.
        first.ack(&[Ack { lane: *gone, through: 79 }]).unwrap();
        first.release(&leaving).await.unwrap();
        // Too late: the position is void.
        first.ack(&[Ack { lane: *gone, through: 99 }]).unwrap();
        let partition = assignment(&mut second).await;
        assert_eq!(partition[0].1, lanes[gone], "the same partition under a new lane");
        let again = collect(&mut second, 20).await;
        let begin = again[0].coordinate(0).offset;
        // The in-memory cluster, unlike Kafka, takes no commits while a group rebalances. It sends a member whose SyncGroup comes
        // behind the leader's, as happens under load, to join once more, so that it may rebalance for as long as the first hands over.
        match cluster.is_embedded() {
            true => assert!([0, 60, 80].contains(&begin), "{begin}"),
            false => assert_eq!(begin, 80),
        }
        assert_eq!(again[0].position(0).seq, 0);
        first.close().await.unwrap();
        second.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_a_slow_broker_is_asked_more_than_twice_to_take_the_last_commit() {
    let cluster = Cluster::embedded();
    let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
    cluster.produce(&topic, numbered(0..10)).await;
    let mut config = cluster.reads(&topic, &group);
    config.commit_interval = "1h".parse().unwrap();
    let mut source = cluster.source(config).await;
    let lane = assignment(&mut source).await[0].0;
    collect(&mut source, 10).await;
    source.ack(&[Ack { lane, through: 7 }]).unwrap();
    // As under load: every answer takes its time, and the first ones find the group between two generations.
    cluster.inner().delay(Duration::from_millis(600)).unwrap();
    cluster.inner().fail_next(Request::OffsetCommit, &[Failure::RebalanceInProgress; 3]).unwrap();
    source.close().await.unwrap();
    cluster.inner().delay(Duration::ZERO).unwrap();
    assert_eq!(cluster.committed(&group, &topic, 0).await, Some(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_3_a_pipeline_that_does_not_drain_in_time_loses_the_lane() {
    let cluster = Cluster::embedded();
    let (topic, group) = (cluster.topic(2, &[]).await, unique("group"));
    let mut config = cluster.reads(&topic, &group);
    config.revoke_timeout = "200ms".parse().unwrap();
    cluster.produce(&topic, numbered(0..10)).await;
    let mut first = cluster.source(config.clone()).await;
    assignment(&mut first).await;
    let second = tokio::spawn({
        let source = cluster.source(config).await;
        async move {
            let mut source = source;
            let lanes = assignment(&mut source).await;
            (source, lanes)
        }
    });
    let mut revoking = Vec::new();
    let lost = loop {
        match next(&mut first).await.unwrap() {
            // Never released.
            SourceEvent::Revoking { lanes, .. } => revoking = lanes,
            SourceEvent::Lost { lanes, reason } => {
                assert!(reason.contains("in time"), "{reason}");
                break lanes;
            }
            _ => {}
        }
    };
    assert_eq!(lost, revoking);
    let answer = tokio::time::timeout(Duration::from_secs(5), first.release(&lost)).await;
    assert!(answer.is_ok(), "releasing what is gone answers at once");
    let (mut second, lanes) = tokio::time::timeout(PATIENCE, second).await.unwrap().unwrap();
    assert_eq!(lanes.len(), 1);
    first.close().await.unwrap();
    second.close().await.unwrap();
}
