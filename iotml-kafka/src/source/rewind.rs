//! Going back to what is committed, after a transaction was aborted.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use iotml_core::batch::{Lane, RawBatch};
use iotml_core::source::SourceEvent;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use super::Start;
use super::begin::begin;
use super::fetch::Fetcher;

/// How long to wait for one answer of a broker.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(500);

impl Fetcher {
    /// Begins all lanes again at what is committed, if the pipeline asks for it; those that leave are left to their next owner.
    pub(super) fn serve_rewind(&mut self) {
        let is_asked = self.shared.rewind.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !is_asked || self.next_rewind.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.next_rewind = None;
        if let Err(error) = self.rewind() {
            tracing::warn!("what is committed cannot be read again yet: {error}");
            self.next_rewind = Some(Instant::now() + PAUSE);
            return;
        }
        if let Some(answer) = self.shared.rewind.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody waits any more if the pipeline was dropped meanwhile.
            let _ = answer.send(());
        }
    }

    fn rewind(&mut self) -> KafkaResult<()> {
        let mut list = TopicPartitionList::new();
        let mut old = Vec::new();
        {
            let lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            for lane in lanes.iter().filter(|lane| !lane.leaving) {
                list.add_partition(&lane.topic, lane.partition);
                old.push((lane.lane, lane.topic.clone(), lane.partition, lane.end));
            }
        }
        // A group that began behind the newest message has committed that already.
        let (list, begins) = begin(&self.consumer, &list, (Start::Earliest, false), PATIENCE)?;
        self.open = RawBatch::default();
        self.idle = false;
        let gone: Vec<Lane> = old.iter().map(|(lane, ..)| *lane).collect();
        self.shared.handover.discard(&gone);
        self.shared.handover.more();
        if list.count() > 0 {
            let sought = self.consumer.seek_partitions(list, PATIENCE)?;
            sought.elements().iter().try_for_each(|element| element.error())?;
        }
        let infos: Vec<_> = {
            let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.close(&gone);
            let end_of = |topic: &str, partition| {
                let of = old.iter().find(|(_, of_topic, of, _)| **of_topic == *topic && *of == partition);
                of.and_then(|(.., end)| *end)
            };
            let open = begins.iter().map(|begin| {
                lanes.open(&begin.topic, begin.partition, begin.offset, end_of(&begin.topic, begin.partition))
            });
            open.collect()
        };
        tracing::info!("reads {} partitions again from what is committed", infos.len());
        if !gone.is_empty() {
            let reason = "they begin again at what is committed".to_owned();
            self.shared.handover.event(Ok(SourceEvent::Lost { lanes: gone, reason }));
            self.shared.handover.event(Ok(SourceEvent::Assigned(infos)));
        }
        Ok(())
    }
}
