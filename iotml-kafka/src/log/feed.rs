//! Partitions that are fetched into one queue, and how far each is read.

use iotml_core::batch::{Coordinate, Lane, Message, Position, RawBatch, RawMessage};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use super::native::Topic;
use super::progress::LogProgress;
use crate::client::MessageQueue;

/// Most messages taken at once.
const MAX_TAKEN: usize = 16_384;

/// Partitions that share a queue: one of them where the order of partitions counts, all of them where they are followed.
pub(super) struct Feed {
    pub queue: MessageQueue,
    pub parts: Vec<Part>,
}

/// One partition that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub partition: i32,
    /// The next offset.
    pub next: i64,
    /// One behind the last offset; `None` where it is followed.
    pub end: Option<i64>,
    /// Number of the next message.
    seq: u64,
    pub finished: bool,
}

/// An error in the place of a message.
#[derive(Debug)]
pub(super) struct Trouble {
    pub code: RDKafkaErrorCode,
    pub text: String,
    pub partition: i32,
}

impl Part {
    pub fn new(partition: i32, start: i64, end: Option<i64>) -> Self {
        Self { partition, next: start, end, seq: 0, finished: end.is_some_and(|end| start >= end) }
    }

    /// Goes on at `offset`; what lies between is counted as without messages. Returns how much of it is in the range.
    pub fn advance(&mut self, offset: i64) -> u64 {
        let to = self.end.map_or(offset, |end| offset.min(end));
        let passed = u64::try_from(to - self.next).unwrap_or_default();
        self.next = self.next.max(to);
        self.finished = self.end.is_some_and(|end| self.next >= end);
        passed
    }
}

impl Feed {
    /// Begins to fetch partitions, which must not be fetched already.
    pub fn start<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        topic: &Topic,
        parts: Vec<Part>,
    ) -> Result<Self, RDKafkaErrorCode> {
        let feed = Self { queue: MessageQueue::new(consumer, MAX_TAKEN), parts };
        for (n, part) in feed.parts.iter().enumerate() {
            if let Err(code) = topic.start(part.partition, part.next, &feed.queue) {
                feed.parts[..n].iter().for_each(|part| topic.stop(part.partition));
                return Err(code);
            }
        }
        Ok(feed)
    }

    /// Stops fetching.
    pub fn stop(self, topic: &Topic) {
        self.parts.iter().for_each(|part| topic.stop(part.partition));
    }

    pub fn is_finished(&self) -> bool {
        self.parts.iter().all(|part| part.finished)
    }

    pub fn part(&mut self, partition: i32) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.partition == partition)
    }

    /// Moves the messages taken from the queue into `batch`, and returns the errors among them.
    pub fn fill(&mut self, topic: &str, batch: &mut RawBatch, progress: &mut LogProgress) -> Vec<Trouble> {
        let Self { queue, parts } = self;
        let mut troubles = Vec::new();
        let mut at = 0;
        let (mut n_messages, mut n_bytes) = (0, 0);
        queue.drain(|message| {
            let partition = message.partition();
            // Neighbours mostly come from one partition.
            if parts.get(at).is_none_or(|part| part.partition != partition) {
                let Some(found) = parts.iter().position(|part| part.partition == partition) else {
                    let Some(code) = message.error() else { return };
                    return troubles.push(Trouble { code, text: message.error_text(), partition });
                };
                at = found;
            }
            let part = &mut parts[at];
            match message.error() {
                None => {}
                Some(RDKafkaErrorCode::PartitionEOF) => {
                    // What stands between the last message and the end are marks of transactions and compacted messages.
                    let passed = part.advance(message.offset());
                    progress.n_holes += passed;
                    progress.n_offsets += passed;
                    return;
                }
                Some(code) => return troubles.push(Trouble { code, text: message.error_text(), partition }),
            }
            let offset = message.offset();
            if part.finished || offset < part.next {
                return;
            }
            if offset > part.next {
                let holes = part.advance(offset);
                progress.n_holes += holes;
                progress.n_offsets += holes;
                if part.finished {
                    return;
                }
            }
            let (payload, key) = (message.payload(), message.key());
            n_messages += 1;
            n_bytes += payload.map_or(0, <[u8]>::len) + key.map_or(0, <[u8]>::len);
            batch.push(RawMessage {
                message: Message { payload, key, time: message.time(), topic: Some(topic), target: None },
                position: Position { lane: Lane(partition as u32), seq: part.seq },
                coordinate: Coordinate { partition, offset },
            });
            message.headers(|name, value| batch.push_header(name, value));
            part.seq += 1;
            part.advance(offset + 1);
        });
        progress.n_messages += n_messages;
        progress.n_offsets += n_messages;
        progress.n_bytes += n_bytes as u64;
        troubles
    }
}
