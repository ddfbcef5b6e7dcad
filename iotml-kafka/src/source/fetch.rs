//! The fetch thread: the only one that touches the consumer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use iotml_core::batch::{Coordinate, Message, Position, RawBatch, RawMessage};
use iotml_core::error::Cause;
use iotml_core::pipeline::header;
use iotml_core::source::SourceError;
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;

use super::commits::Commits;
use super::gap::{Gap, Jump};
use super::metrics::SourceMetrics;
use super::rebalance::Leaving;
use super::{FetchConsumer, Settings, Shared};
use crate::client::{Fetched, MessageQueue, Verdict, verdict, watermarks};

/// How long the thread sits on one queue before it looks at everything else.
const TICK: Duration = Duration::from_millis(20);

/// How long a batch that is not full may grow while the pipeline is busy with those before it.
const LINGER: Duration = Duration::from_millis(5);

/// How long a member of a bounded read that was given no partition waits for one.
const NEWCOMER: Duration = Duration::from_secs(10);

/// A batch is closed beyond this size, so that a few large messages do not make one huge batch.
const MAX_BATCH_BYTES: usize = 4 << 20;

pub(super) struct Fetcher {
    // The queues are dropped before their consumer, in this order.
    pub queue: MessageQueue,
    pub commits: Commits,
    pub consumer: Arc<FetchConsumer>,
    pub settings: Settings,
    pub shared: Arc<Shared>,
    pub metrics: SourceMetrics,
    /// Partitions being drained; librdkafka waits for us to let them go.
    pub leaving: Option<Leaving>,
    /// An assignment that could not be begun yet, and when to try again.
    pub deferred: Option<(rdkafka::TopicPartitionList, Instant)>,
    /// When the last assignment was carried out.
    pub settled: Option<Instant>,
    last_commit: Instant,
    /// When a rewind that failed is tried again.
    pub next_rewind: Option<Instant>,
    /// The batch being filled, and since when.
    pub open: RawBatch,
    open_since: Instant,
    /// The pipeline was told that nothing is waiting.
    pub idle: bool,
}

impl Fetcher {
    pub fn new(consumer: Arc<FetchConsumer>, settings: Settings, shared: Arc<Shared>, metrics: SourceMetrics) -> Self {
        let queue = MessageQueue::new(&consumer, settings.config.max_batch_rows);
        let commits = Commits::new(&consumer);
        Self {
            queue,
            commits,
            consumer,
            settings,
            shared,
            metrics,
            leaving: None,
            deferred: None,
            settled: None,
            last_commit: Instant::now(),
            next_rewind: None,
            open: RawBatch::default(),
            open_since: Instant::now(),
            idle: false,
        }
    }

