//! Where each partition of an assignment begins, and where a bounded read of it ends.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use super::Start;
use super::context::FetchContext;

/// A partition with its first offset.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    pub topic: String,
    pub partition: i32,
    /// `None`: at the oldest message, wherever that is.
    pub offset: Option<i64>,
    /// The offset has to be committed now: without it a restart would begin later, and jump over what is read from here.
    pub fix: bool,
    /// Where a bounded read ends: one behind the newest message.
    pub end: Option<i64>,
}

/// Looks up where to begin: at the committed offset, or by `start` where the group has none. Asks the broker, `timeout`
/// for each question.
pub(super) fn begin(
    consumer: &BaseConsumer<FetchContext>,
    assigned: &TopicPartitionList,
    (start, bounded): (Start, bool),
    timeout: Duration,
) -> KafkaResult<(TopicPartitionList, Vec<Begin>)> {
    let mut list = assigned.clone();
    list.set_all_offsets(Offset::Invalid)?;
    let list = if list.count() == 0 { list } else { consumer.committed_offsets(list, timeout)? };
    let fresh = |list: &TopicPartitionList| -> BTreeSet<String> {
        let without = list.elements().into_iter().filter(|element| !matches!(element.offset(), Offset::Offset(_)));
        without.map(|element| element.topic().to_owned()).collect()
    };
    let mut known = HashSet::new();
    if start == Start::Latest {
        for topic in fresh(&list) {
            if is_known(consumer, &topic, timeout)? {
                known.insert(topic);
            }
        }
    }
    let mut begins = Vec::with_capacity(list.count());
    for mut element in list.elements() {
        element.error()?;
        let (topic, partition) = (element.topic().to_owned(), element.partition());
        let mut begin = Begin { topic, partition, offset: None, fix: false, end: None };
        let late = start == Start::Latest && !known.contains(&begin.topic);
        match element.offset() {
            Offset::Offset(offset) => begin.offset = Some(offset),
            _ if late => {
                let (_, high) = consumer.fetch_watermarks(&begin.topic, partition, timeout)?;
                begin.offset = Some(high);
                begin.fix = true;
            }
            _ => {}
        }
        if bounded {
            let (low, high) = consumer.fetch_watermarks(&begin.topic, partition, timeout)?;
            begin.end = Some(high);
            if begin.offset.is_none() {
                begin.offset = Some(low);
            }
        }
        element.set_offset(begin.offset.map_or(Offset::Beginning, Offset::Offset))?;
        begins.push(begin);
    }
    Ok((list, begins))
}

/// Whether the group has committed anything of `topic`: if so, a partition without an offset is a new one, and everything
/// in it was written after the group began.
fn is_known(consumer: &BaseConsumer<FetchContext>, topic: &str, timeout: Duration) -> KafkaResult<bool> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        all.add_partition(topic, partition.id());
    }
    if all.count() == 0 {
        return Err(KafkaError::MetadataFetch(rdkafka::error::RDKafkaErrorCode::UnknownTopicOrPartition));
    }
    let committed = consumer.committed_offsets(all, timeout)?;
    Ok(committed.elements().iter().any(|element| matches!(element.offset(), Offset::Offset(_))))
}
