//! Exactly once on a real Kafka; the in-memory cluster writes no transaction markers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iotml_core::async_trait;
use iotml_core::decode::PassThrough;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{
    Delivery, Pipeline, PipelineHandle, PipelineOptions, PipelineSpec, Route, TaskContext, TaskStages, Tolerance,
};
use iotml_core::sink::{Outgoing, Sink, SinkError, Transaction, Written};
use iotml_kafka::{KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig};
use rdkafka::Message;

use crate::cluster::{Cluster, blocking, text, unique, until};

/// A sink of which every so many writes fail after the rows were handed over.
struct Flaky {
    inner: KafkaSink,
    every: usize,
    n_writes: Arc<AtomicUsize>,
}

#[async_trait]
impl Sink for Flaky {
    async fn open(&self, task: &TaskContext) -> Result<(), SinkError> {
        self.inner.open(task).await
    }

    fn max_in_flight(&self) -> usize {
        self.inner.max_in_flight()
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let number = self.n_writes.fetch_add(1, Ordering::Relaxed) + 1;
        let written = self.inner.write(rows).await;
        if number.is_multiple_of(self.every) { Err(SinkError::retryable("as told")) } else { written }
    }

    fn is_transactional(&self) -> bool {
        true
    }

    fn transaction(&self) -> Option<Arc<dyn Transaction>> {
        self.inner.transaction()
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.inner.close().await
    }
}

/// A pipeline from one topic to another, with dead letters.
#[derive(Clone)]
struct Worker {
    source: KafkaSourceConfig,
    sink: KafkaSinkConfig,
    dead: KafkaSinkConfig,
    /// Every so many writes fail.
    fails: usize,
}

impl Worker {
    fn start(&self, name: &str, instance: &str) -> PipelineHandle {
        let worker = self.clone();
        let n_writes = Arc::new(AtomicUsize::new(0));
        let mut spec = PipelineSpec::new(name, move |context| {
            let inner = KafkaSink::new(worker.sink.clone(), context)?;
            let sink = Arc::new(Flaky { inner, every: worker.fails, n_writes: n_writes.clone() });
            Ok(TaskStages {
                dead_letter: Some(Arc::new(KafkaSink::new(worker.dead.clone(), context)?)),
                ..TaskStages::new(
                    Box::new(KafkaSource::new(worker.source.clone(), context)?),
                    Box::new(PassThrough),
                    vec![Route::required("out", None, sink)],
                )
            })
        });
        spec.instance = instance.into();
        spec.options = PipelineOptions {
            delivery: Delivery::ExactlyOnce,
            transaction_interval: Duration::from_millis(50),
            tolerance: Tolerance::All,
            retry_delay_max: Duration::from_millis(100),
            ..PipelineOptions::default()
        };
        Pipeline::start(spec, Metrics::default()).unwrap()
    }
}

async fn end(handle: PipelineHandle) -> iotml_core::pipeline::Summary {
    blocking(move || handle.wait().unwrap()).await
}

/// How often each payload is in a topic, for readers of committed messages.
async fn counts(cluster: &Cluster, topic: &str, n: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in cluster.read(topic, n).await {
        *counts.entry(text(message.payload().unwrap_or_default())).or_default() += 1;
    }
    counts
}

fn messages(range: std::ops::Range<usize>, partitions: i32) -> Vec<(i32, String, String)> {
    range.map(|n| (n as i32 % partitions, "key".to_owned(), format!("{n:06}"))).collect()
}

async fn worker(cluster: &Cluster, partitions: u16) -> (Worker, [String; 3], String) {
    let [from, to, dead] =
        [cluster.topic(partitions, &[]).await, cluster.topic(3, &[]).await, cluster.topic(1, &[]).await];
    let group = unique("group");
    let mut source = cluster.reads(&from, &group);
    source.max_batch_rows = 100;
    let worker = Worker {
        source,
        sink: KafkaSinkConfig::new(&cluster.servers, Some(&to)),
        dead: KafkaSinkConfig::new(&cluster.servers, Some(&dead)),
        fails: usize::MAX,
    };
    (worker, [from, to, dead], group)
}

