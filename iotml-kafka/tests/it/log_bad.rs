//! The log reader where something is missing, gone or away: a defined error, or a counted gap.

use std::time::{Duration, Instant};

use iotml_kafka::{Failure, LogError, LogEvent, LogGap, LogReader, LogReaderConfig, OnGap, Request, Select, Until};
use rdkafka::admin::AdminOptions;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::cluster::{Cluster, PATIENCE, blocking, unique, until};
use crate::log::{config, expected, read, rows, spans, spread};

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_partition_or_broker_is_named_in_bounded_time() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(2, &[]).await;
        cluster.produce(&topic, spread(10, 2)).await;
        blocking(move || {
            let begun = Instant::now();
            let missing = unique("missing");
            let error = LogReader::open(config(&cluster, &missing)).unwrap_err();
            assert!(matches!(error, LogError::UnknownTopic { .. }), "{error}");
            assert!(error.to_string().contains(&missing) && error.to_string().contains(&cluster.servers), "{error}");
            let mut log = LogReader::open(config(&cluster, &topic)).unwrap();
            let error = log.resolve(&Select::Offsets(spans(&[(0, 0, 1), (2, 0, 1)]))).unwrap_err();
            assert!(error.to_string().ends_with("has no partition 2: it has 0 to 1"), "{error}");
            let beyond = log.resolve(&Select::Offsets(spans(&[(1, 0, 6)]))).unwrap();
            let error = log.begin(&beyond, Until::End).unwrap_err();
            assert!(matches!(error, LogError::BeyondEnd { partition: 1, end: 6, log_end: 5, .. }), "{error:?}");
            let mut other = log.resolve(&Select::All).unwrap();
            other.topic = "other".into();
            let error = log.begin(&other, Until::End).unwrap_err();
            assert!(matches!(error, LogError::Config(_)) && error.to_string().contains("\"other\""), "{error}");

            let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let mut config = LogReaderConfig::new(&nobody, "t");
            config.connect_timeout = "1s".parse().unwrap();
            let error = LogReader::open(config).unwrap_err();
            assert!(matches!(error, LogError::Connect { .. }) && error.to_string().contains(&nobody), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        })
        .await;
    }
}

