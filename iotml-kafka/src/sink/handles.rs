//! Hands single rows to librdkafka, by handles of their topics.
//!
//! rdkafka's own `send` copies the topic's name and looks it up for every message; a handle is looked up once a topic. See
//! docs/decisions/0004-kafka-fetch.md.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};

use iotml_core::batch::Messages;
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::delivery::SinkContext;

/// The topics that were written to. Must be dropped before the producer they belong to.
#[derive(Debug, Default)]
pub(super) struct Handles(HashMap<Box<str>, Handle>);

#[derive(Debug)]
struct Handle(NonNull<sys::rd_kafka_topic_t>);

// SAFETY: librdkafka's topics may be used from any thread.
unsafe impl Send for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and its producer still alive, by the contract of `Handles`.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

impl Handles {
    /// Gives librdkafka a copy of `row`; `ticket` comes back with the report of its delivery. Whoever calls this must
    /// always pass the same `producer`.
    pub fn send(
        &mut self,
        producer: &ThreadedProducer<SinkContext>,
        topic: &str,
        (messages, row): (&Messages, usize),
        ticket: usize,
    ) -> Result<(), RDKafkaErrorCode> {
        let client = producer.client().native_ptr();
        let handle = match self.0.get(topic) {
            Some(handle) => handle,
            None => {
                let name = CString::new(topic).map_err(|_| RDKafkaErrorCode::InvalidTopic)?;
                // SAFETY: the client is alive and the name a C string; a null configuration stands for the producer's own.
                let handle = unsafe { sys::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
                let handle = Handle(NonNull::new(handle).ok_or(RDKafkaErrorCode::InvalidTopic)?);
                self.0.entry(topic.into()).or_insert(handle)
            }
        };
        let (payload, payload_len) = parts(messages.payload(row));
        let (key, key_len) = parts(messages.key(row));
        let headers = Headers::of(messages, row);
        let list = headers.as_ref().map_or(ptr::null_mut(), |headers| headers.0.as_ptr());
        use sys::rd_kafka_vtype_t::*;
        // SAFETY: client and topic are alive and belong together; librdkafka copies key and payload before it returns, and
        // takes the headers over if, and only if, it returns no error.
        let code = unsafe {
            sys::rd_kafka_producev(
                client,
                RD_KAFKA_VTYPE_RKT,
                handle.0.as_ptr(),
                RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                RD_KAFKA_VTYPE_VALUE,
                payload,
                payload_len,
                RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                RD_KAFKA_VTYPE_OPAQUE,
                ticket as *mut c_void,
                RD_KAFKA_VTYPE_TIMESTAMP,
                messages.time(row).unwrap_or(0),
                RD_KAFKA_VTYPE_HEADERS,
                list,
                RD_KAFKA_VTYPE_END,
            )
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => {
                std::mem::forget(headers);
                Ok(())
            }
            code => Err(code),
        }
    }
}

/// Pointer and length as librdkafka wants them; null for what is not there.
fn parts(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}

/// A list of headers that nobody has taken over yet.
struct Headers(NonNull<sys::rd_kafka_headers_t>);

impl Headers {
    /// The headers of `row`, if it has any.
    fn of(messages: &Messages, row: usize) -> Option<Self> {
        let mut of = messages.headers().of(row).peekable();
        of.peek()?;
        // SAFETY: no preconditions.
        let headers = Self(NonNull::new(unsafe { sys::rd_kafka_headers_new(8) })?);
        for header in of {
            let (value, value_len) = parts(header.value);
            // SAFETY: the list is ours; librdkafka copies name and value, and adds a null to the name itself.
            unsafe {
                let (name, name_len) = (header.name.as_ptr().cast(), header.name.len() as isize);
                sys::rd_kafka_header_add(headers.0.as_ptr(), name, name_len, value, value_len as isize);
            }
        }
        Some(headers)
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: the list is ours and not taken over.
        unsafe { sys::rd_kafka_headers_destroy(self.0.as_ptr()) }
    }
}