async fn committed(cluster: &Cluster, group: &str, topic: &str, partitions: i32) -> i64 {
    let mut sum = 0;
    for partition in 0..partitions {
        sum += cluster.committed(group, topic, partition).await.unwrap_or(0);
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_9_rows_come_once_and_offsets_are_committed_with_them() {
    let Some(cluster) = Cluster::real() else { return };
    let (mut worker, [from, to, _], group) = worker(&cluster, 3).await;
    worker.source.stop_at_end = true;
    cluster.produce(&from, messages(0..20_000, 3)).await;
    let handle = worker.start(&unique("pipeline"), "a");
    let summary = end(handle).await;
    assert!(summary.is_drained && summary.audit.delivered == 20_000, "{}", summary.audit);
    let counts = counts(&cluster, &to, 20_000).await;
    assert!(counts.len() == 20_000 && counts.values().all(|times| *times == 1));
    assert_eq!(committed(&cluster, &group, &from, 3).await, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_9_aborted_rows_are_read_again_and_never_seen_twice() {
    let Some(cluster) = Cluster::real() else { return };
    let (mut worker, [from, to, _], group) = worker(&cluster, 3).await;
    worker.source.stop_at_end = true;
    worker.fails = 25;
    cluster.produce(&from, messages(0..10_000, 3)).await;
    let summary = end(worker.start(&unique("pipeline"), "a")).await;
    assert!(summary.is_drained && summary.audit.balances() && summary.audit.returned > 0, "{}", summary.audit);
    let counts = counts(&cluster, &to, 10_000).await;
    let doubled = counts.values().filter(|times| **times > 1).count();
    assert_eq!((counts.len(), doubled), (10_000, 0));
    assert_eq!(committed(&cluster, &group, &from, 3).await, 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_9_partitions_that_move_between_two_workers_double_nothing() {
    let Some(cluster) = Cluster::real() else { return };
    for strategy in ["cooperative-sticky", "range"] {
        let (mut worker, [from, to, _], group) = worker(&cluster, 6).await;
        worker.source.kafka = worker.source.kafka.set("partition.assignment.strategy", strategy);
        worker.fails = 400;
        let name = unique("pipeline");
        let produce = async |from_n: usize| cluster.produce(&from, messages(from_n..from_n + 10_000, 6)).await;
        let reached = async |n: i64| {
            until("the rows are committed", async || committed(&cluster, &group, &from, 6).await >= n).await
        };
        let first = worker.start(&name, "a");
        produce(0).await;
        reached(1000).await;
        let second = worker.start(&name, "b");
        produce(10_000).await;
        until("both have partitions", async || first.n_lanes() == 3 && second.n_lanes() == 3).await;
        produce(20_000).await;
        reached(21_000).await;
        first.stop();
        let summary = end(first).await;
        assert!(summary.is_drained && summary.audit.balances(), "{}", summary.audit);
        produce(30_000).await;
        reached(40_000).await;
        second.stop();
        assert!(end(second).await.is_drained);
        let counts = counts(&cluster, &to, 40_000).await;
        let doubled = counts.values().filter(|times| **times > 1).count();
        assert_eq!((counts.len(), doubled), (40_000, 0), "{strategy}");
        assert_eq!(committed(&cluster, &group, &from, 6).await, 40_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_7_and_9_a_row_beyond_the_limits_of_its_topic_is_dead_lettered_in_the_same_transaction() {
    let Some(cluster) = Cluster::real() else { return };
    // With the smaller limit the dead letter is too large, too, and is shortened.
    for (dead_limit, kept) in [("1000000", 30_000..=30_000), ("20000", 10_000..=19_000)] {
        let (mut worker, [from, ..], group) = worker(&cluster, 1).await;
        let to = cluster.topic(1, &[("max.message.bytes", "20000")]).await;
        let dead = cluster.topic(1, &[("max.message.bytes", dead_limit)]).await;
        (worker.sink.topic, worker.dead.topic) = (Some(to.clone()), Some(dead.clone()));
        worker.source.stop_at_end = true;
        let mut rows = messages(0..1000, 1);
        rows[500].2 = "x".repeat(30_000);
        cluster.produce(&from, rows).await;
        let summary = end(worker.start(&unique("pipeline"), "a")).await;
        assert_eq!((summary.audit.delivered, summary.audit.dead_lettered), (999, 1), "{}", summary.audit);
        let dead = counts(&cluster, &dead, 1).await;
        assert!(dead.len() == 1 && dead.keys().all(|payload| kept.contains(&payload.len())));
        let counts = counts(&cluster, &to, 999).await;
        assert!(counts.len() == 999 && counts.values().all(|times| *times == 1));
        assert_eq!(committed(&cluster, &group, &from, 1).await, 1000);
    }
}

/// Two workers of the same names are two runs of one: the younger ends what the older has open, and that one gives up.
#[tokio::test(flavor = "multi_thread")]
async fn inv_9_of_two_workers_with_one_name_the_older_is_fenced() {
    let Some(cluster) = Cluster::real() else { return };
    let (worker, [from, to, _], group) = worker(&cluster, 2).await;
    let name = unique("pipeline");
    cluster.produce(&from, messages(0..5000, 2)).await;
    let older = worker.start(&name, "same");
    until("the older works", async || committed(&cluster, &group, &from, 2).await > 0).await;
    let younger = worker.start(&name, "same");
    cluster.produce(&from, messages(5000..10_000, 2)).await;
    let fenced = tokio::spawn({
        let from = from.clone();
        let cluster = Cluster::real().unwrap();
        async move {
            // It is found out at its next commit.
            let mut n = 10_000;
            while !older.is_finished() {
                cluster.produce(&from, messages(n..n + 10, 2)).await;
                n += 10;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (n, blocking(move || older.wait().unwrap_err().report()).await)
        }
    });
    let (n, report) = fenced.await.unwrap();
    assert!(report.contains("another has taken over") && report.contains("instance name"), "{report}");
    until("the younger is through", async || committed(&cluster, &group, &from, 2).await == n as i64).await;
    younger.stop();
    assert!(end(younger).await.is_drained);
    let counts = counts(&cluster, &to, n).await;
    assert!(counts.len() == n && counts.values().all(|times| *times == 1));
}