async fn delete_before(cluster: &Cluster, topic: &str, partition: i32, offset: i64) {
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    cluster.admin().delete_records(&gone, &AdminOptions::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_4_what_retention_removed_is_an_error_or_a_listed_gap() {
    let Some(cluster) = Cluster::real() else { return };
    let topic = cluster.topic(2, &[]).await;
    cluster.produce(&topic, spread(100, 2)).await;
    let (name, servers) = (topic.clone(), cluster.servers.clone());
    let range = blocking(move || {
        let log = LogReader::open(LogReaderConfig::new(&servers, &name)).unwrap();
        log.resolve(&Select::Offsets(spans(&[(0, 5, 40), (1, 0, 50)]))).unwrap()
    })
    .await;
    delete_before(&cluster, &topic, 0, 30).await;
    blocking(move || {
        let mut log = LogReader::open(config(&cluster, &topic)).unwrap();
        let error = read(&mut log, &range).unwrap_err();
        assert!(matches!(error, LogError::Gap { partition: 0, from: 5, to: 29, .. }), "{error:?}");
        assert!(error.to_string().contains(&topic), "{error}");
        let mut skip = config(&cluster, &topic);
        skip.on_gap = OnGap::Skip;
        let mut log = LogReader::open(skip).unwrap();
        let (rows, progress) = read(&mut log, &range).unwrap();
        assert_eq!(rows, expected(&spans(&[(0, 30, 40), (1, 0, 50)]), 2));
        assert_eq!(progress.gaps, [LogGap { partition: 0, from: 5, to: 30 }]);
        assert_eq!((progress.n_messages, progress.n_offsets, progress.n_holes), (60, 85, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_4_what_is_removed_while_it_is_read_is_an_error_or_a_listed_gap() {
    let Some(cluster) = Cluster::real() else { return };
    for on_gap in [OnGap::Error, OnGap::Skip] {
        let topic = cluster.topic(1, &[]).await;
        let payload = "x".repeat(1000);
        cluster.produce(&topic, (0..2000).map(|n| (0, format!("{n}"), payload.clone())).collect()).await;
        let mut config = config(&cluster, &topic);
        config.on_gap = on_gap;
        // So that most of it is not fetched yet when it goes.
        config.kafka = config.kafka.set("queued.max.messages.kbytes", 100).set("max.partition.fetch.bytes", 20_000);
        let (log, first) = blocking(move || {
            let mut log = LogReader::open(config).unwrap();
            let range = log.resolve(&Select::All).unwrap();
            log.begin(&range, Until::End).unwrap();
            let LogEvent::Batch(first) = log.next(10, PATIENCE).unwrap() else { panic!("no batch") };
            (log, rows(&first))
        })
        .await;
        delete_before(&cluster, &topic, 0, 1500).await;
        let (offsets, end) = blocking(move || {
            let (mut log, mut offsets) = (log, first.iter().map(|row| row.1).collect::<Vec<_>>());
            let end = loop {
                match log.next(1000, Duration::from_millis(100)) {
                    Ok(LogEvent::Batch(batch)) => offsets.extend(rows(&batch).iter().map(|row| row.1)),
                    Ok(LogEvent::Idle) => {}
                    Ok(LogEvent::End) => break Ok(log.progress()),
                    Err(error) => break Err(error),
                }
            };
            (offsets, end)
        })
        .await;
        match (on_gap, end) {
            (OnGap::Error, Err(LogError::Gap { partition: 0, from, to: 1499, .. })) => {
                assert!(from >= offsets.len() as i64 && from < 1499, "{from}");
            }
            (OnGap::Skip, Ok(progress)) => {
                let [LogGap { partition: 0, from, to: 1500 }] = progress.gaps[..] else { panic!("{progress:?}") };
                let want: Vec<i64> = (0..from).chain(1500..2000).collect();
                assert_eq!(offsets, want);
                assert_eq!(progress.n_offsets, 2000);
            }
            (on_gap, end) => panic!("{on_gap:?}: {end:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_of_transactions_are_counted_and_only_what_is_committed_is_read() {
    let Some(cluster) = Cluster::real() else { return };
    let topic = cluster.topic(1, &[]).await;
    let (mut client, name) = (cluster.client(), topic.clone());
    blocking(move || {
        client.set("transactional.id", unique("txn"));
        let producer: ThreadedProducer<DefaultProducerContext> = client.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        let write = |texts: &[&str]| {
            for text in texts {
                let record = BaseRecord::<(), _>::to(&name).partition(0).payload(*text);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
            producer.flush(PATIENCE).unwrap();
        };
        producer.begin_transaction().unwrap();
        write(&["a", "b"]);
        producer.commit_transaction(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        write(&["gone", "gone"]);
        producer.abort_transaction(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        write(&["c"]);
        producer.commit_transaction(PATIENCE).unwrap();
        // An open transaction: its messages are behind the end.
        producer.begin_transaction().unwrap();
        write(&["open"]);

        // a b . gone gone . c .
        let mut log = LogReader::open(config(&cluster, &name)).unwrap();
        let range = log.resolve(&Select::All).unwrap();
        assert_eq!(range.partitions, spans(&[(0, 0, 8)]));
        let (rows, progress) = read(&mut log, &range).unwrap();
        let want = [(0, 0, "a".to_owned()), (0, 1, "b".to_owned()), (0, 6, "c".to_owned())];
        assert_eq!(rows, want);
        assert_eq!((progress.n_messages, progress.n_offsets, progress.n_holes), (3, 8, 5));
        producer.abort_transaction(PATIENCE).unwrap();
        // The same range once there is something behind it.
        assert_eq!(read(&mut log, &range).unwrap().0, want);
        // A range that ends within holes.
        let part = log.resolve(&Select::Offsets(spans(&[(0, 1, 5)]))).unwrap();
        let (rows, progress) = read(&mut log, &part).unwrap();
        assert_eq!((rows, progress.n_holes), (vec![want[1].clone()], 3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_of_compaction_are_counted() {
    let Some(cluster) = Cluster::real() else { return };
    let options = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "100"),
    ];
    let topic = cluster.topic(1, &options).await;
    // Ten keys, over and over; a compactor leaves the last of each, and the active segment.
    until("the topic is compacted", async || {
        cluster.produce(&topic, (0..100).map(|n| (0, format!("{}", n % 10), format!("{n}"))).collect()).await;
        let (servers, name) = (cluster.servers.clone(), topic.clone());
        blocking(move || {
            let mut log = LogReader::open(LogReaderConfig::new(&servers, &name)).unwrap();
            let range = log.resolve(&Select::All).unwrap();
            let (rows, progress) = read(&mut log, &range).unwrap();
            assert_eq!(progress.n_offsets, range.n_offsets());
            assert_eq!(progress.n_messages + progress.n_holes, range.n_offsets());
            assert!(rows.is_sorted_by_key(|row| row.1));
            progress.n_holes > 0
        })
        .await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_or_created_anew_is_an_error() {
    let Some(cluster) = Cluster::real() else { return };
    let topic = cluster.topic(1, &[]).await;
    cluster.produce(&topic, spread(100, 1)).await;
    let mut following = config(&cluster, &topic);
    following.stall_timeout = "5s".parse().unwrap();
    let (mut log, range) = blocking(move || {
        let mut log = LogReader::open(following).unwrap();
        let range = log.resolve(&Select::All).unwrap();
        log.begin(&range, Until::Stopped).unwrap();
        assert!(matches!(log.next(1000, PATIENCE).unwrap(), LogEvent::Batch(_)));
        (log, range)
    })
    .await;
    assert!(range.topic_id.is_some());
    cluster.admin().delete_topics(&[&topic], &AdminOptions::new()).await.unwrap();
    let error = blocking(move || {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nobody noticed");
            match log.next(1000, Duration::from_millis(100)) {
                Ok(_) => {}
                Err(error) => break error,
            }
        }
    })
    .await;
    assert!(matches!(error, LogError::Vanished { .. }), "{error:?}");
    assert!(error.to_string().contains(&topic), "{error}");

    let anew = rdkafka::admin::NewTopic::new(&topic, 1, rdkafka::admin::TopicReplication::Fixed(1));
    cluster.admin().create_topics([&anew], &AdminOptions::new()).await.unwrap();
    cluster.produce(&topic, spread(200, 1)).await;
    blocking(move || {
        let mut log = LogReader::open(config(&cluster, &topic)).unwrap();
        let error = log.begin(&range, Until::End).unwrap_err();
        assert!(matches!(error, LogError::Recreated { .. }), "{error:?}");
        // Without an id there is nothing to tell by, and the offsets are there.
        let nameless = iotml_kafka::LogRange { topic_id: None, ..range };
        assert_eq!(read(&mut log, &nameless).unwrap().0.len(), 100);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_away_in_the_middle_is_an_error_in_time_and_one_that_comes_back_is_not() {
    let cluster = Cluster::embedded();
    let topic = cluster.topic(1, &[]).await;
    let payload = "x".repeat(1000);
    cluster.produce(&topic, (0..3000).map(|n| (0, format!("{n}"), payload.clone())).collect()).await;
    for comes_back in [true, false] {
        let mut config = config(&cluster, &topic);
        config.stall_timeout = "2s".parse().unwrap();
        config.kafka = config.kafka.set("queued.max.messages.kbytes", 100).set("max.partition.fetch.bytes", 20_000);
        let cluster = &cluster;
        let outcome = tokio::task::block_in_place(move || {
            let mut log = LogReader::open(config).unwrap();
            let range = log.resolve(&Select::All).unwrap();
            log.begin(&range, Until::End).unwrap();
            let mut n_rows = 0;
            let mut down = None;
            loop {
                match log.next(100, Duration::from_millis(100)) {
                    Ok(LogEvent::Batch(batch)) => n_rows += batch.len(),
                    Ok(LogEvent::Idle) if comes_back => cluster.inner().up().unwrap(),
                    Ok(LogEvent::Idle) => {}
                    Ok(LogEvent::End) => break Ok(n_rows),
                    Err(error) => break Err((error, down.map(|at: Instant| at.elapsed()))),
                }
                if n_rows >= 1000 && down.is_none() {
                    cluster.inner().down().unwrap();
                    down = Some(Instant::now());
                }
            }
        });
        cluster.inner().up().unwrap();
        match outcome {
            Ok(n_rows) => assert!(comes_back && n_rows == 3000, "{n_rows}"),
            Err((error, took)) => {
                assert!(!comes_back && matches!(error, LogError::Stalled { partition: 0, .. }), "{error:?}");
                assert!(error.to_string().contains(&cluster.servers), "{error}");
                assert!(took.unwrap() < Duration::from_secs(15), "{took:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_that_pass_cost_no_message() {
    let cluster = Cluster::embedded();
    let topic = cluster.topic(2, &[]).await;
    cluster.produce(&topic, spread(2000, 2)).await;
    let failures = [Failure::NotLeader, Failure::Disconnect, Failure::OffsetOutOfRange, Failure::NotLeader];
    tokio::task::block_in_place(|| {
        let mut log = LogReader::open(config(&cluster, &topic)).unwrap();
        let range = log.resolve(&Select::All).unwrap();
        cluster.inner().fail_next(Request::Fetch, &failures).unwrap();
        assert_eq!(read(&mut log, &range).unwrap().0, expected(&range.partitions, 2));
        cluster.inner().fail_next(Request::Fetch, &[Failure::TopicAuthorization; 4]).unwrap();
        let error = read(&mut log, &range).unwrap_err();
        assert!(error.to_string().contains(&topic) && error.to_string().contains("authoriz"), "{error}");
        cluster.inner().fail_no_more(Request::Fetch).unwrap();
    });
}
