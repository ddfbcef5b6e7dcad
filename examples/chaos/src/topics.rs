//! The Kafka topics of one seed, as the harness sees them: past the proxies, and with a client of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cars::mqtt::SEQ;
use cars::process::Failure;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::check::Row;

/// Partitions of the topics with many rows.
pub const N_PARTITIONS: i32 = 4;
/// How long to wait for one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names of a seed's topics.
#[derive(Clone, Debug)]
pub struct Names {
    pub input: String,
    pub predictions: String,
    pub dead_letters: String,
}

impl Names {
    /// Names that begin with `run`.
    pub fn new(run: &str) -> Self {
        Self {
            input: format!("{run}-input"),
            predictions: format!("{run}-predictions"),
            dead_letters: format!("{run}-dead-letters"),
        }
    }
}

fn client(kafka: u16) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{kafka}"));
    // Kafka is restarted under this client, too, and should be found again at once; a partition that had no leader in the meantime
    // stays unknown to the client until it asks for the next time.
    config.set("reconnect.backoff.max.ms", "500").set("topic.metadata.refresh.interval.ms", "1000");
    config.set("log_level", "2");
    config
}

/// Creates the topics.
pub async fn create(kafka: u16, names: &Names) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = client(kafka).create()?;
    let topic = |name, n_partitions| NewTopic::new(name, n_partitions, TopicReplication::Fixed(1));
    let topics = [
        topic(names.input.as_str(), N_PARTITIONS),
        topic(names.predictions.as_str(), N_PARTITIONS),
        topic(names.dead_letters.as_str(), 1),
    ];
    let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(20)));
    for created in admin.create_topics(&topics, &options).await? {
        created.map_err(|(topic, code)| format!("topic {topic} cannot be created: {code}"))?;
    }
    Ok(())
}

/// Counts the rows of a topic.
#[derive(Clone)]
pub struct Counter {
    kafka: u16,
    /// Made anew when it gets no answer: a client that hears of a cluster without brokers may never connect again.
    consumer: Arc<Mutex<Option<BaseConsumer>>>,
    topic: String,
    n_partitions: i32,
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Counter").field(&self.topic).finish()
    }
}

impl Counter {
    /// Of a topic with so many partitions.
    pub fn new(kafka: u16, topic: &str, n_partitions: i32) -> Self {
        Self { kafka, consumer: Arc::default(), topic: topic.to_owned(), n_partitions }
    }

    /// How many there are; `None` where Kafka does not answer in time.
    pub async fn n_rows(&self) -> Option<u64> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.ask()).await.ok()?
    }

    fn ask(&self) -> Option<u64> {
        let deadline = Instant::now() + PATIENCE;
        let mut kept = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        let consumer: BaseConsumer = kept.take().or_else(|| client(self.kafka).create().ok())?;
        let n_rows = |partition| {
            let (low, high) = watermarks(&consumer, &self.topic, partition, deadline).ok()?;
            u64::try_from(high - low).ok()
        };
        let n_rows = (0..self.n_partitions).map(n_rows).sum::<Option<u64>>()?;
        *kept = Some(consumer);
        Some(n_rows)
    }
}

/// Where a partition begins and ends. A server that was just restarted, or a topic that was just made, is asked again.
fn watermarks(
    consumer: &BaseConsumer,
    topic: &str,
    partition: i32,
    deadline: Instant,
) -> Result<(i64, i64), KafkaError> {
    loop {
        match consumer.fetch_watermarks(topic, partition, PATIENCE) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            answer => return answer,
        }
    }
}

/// Reads a topic from its beginning, and goes on where it was when asked again.
pub struct Reader {
    kafka: u16,
    topic: String,
    /// Rows by partition.
    pub rows: Vec<Vec<Row>>,
    /// Rows that are nobody's: without a car or a number.
    pub n_strange: u64,
}

impl Reader {
    /// Of a topic with so many partitions.
    pub fn new(kafka: u16, topic: &str, n_partitions: i32) -> Self {
        Self { kafka, topic: topic.to_owned(), rows: vec![Vec::new(); n_partitions as usize], n_strange: 0 }
    }

    /// A client for one reading: one that waited through a trouble of Kafka may never connect again.
    fn consumer(&self) -> Result<BaseConsumer, KafkaError> {
        let mut config = client(self.kafka);
        config.set("group.id", "chaos-reader").set("enable.auto.commit", "false");
        // Asking where a topic ends waits behind a fetch.
        config.set("fetch.wait.max.ms", "10");
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        for (partition, rows) in (0..).zip(&self.rows) {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(rows.len() as i64))?;
        }
        consumer.assign(&list)?;
        Ok(consumer)
    }

    /// Reads on to the present end of every partition.
    ///
    /// Errs where that is not possible in `patience`.
    pub fn read(&mut self, patience: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + patience;
        let consumer = self.consumer()?;
        let end_of = |partition| watermarks(&consumer, &self.topic, partition, deadline).map(|(_, end)| end as usize);
        let ends: Vec<usize> = (0..self.rows.len() as i32).map(end_of).collect::<Result<_, _>>()?;
        while self.rows.iter().zip(&ends).any(|(rows, end)| rows.len() < *end) {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) if Instant::now() >= deadline => return Err(error.into()),
                None if Instant::now() >= deadline => {
                    return Err(format!("topic {} could not be read to its end in {patience:?}", self.topic).into());
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let row = row(message);
        self.n_strange += u64::from(row.is_none());
        // In its place all the same, so that rows count like offsets.
        self.rows[message.partition() as usize].push(row.unwrap_or(Row::STRANGE));
    }
}

/// Which message of which car it is.
fn row(message: &BorrowedMessage<'_>) -> Option<Row> {
    let car = str::from_utf8(message.key()?).ok()?.rsplit('-').next()?.parse().ok()?;
    let headers = message.headers()?;
    let seq = headers.iter().find(|header| header.key == SEQ)?.value?;
    Some(Row { car, seq: str::from_utf8(seq).ok()?.parse().ok()? })
}
