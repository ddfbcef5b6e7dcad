//! A queue of messages apart from the queue of events, read in batches.
//!
//! rdkafka reads messages one by one, from the same queue that carries rebalances. Here the partitions' queues are
//! forwarded to one queue that carries nothing else, and that one is emptied with `rd_kafka_consume_batch_queue`, which
//! rdkafka does not wrap. So the event queue can be polled while messages are held back, without pausing partitions, which
//! would throw away what was fetched ahead. See docs/decisions.

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

/// The queue. Must be dropped before the consumer it was made for.
pub(crate) struct MessageQueue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// Messages taken from the queue and not yet given back to librdkafka.
    taken: Vec<*mut sys::rd_kafka_message_t>,
}

// SAFETY: librdkafka's queues and messages may be used from any thread; only one at a time has `&mut self`.
unsafe impl Send for MessageQueue {}

/// One message, borrowed from librdkafka.
#[derive(Clone, Copy)]
pub(crate) struct Fetched<'a>(&'a sys::rd_kafka_message_t);

impl MessageQueue {
    /// A queue that nothing is forwarded to yet; reads at most `max_rows` messages at once.
    pub fn new<C: ConsumerContext>(consumer: &BaseConsumer<C>, max_rows: usize) -> Self {
        // SAFETY: the client is alive as long as `consumer` is.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        #[expect(clippy::expect_used, reason = "librdkafka returns no null here: it aborts when out of memory")]
        let queue = NonNull::new(queue).expect("a queue");
        Self { queue, taken: Vec::with_capacity(max_rows) }
    }

    /// Sends the messages of a partition here. To be called before each assignment of it, which resets the way.
    pub fn forward<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>, topic: &str, partition: i32) {
        // Names come from librdkafka, as C strings.
        let Ok(topic) = CString::new(topic) else { return };
        // SAFETY: client and queue are alive; the partition's queue is counted, and released right after.
        unsafe {
            let from = sys::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition);
            if !from.is_null() {
                sys::rd_kafka_queue_forward(from, self.queue.as_ptr());
                sys::rd_kafka_queue_destroy(from);
            }
        }
    }

    /// Takes what is there, waiting up to `timeout` for the first message if nothing is; returns how many were taken.
    pub fn take(&mut self, timeout: Duration) -> usize {
        self.take_at_most(self.taken.capacity(), timeout)
    }

    /// The same with a limit of `max` messages below the one the queue was made with.
    pub fn take_at_most(&mut self, max: usize, timeout: Duration) -> usize {
        debug_assert!(self.taken.is_empty());
        let mut n = self.consume(0, max);
        if n == 0 && !timeout.is_zero() {
            // For more than one message librdkafka would sit the whole time-out through.
            n = self.consume(timeout.as_millis() as i32, 1);
            if n == 1 {
                n += self.consume(0, max - 1);
            }
        }
        n
    }

    /// librdkafka's handle, good as long as this queue.
    pub fn native_ptr(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    fn consume(&mut self, timeout_ms: i32, max: usize) -> usize {
        let filled = self.taken.len();
        let max = max.min(self.taken.capacity() - filled);
        if max == 0 {
            return 0;
        }
        // SAFETY: the spare room holds `max` pointers, and librdkafka writes as many as it returns.
        unsafe {
            let spare = self.taken.as_mut_ptr().add(filled);
            let n = sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), timeout_ms, spare, max);
            let n = usize::try_from(n).unwrap_or(0);
            self.taken.set_len(filled + n);
            n
        }
    }

    /// Number of messages taken and not yet drained.
    pub fn n_taken(&self) -> usize {
        self.taken.len()
    }

    /// Gives every message taken to `each`, and then back to librdkafka.
    pub fn drain(&mut self, mut each: impl FnMut(Fetched<'_>)) {
        for message in self.taken.drain(..) {
            // SAFETY: librdkafka gave a valid message, which is ours until destroyed, once, below.
            unsafe {
                each(Fetched(&*message));
                sys::rd_kafka_message_destroy(message);
            }
        }
    }
}

impl Drop for MessageQueue {
    fn drop(&mut self) {
        self.drain(|_| {});
        // SAFETY: the queue is ours and the client still alive, by the contract of this type.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

impl<'a> Fetched<'a> {
    /// An error in place of a message.
    pub fn error(self) -> Option<RDKafkaErrorCode> {
        let code = RDKafkaErrorCode::from(self.0.err);
        (code != RDKafkaErrorCode::NoError).then_some(code)
    }

    /// The text of the error.
    pub fn error_text(self) -> String {
        // SAFETY: librdkafka returns a C string that lives as long as the message.
        let text = unsafe { sys::rd_kafka_message_errstr(self.0) };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: as above, and it is not null.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    /// Equal for messages of the same topic and partition, within one batch.
    pub fn origin(self) -> (usize, i32) {
        (self.0.rkt as usize, self.0.partition)
    }

    /// Name of the topic.
    pub fn topic(self) -> &'a str {
        if self.0.rkt.is_null() {
            return "";
        }
        // SAFETY: the topic outlives its messages; its name is a C string of legal characters.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.0.rkt)) };
        name.to_str().unwrap_or_default()
    }

    /// Number of the partition.
    pub fn partition(self) -> i32 {
        self.0.partition
    }

    /// The offset.
    pub fn offset(self) -> i64 {
        self.0.offset
    }

    /// The body; `None` for a tombstone.
    pub fn payload(self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka's pointer and length, valid as long as the message.
        unsafe { bytes(self.0.payload.cast(), self.0.len) }
    }

    /// The key.
    pub fn key(self) -> Option<&'a [u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.0.key.cast(), self.0.key_len) }
    }

    /// Milliseconds since the Unix epoch.
    pub fn time(self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid, and `kind` is written before it is returned.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.0, &mut kind) };
        (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(time)
    }

    /// Calls `each` for every header, in order. A name that is not UTF-8 has its wrong bytes replaced.
    pub fn headers(self, mut each: impl FnMut(&str, Option<&[u8]>)) {
        let mut headers = ptr::null_mut();
        // SAFETY: the list belongs to the message and lives as long as it; names are C strings.
        unsafe {
            if sys::rd_kafka_message_headers(self.0, &mut headers)
                != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return;
            }
            for index in 0.. {
                let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
                let code = sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut len);
                if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    return;
                }
                each(&CStr::from_ptr(name).to_string_lossy(), bytes(value.cast(), len));
            }
        }
    }
}

/// The offset of the oldest message and the one behind the newest, as last heard from the broker; `None` where nothing was
/// heard yet.
pub(crate) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive; the call only reads what it has heard.
    let code = unsafe {
        let client = consumer.client().native_ptr();
        sys::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high)
    };
    (code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low, high))
}

/// # Safety
/// `start` is null or points to `len` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by the contract of this function.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start, len) })
}
