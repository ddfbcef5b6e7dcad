//! The log reader: which messages of a range come, and in which order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use iotml_core::batch::RawBatch;
use iotml_kafka::{LogError, LogEvent, LogProgress, LogRange, LogReader, LogReaderConfig, Select, Span, Until};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::cluster::{Cluster, PATIENCE, blocking, text};

/// Partition, offset, payload.
pub type Row = (i32, i64, String);

pub fn config(cluster: &Cluster, topic: &str) -> LogReaderConfig {
    let mut config = LogReaderConfig::new(&cluster.servers, topic);
    if let Ok(contexts) = std::env::var("IOTML_KAFKA_DEBUG") {
        config.kafka = config.kafka.set("debug", contexts);
    }
    config
}

pub fn rows(batch: &RawBatch) -> Vec<Row> {
    let row = |row| {
        let place = batch.coordinate(row);
        (place.partition, place.offset, text(batch.messages().payload(row).unwrap_or_default()))
    };
    (0..batch.len()).map(row).collect()
}

/// Reads a range to its end.
pub fn read(log: &mut LogReader, range: &LogRange) -> Result<(Vec<Row>, LogProgress), LogError> {
    log.begin(range, Until::End)?;
    let (mut all, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < deadline, "{} rows of {range}, then nothing", all.len());
        match log.next(1000, Duration::from_millis(100))? {
            LogEvent::Batch(batch) => all.extend(rows(&batch)),
            LogEvent::Idle => {}
            LogEvent::End => return Ok((all, log.progress())),
        }
    }
}

pub fn spans(list: &[(i32, i64, i64)]) -> BTreeMap<i32, Span> {
    list.iter().map(|(partition, start, end)| (*partition, Span::new(*start, *end).unwrap())).collect()
}

/// `n` numbered messages, in turn to each partition.
pub fn spread(n: i64, n_partitions: i64) -> Vec<(i32, String, String)> {
    (0..n).map(|n| ((n % n_partitions) as i32, format!("k{n}"), format!("{n:06}"))).collect()
}

