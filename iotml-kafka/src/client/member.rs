//! Who a member of a consumer group is, written down so that a producer can commit for it.
//!
//! rdkafka has this for a consumer and a producer in one place; here they are in two plug-ins that know nothing of each other.

use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

/// Group, member and generation of a consumer at one moment.
pub(crate) struct GroupMember(NonNull<sys::rd_kafka_consumer_group_metadata_t>);

impl GroupMember {
    /// Of `consumer` as of now; `None` while it is no member of its group. Without a member's name and generation a commit
    /// would not be checked against the group, and a member that was given up could commit.
    pub fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client is alive as long as `consumer` is.
        let metadata = unsafe { sys::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
        let member = Self(NonNull::new(metadata)?);
        // SAFETY: the metadata is ours, and the name belongs to it.
        let (generation, name_length) = unsafe {
            let name = sys::rd_kafka_consumer_group_metadata_member_id(metadata);
            let name_length = if name.is_null() { 0 } else { std::ffi::CStr::from_ptr(name).to_bytes().len() };
            (sys::rd_kafka_consumer_group_metadata_generation_id(metadata), name_length)
        };
        (generation >= 0 && name_length > 0).then_some(member)
    }

    /// In librdkafka's own form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CallError> {
        let (mut buffer, mut length) = (ptr::null_mut(), 0);
        // SAFETY: the metadata is ours; librdkafka allocates the buffer and, without an error, fills it with `length` bytes.
        unsafe {
            CallError::of(sys::rd_kafka_consumer_group_metadata_write(self.0.as_ptr(), &mut buffer, &mut length))?;
            let bytes = std::slice::from_raw_parts(buffer.cast::<u8>(), length).to_vec();
            sys::rd_kafka_mem_free(ptr::null_mut(), buffer);
            Ok(bytes)
        }
    }

    /// From librdkafka's own form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CallError> {
        let mut metadata = ptr::null_mut();
        // SAFETY: librdkafka reads the bytes and, without an error, allocates the metadata.
        unsafe {
            let (start, length) = (bytes.as_ptr().cast(), bytes.len());
            CallError::of(sys::rd_kafka_consumer_group_metadata_read(&mut metadata, start, length))?;
        }
        let none = || CallError { text: "it is empty".to_owned(), is_fatal: true, ..CallError::default() };
        NonNull::new(metadata).map(Self).ok_or_else(none)
    }

    /// Adds `offsets`, committed by this member, to the transaction of `producer`.
    pub fn send_offsets<C: ProducerContext>(
        &self,
        producer: &ThreadedProducer<C>,
        offsets: &TopicPartitionList,
        timeout: Duration,
    ) -> Result<(), CallError> {
        // SAFETY: client, list and metadata are alive for the call, which keeps none of them.
        unsafe {
            CallError::of(sys::rd_kafka_send_offsets_to_transaction(
                producer.client().native_ptr(),
                offsets.ptr(),
                self.0.as_ptr(),
                timeout.as_millis() as i32,
            ))
        }
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        // SAFETY: the metadata is ours.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// An error of a call about transactions, with what librdkafka says can be done about it.
#[derive(Debug, Default, thiserror::Error)]
#[error("{text}")]
pub(crate) struct CallError {
    pub code: Option<RDKafkaErrorCode>,
    pub text: String,
    /// The client cannot be used any more.
    pub is_fatal: bool,
    /// The same call may be made again.
    pub is_retriable: bool,
}

impl CallError {
    /// Takes over what a call returned: null is no error.
    unsafe fn of(error: *mut sys::rd_kafka_error_t) -> Result<(), Self> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: by the caller's word the error is one that librdkafka has given to us; it is destroyed once.
        unsafe {
            let text = std::ffi::CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
            let failed = Self {
                code: Some(sys::rd_kafka_error_code(error).into()),
                text,
                is_fatal: sys::rd_kafka_error_is_fatal(error) != 0,
                is_retriable: sys::rd_kafka_error_is_retriable(error) != 0,
            };
            sys::rd_kafka_error_destroy(error);
            Err(failed)
        }
    }
}

impl From<KafkaError> for CallError {
    fn from(error: KafkaError) -> Self {
        let (is_fatal, is_retriable) = match &error {
            KafkaError::Transaction(error) => (error.is_fatal(), error.is_retriable()),
            // Before a commit rdkafka waits for what is on its way.
            KafkaError::Flush(code) => (false, *code == RDKafkaErrorCode::OperationTimedOut),
            _ => (false, false),
        };
        Self { code: error.rdkafka_error_code(), text: error.to_string(), is_fatal, is_retriable }
    }
}
