//! Commits of offsets, and the answers to them.
//!
//! rdkafka's commit callback is silent about commits made by hand, so the answers come by a queue of our own.

use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

/// Sends commits and counts their answers. Must be dropped before the consumer it was made for.
pub(super) struct Commits {
    answers: NonNull<sys::rd_kafka_queue_t>,
    n_due: usize,
}

// SAFETY: librdkafka's queues may be used from any thread; only one at a time has `&mut self`.
unsafe impl Send for Commits {}

impl Commits {
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Self {
        // SAFETY: the client is alive as long as `consumer` is.
        let answers = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        #[expect(clippy::expect_used, reason = "librdkafka returns no null here: it aborts when out of memory")]
        let answers = NonNull::new(answers).expect("a queue");
        Self { answers, n_due: 0 }
    }

    /// Commits sent and not yet answered.
    pub fn n_due(&self) -> usize {
        self.n_due
    }

    /// Sends a commit; its answer comes later, unless it fails here.
    pub fn send<C: ConsumerContext>(
        &mut self,
        consumer: &BaseConsumer<C>,
        offsets: &TopicPartitionList,
    ) -> Result<(), RDKafkaErrorCode> {
        // SAFETY: client, list and queue are alive; librdkafka copies the list.
        let code = unsafe {
            let client = consumer.client().native_ptr();
            sys::rd_kafka_commit_queue(client, offsets.ptr(), self.answers.as_ptr(), None, ptr::null_mut())
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => {
                self.n_due += 1;
                Ok(())
            }
            code => Err(code),
        }
    }

    /// The next answer, waiting for it up to `timeout`.
    pub fn answer(&mut self, timeout: Duration) -> Option<Result<(), RDKafkaErrorCode>> {
        if self.n_due == 0 {
            return None;
        }
        // SAFETY: the queue is alive; the event is ours, and destroyed once.
        let code = unsafe {
            let event = sys::rd_kafka_queue_poll(self.answers.as_ptr(), timeout.as_millis() as i32);
            if event.is_null() {
                return None;
            }
            let code = sys::rd_kafka_event_error(event);
            sys::rd_kafka_event_destroy(event);
            code
        };
        self.n_due -= 1;
        Some(match RDKafkaErrorCode::from(code) {
            // There was nothing to commit.
            RDKafkaErrorCode::NoError | RDKafkaErrorCode::NoOffset => Ok(()),
            code => Err(code),
        })
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        // SAFETY: the queue is ours and the client still alive, by the contract of this type.
        unsafe { sys::rd_kafka_queue_destroy(self.answers.as_ptr()) }
    }
}
