//! What rdkafka does not wrap: reading partitions by hand, without a consumer group, and the id of a topic.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

use crate::client::MessageQueue;

/// A topic whose partitions are started and stopped one by one. Must be dropped before the consumer it was made for.
pub(super) struct Topic(NonNull<sys::rd_kafka_topic_t>);

// SAFETY: librdkafka's topics are counted and locked inside, and may be used from any thread.
unsafe impl Send for Topic {}

impl Topic {
    /// The topic `name` of a client that is a member of no group.
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>, name: &str) -> Result<Self, RDKafkaErrorCode> {
        let name = CString::new(name).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
        // SAFETY: the client is alive, the name is copied, and without a configuration the client's own is taken.
        let topic = unsafe { sys::rd_kafka_topic_new(consumer.client().native_ptr(), name.as_ptr(), ptr::null_mut()) };
        NonNull::new(topic).map(Topic).ok_or_else(last_error)
    }

    /// Begins to fetch a partition into `queue`, at `offset`.
    pub fn start(&self, partition: i32, offset: i64, queue: &MessageQueue) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: topic and queue are alive.
        let code = unsafe { sys::rd_kafka_consume_start_queue(self.0.as_ptr(), partition, offset, queue.native_ptr()) };
        if code == 0 { Ok(()) } else { Err(last_error()) }
    }

    /// Ends what [`start`](Self::start) began; what was fetched ahead is thrown away.
    pub fn stop(&self, partition: i32) {
        // SAFETY: the topic is alive. An error says that the partition was not started.
        unsafe { sys::rd_kafka_consume_stop(self.0.as_ptr(), partition) };
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is given back once.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

fn last_error() -> RDKafkaErrorCode {
    // SAFETY: reads a number that librdkafka keeps for this thread.
    RDKafkaErrorCode::from(unsafe { sys::rd_kafka_last_error() })
}

/// The id of a topic, new whenever it is created, as `broker` knows it; `None` where it is too old to have ids, or does not
/// tell.
pub(super) fn topic_id<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    broker: i32,
    timeout: Duration,
) -> Option<String> {
    let topic = CString::new(topic).ok()?;
    let mut names = [topic.as_ptr()];
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all that is made here is destroyed here, in the opposite order; what the event lends is copied before.
    unsafe {
        let client = consumer.client().native_ptr();
        let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = sys::rd_kafka_AdminOptions_new(client, operation);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        // Without it the question goes to the controller, which an in-memory cluster does not have.
        sys::rd_kafka_AdminOptions_set_broker(options, broker, ptr::null_mut(), 0);
        let queue = sys::rd_kafka_queue_new(client);
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms);
        let id = described_id(event);
        sys::rd_kafka_event_destroy(event);
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// # Safety
/// `event` is null or an event that is not destroyed yet.
unsafe fn described_id(event: *mut sys::rd_kafka_event_t) -> Option<String> {
    // SAFETY: every pointer is checked or comes with its length, and belongs to the event.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return None;
        }
        let mut n = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut n);
        if topics.is_null() || n == 0 {
            return None;
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() && sys::rd_kafka_error_code(error) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null()
            || (sys::rd_kafka_Uuid_most_significant_bits(id), sys::rd_kafka_Uuid_least_significant_bits(id)) == (0, 0)
        {
            return None;
        }
        let text = sys::rd_kafka_Uuid_base64str(id);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}
