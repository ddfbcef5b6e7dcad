//! Hands rows to librdkafka in order, and sorts out what became of them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use iotml_core::batch::{Messages, Rejected};
use iotml_core::error::{Cause, Reason};
use iotml_core::metrics::{Counter, Metrics};
use iotml_core::sink::{SinkError, Written};
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode;

use super::config::TopicCreation;
use super::create::{Limits, Topics};
use super::delivery::Pending;
use super::handles::Handles;
use super::producer::{Place, Producing};
use super::topic::TopicRule;
use crate::client::{Verdict, verdict};

/// An open sink.
pub(super) struct Open {
    place: Place,
    /// What it writes is part of transactions; then these are the limits of its topic.
    transactional: Option<Limits>,
    topic: TopicRule,
    creator: Option<(TopicCreation, Topics)>,
    rows: Counter,
    bytes: Counter,
    refused: Counter,
    waits: Counter,
}

/// Rows handed to librdkafka.
struct Sent {
    pending: Arc<Pending>,
    /// Rows that librdkafka did not even take.
    rejected: Vec<Rejected>,
    /// Rows left out behind one that could not be handed over, to keep their order.
    retryable: Vec<Rejected>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Open {
    pub fn new(
        (place, transactional): (Place, Option<Limits>),
        (topic, creator): (TopicRule, Option<(TopicCreation, Topics)>),
        metrics: &Metrics,
    ) -> Self {
        let counter = |name: &str, help: &str| metrics.counter(&format!("iotml_sink_kafka_{name}"), help, &[]);
        Self {
            place,
            transactional,
            topic,
            creator,
            rows: counter("delivered_messages", "Messages that all in-sync replicas have."),
            bytes: counter("delivered_bytes", "Bytes of keys and payloads handed to Kafka."),
            refused: counter("refused_messages", "Messages that Kafka will never take."),
            waits: counter("queue_full", "Times that a write waited for room in the queue of the producer."),
        }
    }

    /// The producer; made by then, for a transaction is opened before anything is written.
    pub fn producing(&self) -> Result<&Producing, SinkError> {
        self.place.get().ok_or_else(|| SinkError::fatal("the transaction of the sink is not open"))
    }

    pub async fn write(&self, messages: &Messages) -> Result<Written, SinkError> {
        let producing = self.producing()?;
        let all: Vec<u32> = (0..messages.len() as u32).collect();
        let sent = {
            let mut turn = producing.turn.lock().await;
            self.create_missing(messages, &mut turn.known).await?;
            self.send((producing, &mut turn.handles), messages, &all).await?
        };
        let failed = producing.patiently(sent.pending.done()).await;
        if let (Some(_), Some((row, code))) = (self.transactional, failed.first()) {
            return Err(self.doomed(producing, *code, messages, *row));
        }
        let mut written = Written { rejected: sent.rejected, retryable: sent.retryable };
        let suspects: Vec<u32> = refused_as_batch(&failed).iter().map(|(row, _)| *row).collect();
        self.sort_out(producing, messages, failed, &mut written)?;
        if !suspects.is_empty() {
            self.single_out(producing, messages, suspects, &mut written).await?;
        }
        written.rejected.sort_unstable_by_key(|rejected| rejected.row);
        written.retryable.sort_unstable_by_key(|rejected| rejected.row);
        self.refused.inc_by(written.rejected.len() as u64);
        self.rows.inc_by((messages.len() - written.rejected.len() - written.retryable.len()) as u64);
        Ok(written)
    }

    /// Hands `rows` to librdkafka, in order. To be called by whoever's turn it is.
    async fn send(
        &self,
        (producing, handles): (&Producing, &mut Handles),
        messages: &Messages,
        rows: &[u32],
    ) -> Result<Sent, SinkError> {
        let Producing { producer, deliveries, .. } = producing;
        let mut enqueuing = deliveries.enqueue(rows.len());
        let mut sent = Sent { pending: enqueuing.pending.clone(), rejected: Vec::new(), retryable: Vec::new() };
        let mut n_bytes = 0;
        for (at, &row) in rows.iter().enumerate() {
            let topic = match self.topic.topic(messages, row as usize) {
                Ok(topic) => topic,
                Err(cause) => {
                    sent.rejected.push(Rejected { row, cause });
                    continue;
                }
            };
            if let Some(reason) = self.transactional.and_then(|limits| limits.refuse(messages, row as usize)) {
                // The broker would refuse it, and with it the transaction.
                let cause = refusal(reason, "it is beyond the topic's limits", &topic, messages, row);
                sent.rejected.push(Rejected { row, cause });
                continue;
            }
            n_bytes += messages.payload(row as usize).map_or(0, <[u8]>::len);
            n_bytes += messages.key(row as usize).map_or(0, <[u8]>::len);
            let (of, ticket) = ((messages, row as usize), enqueuing.pending.ticket(row));
            loop {
                let Err(code) = handles.send(producer, &topic, of, ticket) else {
                    enqueuing.handed_over();
                    break;
                };
                if code == RDKafkaErrorCode::QueueFull {
                    self.waits.inc();
                    deliveries.watch();
                    // Once more, in case the last delivery came just before the watch.
                    if handles.send(producer, &topic, of, ticket).is_ok() {
                        enqueuing.handed_over();
                        break;
                    }
                    // librdkafka frees places only after it has reported their deliveries, so the last report may be too early.
                    let _ = tokio::time::timeout(FULL_QUEUE_PAUSE, deliveries.next()).await;
                    continue;
                }
                match self.judge(code) {
                    Verdict::Fatal => return Err(self.fatal(producing, code)),
                    Verdict::Record(reason) => {
                        let cause = refusal(reason, code, &topic, messages, row);
                        sent.rejected.push(Rejected { row, cause });
                    }
                    Verdict::Retryable => {
                        // To go on behind it would change the order.
                        let cause = Cause::new(Reason::Refused, code.to_string());
                        sent.retryable =
                            rows[at..].iter().map(|row| Rejected { row: *row, cause: cause.clone() }).collect();
                        return Ok(sent);
                    }
                }
                break;
            }
        }
        self.bytes.inc_by(n_bytes as u64);
        Ok(sent)
    }

    /// Enters what became of rows into `written`, except those that a broker refused with their whole batch.
    fn sort_out(
        &self,
        producing: &Producing,
        messages: &Messages,
        failed: Vec<(u32, RDKafkaErrorCode)>,
        written: &mut Written,
    ) -> Result<(), SinkError> {
        for (row, code) in failed {
            if BATCH_WIDE.contains(&code) {
                continue;
            }
            match self.judge(code) {
                Verdict::Fatal => return Err(self.fatal(producing, code)),
                Verdict::Record(reason) => {
                    let topic = self.topic.topic(messages, row as usize).unwrap_or(Cow::Borrowed(""));
                    let cause = refusal(reason, code, &topic, messages, row);
                    written.rejected.push(Rejected { row, cause });
                }
                Verdict::Retryable => {
                    let cause = Cause::new(Reason::Refused, code.to_string());
                    written.retryable.push(Rejected { row, cause });
                }
            }
        }
        Ok(())
    }

    /// A broker refuses a whole batch for one of its rows. Sends the rows again in smaller and smaller groups, with nothing else
    /// on its way, until those at fault stand alone. Writes that were handed over meanwhile have been delivered before them, so
    /// that here the order of a key may change (docs/invariants.md, 11).
    async fn single_out(
        &self,
        producing: &Producing,
        messages: &Messages,
        rows: Vec<u32>,
        written: &mut Written,
    ) -> Result<(), SinkError> {
        let mut turn = producing.turn.lock().await;
        producing.wait_until_empty().await;
        let mut groups = vec![rows];
        while let Some(mut group) = groups.pop() {
            let rest = group.split_off(group.len().div_ceil(2));
            if !rest.is_empty() {
                groups.push(rest);
            }
            let sent = self.send((producing, &mut turn.handles), messages, &group).await?;
            let failed = producing.patiently(sent.pending.done()).await;
            written.rejected.extend(sent.rejected);
            written.retryable.extend(sent.retryable);
            let suspects = refused_as_batch(&failed);
            self.sort_out(producing, messages, failed, written)?;
            match (suspects.as_slice(), group.len()) {
                ([], _) => {}
                ([(row, code)], 1) => {
                    let topic = self.topic.topic(messages, *row as usize).unwrap_or(Cow::Borrowed(""));
                    let reason = match verdict(*code) {
                        Verdict::Record(reason) => reason,
                        _ => Reason::Refused,
                    };
                    let cause = refusal(reason, *code, &topic, messages, *row);
                    written.rejected.push(Rejected { row: *row, cause });
                }
                _ => groups.push(suspects.into_iter().map(|(row, _)| row).collect()),
            }
        }
        Ok(())
    }

    async fn create_missing(&self, messages: &Messages, known: &mut HashSet<String>) -> Result<(), SinkError> {
        let Some((how, topics)) = &self.creator else { return Ok(()) };
        if matches!(self.topic, TopicRule::Fixed(_)) {
            return Ok(());
        }
        for row in 0..messages.len() {
            let Ok(name) = self.topic.topic(messages, row) else { continue };
            if known.contains(&*name) {
                continue;
            }
            topics.create(&name, how).await.map_err(|error| match error.rdkafka_error_code().map(verdict) {
                Some(Verdict::Fatal) => SinkError::fatal_from(format!("topic {name:?} cannot be created"), error),
                _ => SinkError::retryable_from(format!("topic {name:?} cannot be created"), error),
            })?;
            known.insert(name.into_owned());
        }
        Ok(())
    }

    /// A topic that is gone is the fault of a row only if the row named it.
    fn judge(&self, code: RDKafkaErrorCode) -> Verdict {
        match (verdict(code), &self.topic) {
            (Verdict::Record(Reason::NoTarget), TopicRule::Fixed(_)) => Verdict::Fatal,
            (verdict, _) => verdict,
        }
    }

    /// In a transaction one row that is not delivered dooms all.
    fn doomed(&self, producing: &Producing, code: RDKafkaErrorCode, messages: &Messages, row: u32) -> SinkError {
        match self.judge(code) {
            Verdict::Retryable => {
                SinkError::retryable_from(format!("a row of a transaction was not delivered: {code}"), code)
            }
            // It would be the same again and again.
            Verdict::Record(reason) => {
                let topic = self.topic.topic(messages, row as usize).unwrap_or(Cow::Borrowed(""));
                let what = refusal(reason, code, &topic, messages, row).detail;
                SinkError::fatal_from(
                    format!(
                        "{what}; so it refuses the transaction: raise its limits, or set a lower message.max.bytes"
                    ),
                    code,
                )
            }
            Verdict::Fatal => self.fatal(producing, code),
        }
    }

    fn fatal(&self, producing: &Producing, code: RDKafkaErrorCode) -> SinkError {
        match (producing.producer.client().fatal_error(), &self.topic, verdict(code)) {
            (Some((code, why)), ..) => SinkError::fatal_from(format!("the producer cannot go on: {why}"), code),
            (None, TopicRule::Fixed(name), Verdict::Record(Reason::NoTarget)) => {
                SinkError::fatal_from(format!("topic {name:?} does not exist any more"), code)
            }
            _ => SinkError::fatal_from(format!("Kafka refuses to be written to: {code}"), code),
        }
    }
}

/// How long a write waits at most before it looks again for room in the producer's queue.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// What a broker answers for every row of a batch when only one of them is at fault.
const BATCH_WIDE: [RDKafkaErrorCode; 2] = [RDKafkaErrorCode::MessageSizeTooLarge, RDKafkaErrorCode::InvalidRecord];

fn refused_as_batch(failed: &[(u32, RDKafkaErrorCode)]) -> Vec<(u32, RDKafkaErrorCode)> {
    failed.iter().filter(|(_, code)| BATCH_WIDE.contains(code)).copied().collect()
}

fn refusal(reason: Reason, why: impl std::fmt::Display, topic: &str, messages: &Messages, row: u32) -> Cause {
    let n_bytes = messages.payload(row as usize).map_or(0, <[u8]>::len);
    Cause::new(reason, format!("topic {topic:?} does not take this message of {n_bytes} bytes: {why}"))
}