    /// Runs until the source is closed or dropped.
    pub fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            self.serve_events();
            self.fetch();
        }
        self.close();
    }

    /// Everything but messages. Never waits for the pipeline (invariant 5).
    fn serve_events(&mut self) {
        match self.consumer.poll(Duration::ZERO) {
            None => {}
            // All messages go to the other queue; a stray one would be read again from its committed offset.
            Some(Ok(message)) => {
                tracing::error!("offset {} came by the wrong queue", rdkafka::Message::offset(&message))
            }
            Some(Err(error)) => self.consumer_error(&error),
        }
        let servers = self.settings.config.kafka.servers().unwrap_or_default();
        self.consumer.context().reports.revive(self.consumer.client(), servers);
        self.serve_rebalances();
        self.serve_rewind();
        self.serve_commits(Duration::ZERO);
        if self.last_commit.elapsed() >= self.settings.config.commit_interval.0 {
            self.commit(|_| true);
            self.last_commit = Instant::now();
            self.measure_lag();
        }
        self.maybe_end();
    }

    fn fetch(&mut self) {
        if !self.shared.handover.wait_for_room(TICK) {
            return;
        }
        if self.queue.take(Duration::ZERO) == 0 {
            if !self.open.is_empty() && self.pipeline_is_busy() {
                self.shared.handover.wait_for_hunger(Duration::from_millis(1));
                return;
            }
            self.hand_over();
            if !std::mem::replace(&mut self.idle, true) {
                self.shared.handover.idle();
            }
            if self.queue.take(TICK) == 0 {
                return;
            }
        }
        self.idle = false;
        self.fill();
        if self.open.len() >= self.settings.config.max_batch_rows / 2 || !self.pipeline_is_busy() {
            self.hand_over();
        }
    }

    /// Whether the open batch may grow a little more: a fuller one costs the pipeline less, and waiting behind others
    /// costs no time.
    fn pipeline_is_busy(&self) -> bool {
        self.open_since.elapsed() < LINGER && self.shared.handover.has_batches()
    }

    /// Numbers the messages taken and puts them into the open batch.
    fn fill(&mut self) {
        if self.open.is_empty() {
            self.open = RawBatch::with_capacity(self.queue.n_taken(), self.queue.n_taken() * 64);
            self.open_since = Instant::now();
        }
        let Self { queue, shared, open, settings, metrics, .. } = self;
        let max_rows = settings.config.max_batch_rows;
        let max_bytes = settings.config.max_message_bytes.map_or(usize::MAX, |max| max.0);
        let mut lanes = shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut errors, mut jumps) = (Vec::new(), Vec::new());
        let (mut n_rows, mut n_bytes) = (0, 0);
        let (mut origin, mut lane) = (None, None);
        queue.drain(|message| {
            if let Some(code) = message.error() {
                errors.push(Trouble::new(code, message));
                return;
            }
            // Neighbours mostly come from one partition.
            if origin != Some(message.origin()) {
                origin = Some(message.origin());
                lane = lanes.index_of(message.topic(), message.partition());
            }
            // Of a lane that leaves nothing new is read: its next owner begins behind what we commit.
            let open_lane = lane.and_then(|index| lanes.at(index)).filter(|lane| !lane.leaving && !lane.finished);
            let Some(open_lane) = open_lane else { return };
            let offset = message.offset();
            if open_lane.end.is_some_and(|end| offset >= end) {
                open_lane.finished = true;
                return;
            }
            if offset != open_lane.next_offset && open_lane.next_offset >= 0 {
                let (topic, partition, wanted) = (open_lane.topic.clone(), open_lane.partition, open_lane.next_offset);
                jumps.push(Jump { topic, partition, wanted, got: offset });
            }
            let position = Position { lane: open_lane.lane, seq: open_lane.number(offset) };
            open_lane.finished = open_lane.end.is_some_and(|end| offset + 1 >= end);
            let (payload, key) = (message.payload(), message.key());
            let (n_payload, n_key) = (payload.map_or(0, <[u8]>::len), key.map_or(0, <[u8]>::len));
            n_rows += 1;
            n_bytes += n_payload + n_key;
            let is_over = n_payload + n_key > max_bytes;
            let (payload, key) =
                if is_over { (first(payload, max_bytes), first(key, max_bytes)) } else { (payload, key) };
            open.push(RawMessage {
                message: Message { payload, key, time: message.time(), topic: Some(&open_lane.topic), target: None },
                position,
                coordinate: Coordinate { partition: message.partition(), offset },
            });
            message.headers(|name, value| open.push_header(name, value));
            if is_over {
                open.push_header(header::CUT, Some(n_payload.to_string().as_bytes()));
                open.reject(Cause::over_limit(n_payload + n_key, max_bytes));
            }
            if open.len() >= max_rows || open.n_bytes() >= MAX_BATCH_BYTES {
                shared.handover.batch(std::mem::take(open));
            }
        });
        drop(lanes);
        metrics.fetched(n_rows, n_bytes);
        for jump in jumps {
            self.jumped(&jump);
        }
        for trouble in errors {
            self.partition_error(trouble);
        }
    }

    pub fn hand_over(&mut self) {
        if !self.open.is_empty() {
            self.shared.handover.batch(std::mem::take(&mut self.open));
        }
    }

    fn partition_error(&mut self, trouble: Trouble) {
        let Trouble { code, text, topic, partition, offset } = trouble;
        match code {
            RDKafkaErrorCode::PartitionEOF => self.finish(&topic, partition, offset),
            RDKafkaErrorCode::AutoOffsetReset => {
                self.hand_over();
                self.gap(&Gap { topic, partition, text });
            }
            // A topic that goes while a pattern is read is no error; the group is told by a rebalance.
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic
                if self.settings.config.topics_regex.is_some() =>
            {
                tracing::warn!("topic {topic:?} is gone");
            }
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
                let name =
                    if topic.is_empty() { "a topic that is read".to_owned() } else { format!("topic {topic:?}") };
                self.shared.handover.event(Err(SourceError::fatal(format!("{name} does not exist any more: {text}"))));
            }
            code if verdict(code) == Verdict::Fatal => {
                let message = format!("topic {topic:?} partition {partition} cannot be read: {text}");
                self.shared.handover.event(Err(SourceError::fatal_from(message, code)));
            }
            _ => tracing::warn!("reading topic {topic:?} partition {partition} is interrupted: {text}"),
        }
    }

    fn consumer_error(&mut self, error: &rdkafka::error::KafkaError) {
        match error {
            rdkafka::error::KafkaError::MessageConsumptionFatal(code) => {
                self.shared.handover.event(Err(SourceError::fatal_from("the consumer cannot go on", *code)));
            }
            error => match error.rdkafka_error_code() {
                Some(code) if verdict(code) == Verdict::Fatal => {
                    let why = self.consumer.context().reports.refusal().unwrap_or_else(|| code.to_string());
                    let message = format!("Kafka refuses the consumer: {why}");
                    self.shared.handover.event(Err(SourceError::fatal_from(message, code)));
                }
                Some(RDKafkaErrorCode::UnknownTopicOrPartition) => self.partition_error(Trouble {
                    code: RDKafkaErrorCode::UnknownTopicOrPartition,
                    text: error.to_string(),
                    topic: String::new(),
                    partition: -1,
                    offset: -1,
                }),
                // Connections come and go; librdkafka reconnects by itself.
                _ => tracing::warn!("Kafka: {error}"),
            },
        }
    }

    fn finish(&mut self, topic: &str, partition: i32, offset: i64) {
        let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.of_partition(topic, partition)
            && lane.end.is_some_and(|end| offset >= end)
        {
            lane.finished = true;
        }
    }

    fn maybe_end(&mut self) {
        let Some(settled) = self.settled.filter(|_| self.settings.config.stop_at_end) else { return };
        if self.leaving.is_some() || self.deferred.is_some() {
            return;
        }
        let all = {
            let lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            // A member that joins late is given nothing at first.
            lanes.iter().all(|lane| lane.finished) && (lanes.iter().next().is_some() || settled.elapsed() > NEWCOMER)
        };
        if all {
            self.hand_over();
            self.shared.handover.end();
        }
    }

    fn measure_lag(&self) {
        let lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        for lane in lanes.iter().filter(|lane| lane.next_offset >= 0) {
            if let Some((_, high)) = watermarks(&self.consumer, &lane.topic, lane.partition) {
                self.metrics.lag(&lane.topic, lane.partition, (high - lane.next_offset).max(0));
            }
        }
    }

    fn close(mut self) {
        self.hand_over();
        self.finish_rebalances();
        self.commit_and_wait(|_| true);
        if self.shared.leaves.load(Ordering::Acquire) {
            self.leave_group();
        }
        // Dropping the consumer leaves the group, which hands the partitions to others at once; but not as a static member.
        self.consumer.context().close();
    }
}

/// The first `max` bytes.
fn first(bytes: Option<&[u8]>, max: usize) -> Option<&[u8]> {
    bytes.map(|bytes| &bytes[..bytes.len().min(max)])
}

/// An error in the place of a message.
#[derive(Debug)]
struct Trouble {
    code: RDKafkaErrorCode,
    text: String,
    topic: String,
    partition: i32,
    offset: i64,
}

impl Trouble {
    fn new(code: RDKafkaErrorCode, message: Fetched<'_>) -> Self {
        Self {
            code,
            text: message.error_text(),
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
        }
    }
}
