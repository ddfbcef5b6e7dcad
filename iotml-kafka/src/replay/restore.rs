//! A dead letter as the message it was made of.

use iotml_core::batch::{Batch, Message, Messages};
use iotml_core::encode::{EncodeError, Encoded, Encoder};
use iotml_core::pipeline::header;

use super::letter::Letter;

/// Payload, key, time and headers as they were received, addressed to where they came from; one header counts the replays.
pub(super) struct Restore;

impl Encoder for Restore {
    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
        let mut messages = Messages::with_capacity(batch.len(), batch.raw().n_bytes());
        for row in 0..batch.len() {
            let letter = Letter::of(batch.raw(), batch.origin(row));
            messages.push(Message {
                payload: letter.payload(),
                key: letter.key(),
                time: letter.time(),
                topic: None,
                target: letter.origin().as_deref(),
            });
            letter.own_headers().for_each(|header| messages.push_header(header.name, header.value));
            let replays = letter.replays().saturating_add(1).to_string();
            messages.push_header(header::REPLAYS, Some(replays.as_bytes()));
        }
        Ok(Encoded { messages, rejected: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use iotml_core::batch::{Coordinate, Lane, Position, RawBatch, RawMessage};

    use super::*;

    #[test]
    fn inv_7_the_message_is_as_it_was_received_but_for_the_count() {
        let mut raw = RawBatch::default();
        raw.push(RawMessage {
            message: Message { payload: None, key: Some(b"k"), time: Some(7), topic: Some("letters"), target: None },
            position: Position { lane: Lane(0), seq: 0 },
            coordinate: Coordinate { partition: 0, offset: 3 },
        });
        raw.push_header("own", Some(b"1"));
        raw.push_header(header::REPLAYS, Some(b"2"));
        raw.push_header("own", None);
        raw.push_header(header::TOPIC, Some(b"sensor-data"));
        raw.push_header(header::REASON, Some(b"malformed"));
        raw.push_header(header::STACKTRACE, Some(b"x"));
        let restored = Restore.encode(&Batch::undecoded(Arc::new(raw))).unwrap().messages;
        assert_eq!((restored.payload(0), restored.key(0), restored.time(0)), (None, Some(&b"k"[..]), Some(7)));
        assert_eq!(restored.target(0).map(|target| &**target), Some("sensor-data"));
        let headers: Vec<_> = restored.headers().of(0).map(|header| (header.name, header.value)).collect();
        assert_eq!(headers, [("own", Some(&b"1"[..])), ("own", None), (header::REPLAYS, Some(b"3"))]);
    }
}
