//! What the source reads, commits, and holds back.

use std::time::Duration;

use iotml_core::batch::{Ack, RawBatch};
use iotml_core::source::{Demand, Source, SourceEvent};
use iotml_kafka::{Failure, KafkaSinkConfig, Request, Start};

use crate::cluster::{Cluster, PATIENCE, assignment, collect, next, numbered, outgoing, payloads, text, unique, until};
use crate::rebalance::{Processed, member};

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_offsets_are_committed_only_behind_the_acknowledged_prefix() {
    for cluster in Cluster::all() {
        let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
        cluster.produce(&topic, numbered(0..100)).await;
        let mut config = cluster.reads(&topic, &group);
        config.commit_interval = "50ms".parse().unwrap();
        let mut source = cluster.source(config).await;
        let batches = collect(&mut source, 100).await;
        let lane = batches[0].lane(0);
        source.ack(&[Ack { lane, through: 41 }]).unwrap();
        until("42 is committed", async || cluster.committed(&group, &topic, 0).await == Some(42)).await;
        source.close().await.unwrap();
        assert_eq!(cluster.committed(&group, &topic, 0).await, Some(42), "closing commits nothing more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_message_is_read_and_its_place_is_known() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(1, &[]).await;
        let sink = cluster.sink(KafkaSinkConfig::new(&cluster.servers, Some(&topic))).await;
        let mut messages = iotml_core::batch::Messages::default();
        let message = iotml_core::batch::Message {
            payload: Some(b"p"),
            key: Some(b"k"),
            time: Some(1_700_000_000_001),
            ..Default::default()
        };
        messages.push(message);
        messages.push_header("a", Some(b"1"));
        messages.push_header("b", None);
        messages.push(iotml_core::batch::Message { payload: None, key: None, ..message });
        iotml_core::sink::Sink::write(&sink, outgoing(messages)).await.unwrap();

        let mut source = cluster.source(cluster.reads(&topic, &unique("group"))).await;
        let [(_, partition)] = assignment(&mut source).await.try_into().unwrap();
        assert_eq!(partition, format!("{topic}-0"));
        let batches = collect(&mut source, 2).await;
        let batch = &batches[0];
        let (read, place) = (batch.messages(), batch.coordinate(1.min(batch.len() - 1)));
        assert_eq!((read.payload(0), read.key(0), read.time(0)), (Some(&b"p"[..]), Some(&b"k"[..]), message.time));
        assert_eq!(read.topic(0).map(|name| name.to_string()), Some(topic.clone()));
        let headers: Vec<_> = read.headers().of(0).map(|header| (header.name, header.value)).collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("b", None)]);
        let last = batches.last().unwrap();
        assert_eq!((last.messages().payload(last.len() - 1), last.messages().key(last.len() - 1)), (None, None));
        assert_eq!(place.partition, 0);
        source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_5_6_while_the_pipeline_is_full_the_group_is_served_and_memory_stays_bounded() {
    for cluster in Cluster::all() {
        let (topic, group) = (cluster.topic(4, &[]).await, unique("group"));
        let payload = "x".repeat(1000);
        let messages = (0..16_000).map(|n| (n % 4, format!("{n}"), payload.clone()));
        cluster.produce(&topic, messages.collect()).await;
        let mut config = cluster.reads(&topic, &group);
        config.prefetch = "256KiB".parse().unwrap();
        config.max_batch_rows = 100;
        config.kafka = config
            .kafka
            .set("max.poll.interval.ms", 6000)
            .set("queued.max.messages.kbytes", 512)
            .set("max.partition.fetch.bytes", 65_536);
        let mut source = cluster.source(config).await;
        let lanes = assignment(&mut source).await;
        let first = collect(&mut source, 1).await;
        // Longer than the group would wait for a member that does not poll.
        let held_back = tokio::time::timeout(Duration::from_secs(8), async {
            loop {
                match source.poll(Demand::EventsOnly).await.unwrap() {
                    SourceEvent::Idle => {}
                    other => return other,
                }
            }
        });
        let event = held_back.await;
        assert!(event.is_err(), "neither batches nor a lost assignment: {event:?}");
        let n = first.iter().map(RawBatch::len).sum::<usize>();
        let rest = collect(&mut source, 16_000 - n).await;
        let largest = rest.iter().map(RawBatch::len).max();
        assert!(largest <= Some(100), "{largest:?}");
        let mut seen: Vec<(u32, u64)> = Vec::new();
        for batch in first.iter().chain(&rest) {
            seen.extend(batch.positions().iter().map(|position| (position.lane.0, position.seq)));
        }
        seen.sort_unstable();
        let mut want: Vec<(u32, u64)> =
            lanes.iter().flat_map(|(lane, _)| (0..4000).map(move |seq| (lane.0, seq))).collect();
        want.sort_unstable();
        assert!(seen == want, "every message once, after the wait");
        source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_read_ends_where_the_topic_ended_when_it_began() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(3, &[]).await;
        let messages = (0..500).map(|n| (n % 2, "key".to_owned(), format!("{n:06}")));
        cluster.produce(&topic, messages.collect()).await;
        let mut config = cluster.reads(&topic, &unique("group"));
        config.stop_at_end = true;
        let mut source = cluster.source(config).await;
        assignment(&mut source).await;
        cluster.produce(&topic, numbered(500..600)).await;
        let mut batches = Vec::new();
        loop {
            match next(&mut source).await.unwrap() {
                SourceEvent::Batch(batch) => batches.push(batch),
                SourceEvent::End => break,
                _ => {}
            }
        }
        let mut read = payloads(&batches);
        read.sort();
        let want: Vec<String> = (0..500).map(|n| format!("{n:06}")).collect();
        assert_eq!(read, want);
        source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_4_a_group_that_starts_at_the_end_misses_nothing_after_its_start() {
    for cluster in Cluster::all() {
        let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
        cluster.produce(&topic, numbered(0..10)).await;
        let mut config = cluster.reads(&topic, &group);
        config.start = Start::Latest;
        let mut source = cluster.source(config.clone()).await;
        assignment(&mut source).await;
        until("the start is fixed", async || cluster.committed(&group, &topic, 0).await == Some(10)).await;
        source.close().await.unwrap();
        // Nobody reads now: a group that knew no offset would begin behind these.
        cluster.produce(&topic, numbered(10..20)).await;
        let mut source = cluster.source(config).await;
        let read = payloads(&collect(&mut source, 10).await);
        assert_eq!(read.first().map(String::as_str), Some("000010"));
        source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_by_pattern_include_one_created_later() {
    for cluster in Cluster::all() {
        let mark = unique("pattern");
        let name = |n: u32| format!("{mark}-{n}");
        let create = async |name: &str| match Cluster::real() {
            Some(real) if real.servers == cluster.servers => {
                let topic = rdkafka::admin::NewTopic::new(name, 1, rdkafka::admin::TopicReplication::Fixed(1));
                cluster.admin().create_topics([&topic], &Default::default()).await.unwrap();
            }
            _ => cluster.inner().create_topic(name, 1).unwrap(),
        };
        create(&name(1)).await;
        let mut config = cluster.reads("unused", &unique("group"));
        config.topics.clear();
        config.topics_regex = Some(format!("{mark}-.*"));
        config.kafka = config.kafka.set("topic.metadata.refresh.interval.ms", 500);
        let mut source = cluster.source(config).await;
        assignment(&mut source).await;
        create(&name(2)).await;
        cluster.produce(&name(2), numbered(0..1)).await;
        let batches = collect(&mut source, 1).await;
        assert_eq!(batches[0].messages().topic(0).map(|topic| topic.to_string()), Some(name(2)));
        source.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_trouble_on_the_way_loses_nothing() {
    let cluster = Cluster::embedded();
    let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
    cluster.produce(&topic, numbered(0..200)).await;
    cluster.inner().fail_next(Request::Fetch, &[Failure::Disconnect, Failure::NotLeader]).unwrap();
    cluster.inner().fail_next(Request::OffsetCommit, &[Failure::CoordinatorLoading, Failure::Disconnect]).unwrap();
    let mut config = cluster.reads(&topic, &group);
    config.commit_interval = "50ms".parse().unwrap();
    let source = cluster.source(config).await;
    let processed = Processed::default();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    // A member that was thought dead gets the partition again, and then the messages too.
    let member = tokio::spawn(member(source, processed.clone(), stopped));
    until("the commit went through", async || cluster.committed(&group, &topic, 0).await == Some(200)).await;
    let got: Vec<String> = processed.lock().unwrap().keys().map(|payload| text(payload)).collect();
    let want: Vec<String> = (0..200).map(|n| format!("{n:06}")).collect();
    assert_eq!(got, want);
    stop.send(()).unwrap();
    member.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_2_offsets_with_holes_are_committed_right() {
    let Some(cluster) = Cluster::real() else { return };
    let (topic, group) = (cluster.topic(1, &[]).await, unique("group"));
    // Each transaction leaves a marker, which takes an offset and is never read.
    let mut client = cluster.client();
    let name = topic.clone();
    crate::cluster::blocking(move || {
        use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
        let producer: ThreadedProducer<DefaultProducerContext> =
            client.set("transactional.id", unique("tx")).create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        for n in 0..10 {
            producer.begin_transaction().unwrap();
            let payload = format!("{n}");
            producer.send(BaseRecord::<str, str>::to(&name).payload(&payload)).map_err(|(error, _)| error).unwrap();
            // An abort throws away what has not been sent yet.
            producer.flush(PATIENCE).unwrap();
            match n % 3 {
                2 => producer.abort_transaction(PATIENCE).unwrap(),
                _ => producer.commit_transaction(PATIENCE).unwrap(),
            }
        }
    })
    .await;
    let mut config = cluster.reads(&topic, &group);
    config.commit_interval = "50ms".parse().unwrap();
    config.stop_at_end = true;
    let mut source = cluster.source(config).await;
    let mut batches = Vec::new();
    loop {
        match next(&mut source).await.unwrap() {
            SourceEvent::Batch(batch) => batches.push(batch),
            SourceEvent::End => break,
            _ => {}
        }
    }
    assert_eq!(payloads(&batches), ["0", "1", "3", "4", "6", "7", "9"], "aborted ones are not read");
    let rows =
        batches.iter().flat_map(|batch| (0..batch.len()).map(move |row| (batch.position(row), batch.coordinate(row))));
    let rows: Vec<_> = rows.collect();
    for (seq, (position, _)) in rows.iter().enumerate() {
        assert_eq!(position.seq, seq as u64);
    }
    let (position, coordinate) = rows[3];
    source.ack(&[Ack { lane: position.lane, through: position.seq }]).unwrap();
    source.close().await.unwrap();
    assert_eq!(cluster.committed(&group, &topic, 0).await, Some(coordinate.offset + 1));
    assert_eq!(coordinate.offset, 8, "message 4 is the ninth entry, behind four markers");
}
