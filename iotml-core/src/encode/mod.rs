//! Stage five: columns to bytes.

mod avro;
mod json;
mod raw;

pub use avro::{
    AvroEncoder, AvroEncoderConfig, Compatibility, ConfluentAvroEncoder, ConfluentAvroEncoderConfig, Registration,
    SchemaRegistrar,
};
pub use json::{JsonEncoder, JsonEncoderConfig, NonFinite, Nulls, Times};
pub use raw::RawEncoder;

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::{Batch, Messages, Rejected};
use crate::error::Cause;
use crate::pipeline::TaskContext;
use crate::sink::Sink;

crate::error::stage_error! {
    /// Why an encoder cannot encode a batch at all. A bad row is rejected by itself.
    EncodeError
}

/// Encoded rows.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// One message per row of the batch, with the row's key, time and headers. The message of a rejected row is ignored.
    pub messages: Messages,
    /// Rows that cannot be encoded, in ascending order.
    pub rejected: Vec<Rejected>,
}

/// Turns columns into messages: after the scorer, before the sink.
///
/// # Contract
/// 1. One message per row, in row order; key, time, topic and target are taken from the row.
/// 2. [`encode`](Encoder::encode) does no I/O; [`prepare`](Encoder::prepare), called before it, may register a schema.
/// 3. A row that does not fit is rejected by itself.
///
/// # Example
/// ```
/// use iotml_core::batch::{Batch, Messages};
/// use iotml_core::encode::{EncodeError, Encoded, Encoder, envelope};
///
/// /// The number of columns, as text.
/// struct Width;
///
/// impl Encoder for Width {
///     fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
///         let text = batch.columns().num_columns().to_string();
///         let mut messages = Messages::with_capacity(batch.len(), batch.len() * text.len());
///         for row in 0..batch.len() {
///             messages.push(iotml_core::batch::Message { payload: Some(text.as_bytes()), ..envelope(batch, row) });
///         }
///         Ok(Encoded { messages, rejected: vec![] })
///     }
/// }
/// ```
///
/// Checked by `iotml_core::testing::encode`.
#[async_trait]
pub trait Encoder: Send {
    /// Tells which sink the messages are for, before `open`; for an encoder that must know their topics ([`Sink::topic`]).
    fn bound_for(&mut self, _sink: Arc<dyn Sink>) {}

    /// Called once, first.
    async fn open(&mut self, _task: &TaskContext) -> Result<(), EncodeError> {
        Ok(())
    }

    /// Does the I/O that `encode` needs for this batch, such as registering a schema.
    async fn prepare(&mut self, _batch: &Batch) -> Result<(), EncodeError> {
        Ok(())
    }

    /// Encodes one batch.
    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError>;
}

/// The message of `row` without its payload: key, time, topic and target.
#[inline]
pub fn envelope(batch: &Batch, row: usize) -> crate::batch::Message<'_> {
    let raw = batch.raw().messages();
    let origin = batch.origin(row);
    crate::batch::Message {
        payload: None,
        key: batch.key(row),
        time: batch.time(row),
        topic: raw.topic(origin).map(|topic| &**topic),
        target: raw.target(origin).map(|target| &**target),
    }
}

/// Adds the headers of the message that `row` came from to the message appended last.
#[inline]
pub fn copy_headers(messages: &mut Messages, batch: &Batch, row: usize) {
    let headers = batch.raw().messages().headers();
    if headers.is_empty() {
        return;
    }
    for header in headers.of(batch.origin(row)) {
        messages.push_header(header.name, header.value);
    }
}

/// Encodes every row by letting `write` append its payload, about `row_bytes` long; a row that `write` refuses is rejected.
pub fn encode_rows(
    batch: &Batch,
    row_bytes: usize,
    mut write: impl FnMut(usize, &mut Vec<u8>) -> Result<(), Cause>,
) -> Encoded {
    let mut messages = Messages::with_capacity(batch.len(), batch.len() * row_bytes);
    let mut rejected = Vec::new();
    for row in 0..batch.len() {
        let written = messages.push_with(envelope(batch, row), |out| write(row, out));
        if let Err(cause) = written {
            // A message stands for every row, so that numbers stay those of the batch.
            messages.push(envelope(batch, row));
            rejected.push(Rejected { row: row as u32, cause });
        }
        copy_headers(&mut messages, batch, row);
    }
    Encoded { messages, rejected }
}
