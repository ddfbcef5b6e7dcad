//! The bytes as they came.

use crate::batch::{Batch, Message, Messages};

use super::{EncodeError, Encoded, Encoder, copy_headers, envelope};

/// Passes on the payload that each row came from, whatever its columns say; tombstones stay tombstones.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawEncoder;

impl Encoder for RawEncoder {
    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
        let raw = batch.raw().messages();
        let mut messages = Messages::with_capacity(batch.len(), 0);
        for row in 0..batch.len() {
            messages.push(Message { payload: raw.payload(batch.origin(row)), ..envelope(batch, row) });
            copy_headers(&mut messages, batch, row);
        }
        Ok(Encoded { messages, rejected: Vec::new() })
    }
}