/// What [`spread`] wrote to these offsets.
pub fn expected(spans: &BTreeMap<i32, Span>, n_partitions: i64) -> Vec<Row> {
    let of = |(&partition, span): (&i32, &Span)| {
        (span.start..span.end)
            .map(move |at| (partition, at, format!("{:06}", at * n_partitions + i64::from(partition))))
    };
    spans.iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_gives_its_messages_by_partition_then_offset_and_gives_them_again() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(4, &[]).await;
        cluster.produce(&topic, spread(20_000, 4)).await;
        blocking(move || {
            let mut log = LogReader::open(config(&cluster, &topic)).unwrap();
            let all = log.resolve(&Select::All).unwrap();
            assert_eq!(all.partitions, spans(&[(0, 0, 5000), (1, 0, 5000), (2, 0, 5000), (3, 0, 5000)]));
            let (first, progress) = read(&mut log, &all).unwrap();
            assert_eq!(first, expected(&all.partitions, 4));
            assert_eq!((progress.n_messages, progress.n_offsets, progress.lag), (20_000, 20_000, 0));
            assert_eq!((progress.n_offsets_total, progress.n_holes), (Some(20_000), 0));
            let mut again = LogReader::open(config(&cluster, &topic)).unwrap();
            assert_eq!(read(&mut again, &all).unwrap().0, first);
            // The same reader, parts of partitions, some of them empty.
            let part = Select::Offsets(spans(&[(0, 17, 17), (1, 4000, 4999), (3, 0, 1)]));
            let part = log.resolve(&part).unwrap();
            assert_eq!(read(&mut log, &part).unwrap().0, expected(&part.partitions, 4));
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_messages_are_those_before_the_end_as_of_the_question() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(2, &[]).await;
        cluster.produce(&topic, spread(100, 2)).await;
        let (topic2, servers) = (topic.clone(), cluster.servers.clone());
        let range = blocking(move || {
            let log = LogReader::open(LogReaderConfig::new(&servers, &topic2)).unwrap();
            log.resolve(&Select::Last(31)).unwrap()
        })
        .await;
        assert_eq!(range.partitions, spans(&[(0, 34, 50), (1, 35, 50)]));
        cluster.produce(&topic, spread(100, 2)).await;
        let stored = serde_json::to_string(&range).unwrap();
        blocking(move || {
            let mut log = LogReader::open(config(&cluster, &topic)).unwrap();
            let range: LogRange = serde_json::from_str(&stored).unwrap();
            assert_eq!(
                read(&mut log, &range).unwrap().0,
                expected(&range.partitions, 2),
                "what came later is not read"
            );
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_by_time_begins_with_the_first_message_that_is_not_older() {
    // The in-memory cluster knows no times.
    let Some(cluster) = Cluster::real() else { return };
    let topic = cluster.topic(2, &[]).await;
    let (client, name) = (cluster.client(), topic.clone());
    blocking(move || {
        let producer: ThreadedProducer<DefaultProducerContext> = client.create().unwrap();
        for n in 0..20i64 {
            let payload = format!("{n:06}");
            let record = BaseRecord::<(), _>::to(&name).partition((n % 2) as i32).payload(&payload);
            producer.send(record.timestamp(1_700_000_000_000 + n * 1000)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        let mut log = LogReader::open(config(&cluster, &name)).unwrap();
        let at = |n: i64| Some(1_700_000_000_000 + n * 1000);
        for (select, want) in [
            (Select::Times { from: at(4), to: at(9) }, spans(&[(0, 2, 5), (1, 2, 4)])),
            (
                Select::Times { from: at(4).map(|at| at - 1), to: at(9).map(|at| at + 1) },
                spans(&[(0, 2, 5), (1, 2, 5)]),
            ),
            (Select::Times { from: None, to: at(3) }, spans(&[(0, 0, 2), (1, 0, 1)])),
            (Select::Times { from: at(18), to: None }, spans(&[(0, 9, 10), (1, 9, 10)])),
            (Select::Times { from: at(100), to: None }, spans(&[(0, 10, 10), (1, 10, 10)])),
        ] {
            let range = log.resolve(&select).unwrap();
            assert_eq!(range.partitions, want, "{select:?}");
            assert_eq!(read(&mut log, &range).unwrap().0, expected(&want, 2));
        }
        let backwards = log.resolve(&Select::Times { from: at(9), to: at(4) }).unwrap_err();
        assert!(matches!(backwards, LogError::Config(_)), "{backwards}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_topic_gives_what_is_there_and_what_comes() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(3, &[]).await;
        cluster.produce(&topic, spread(3000, 3)).await;
        let (servers, name) = (cluster.servers.clone(), topic.clone());
        let (begun, ready) = tokio::sync::oneshot::channel();
        let reader = tokio::task::spawn_blocking(move || {
            let mut log = LogReader::open(LogReaderConfig::new(&servers, &name)).unwrap();
            let range = log.resolve(&Select::Last(300)).unwrap();
            log.begin(&range, Until::Stopped).unwrap();
            begun.send(()).unwrap();
            let (mut all, deadline) = (Vec::new(), Instant::now() + PATIENCE);
            while all.len() < 600 {
                assert!(Instant::now() < deadline, "{} rows", all.len());
                if let LogEvent::Batch(batch) = log.next(1000, Duration::from_millis(50)).unwrap() {
                    all.extend(rows(&batch));
                }
            }
            (all, log.progress())
        });
        ready.await.unwrap();
        cluster.produce(&topic, spread(300, 3)).await;
        let (mut all, progress) = reader.await.unwrap();
        // In order within each partition, so a stable sort gives the order of a bounded read.
        all.sort_by_key(|(partition, ..)| *partition);
        let mut want = expected(&spans(&[(0, 900, 1000), (1, 900, 1000), (2, 900, 1000)]), 3);
        let later = expected(&spans(&[(0, 0, 100), (1, 0, 100), (2, 0, 100)]), 3);
        want.extend(later.into_iter().map(|(partition, at, text)| (partition, at + 1000, text)));
        want.sort_by_key(|(partition, ..)| *partition);
        assert_eq!(all, want);
        assert_eq!((progress.n_offsets_total, progress.n_messages), (None, 600));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_added_to_a_followed_topic_are_read_from_their_beginning() {
    let Some(cluster) = Cluster::real() else { return };
    let topic = cluster.topic(1, &[]).await;
    let (servers, name) = (cluster.servers.clone(), topic.clone());
    let (begun, ready) = tokio::sync::oneshot::channel();
    let reader = tokio::task::spawn_blocking(move || {
        let mut log = LogReader::open(LogReaderConfig::new(&servers, &name)).unwrap();
        let range = log.resolve(&Select::All).unwrap();
        log.begin(&range, Until::Stopped).unwrap();
        begun.send(()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nothing of the new partition");
            if let LogEvent::Batch(batch) = log.next(1000, Duration::from_millis(50)).unwrap() {
                return rows(&batch);
            }
        }
    });
    ready.await.unwrap();
    let more = rdkafka::admin::NewPartitions::new(&topic, 2);
    cluster.admin().create_partitions([&more], &rdkafka::admin::AdminOptions::new()).await.unwrap();
    cluster.produce(&topic, vec![(1, "k".into(), "new".into())]).await;
    assert_eq!(reader.await.unwrap(), [(1, 0, "new".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_holds_little_while_nobody_takes_from_it() {
    for cluster in Cluster::all() {
        let topic = cluster.topic(4, &[]).await;
        // The in-memory cluster keeps 5 MiB of a partition.
        let payload = "x".repeat(1000);
        let messages = (0..16_000).map(|n| (n % 4, format!("{n}"), payload.clone())).collect();
        cluster.produce(&topic, messages).await;
        blocking(move || {
            let mut config = config(&cluster, &topic);
            config.kafka = config.kafka.set("queued.max.messages.kbytes", 256).set("max.partition.fetch.bytes", 65_536);
            let mut log = LogReader::open(config).unwrap();
            let range = log.resolve(&Select::All).unwrap();
            log.begin(&range, Until::End).unwrap();
            let mut batches = Vec::new();
            loop {
                match log.next(100_000, Duration::from_millis(100)).unwrap() {
                    LogEvent::Batch(batch) => batches.push(batch.n_bytes()),
                    LogEvent::Idle => {}
                    LogEvent::End => break,
                }
            }
            // A batch is closed at 4 MiB, by what was fetched ahead: the queue and one response over it.
            assert!(batches.len() >= 4 && *batches.iter().max().unwrap() < 5 << 20, "{batches:?}");
            assert_eq!(log.progress().n_messages, 16_000);
        })
        .await;
    }
}
