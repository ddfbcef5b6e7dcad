//! Messages as bytes, before decoding and after encoding.

use std::sync::Arc;

use super::names::Names;
use super::{Arena, Header, Headers, NO_TIME};

/// One message on its way into [`Messages`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'a> {
    /// Body; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Key; `None` where the message has none.
    pub key: Option<&'a [u8]>,
    /// Event time in milliseconds since the Unix epoch; `None` where unknown.
    pub time: Option<i64>,
    /// The topic the message came from.
    pub topic: Option<&'a str>,
    /// The topic the message should go to, where its source or an encoder decided that.
    pub target: Option<&'a str>,
}

/// A list of messages: payloads, keys, times, topics and headers, each in flat storage.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    payloads: Arena,
    keys: Arena,
    times: Vec<i64>,
    topics: RowNames,
    targets: RowNames,
    headers: Headers,
}

impl Messages {
    /// An empty list with room for `rows` messages and `bytes` bytes of payload.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self {
            payloads: Arena::with_capacity(rows, bytes),
            keys: Arena::with_capacity(rows, rows * 24),
            times: Vec::with_capacity(rows),
            topics: RowNames::with_capacity(rows),
            targets: RowNames::default(),
            headers: Headers::default(),
        }
    }

    /// Appends a message without headers.
    #[inline]
    pub fn push(&mut self, message: Message<'_>) {
        self.payloads.push(message.payload);
        self.push_envelope(message);
    }

    /// Appends a message whose payload `write` appends to the buffer; on its error nothing is appended.
    #[inline]
    pub fn push_with<E>(
        &mut self,
        envelope: Message<'_>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.payloads.push_with(write)?;
        self.push_envelope(envelope);
        Ok(())
    }

    #[inline]
    fn push_envelope(&mut self, message: Message<'_>) {
        self.keys.push(message.key);
        let row = self.times.len();
        self.times.push(message.time.unwrap_or(NO_TIME));
        self.topics.push(row, message.topic);
        self.targets.push(row, message.target);
    }

    /// Adds a header to the message appended last. Panics if there is none.
    pub fn push_header(&mut self, name: &str, value: Option<&[u8]>) {
        assert!(!self.is_empty(), "a header needs a message");
        self.headers.push(self.len() - 1, Header { name, value });
    }

    /// The payload of `row`; `None` is a tombstone.
    #[inline]
    pub fn payload(&self, row: usize) -> Option<&[u8]> {
        self.payloads.get(row)
    }

    /// The key of `row`.
    #[inline]
    pub fn key(&self, row: usize) -> Option<&[u8]> {
        self.keys.get(row)
    }

    /// The event time of `row` in milliseconds since the Unix epoch.
    #[inline]
    pub fn time(&self, row: usize) -> Option<i64> {
        let time = self.times[row];
        (time != NO_TIME).then_some(time)
    }

    /// The topic `row` came from.
    #[inline]
    pub fn topic(&self, row: usize) -> Option<&Arc<str>> {
        self.topics.get(row)
    }

    /// The topic `row` should go to, where that was decided.
    #[inline]
    pub fn target(&self, row: usize) -> Option<&Arc<str>> {
        self.targets.get(row)
    }

    /// The headers of all messages.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// All of message `row` but its headers.
    pub fn message(&self, row: usize) -> Message<'_> {
        Message {
            payload: self.payload(row),
            key: self.key(row),
            time: self.time(row),
            topic: self.topic(row).map(|topic| &**topic),
            target: self.target(row).map(|target| &**target),
        }
    }

    /// A copy of the messages at `rows`, in that order, with their headers.
    pub fn take(&self, rows: &[u32]) -> Messages {
        let mut taken = Messages::with_capacity(rows.len(), 0);
        for &row in rows {
            taken.push(self.message(row as usize));
            for header in self.headers.of(row as usize) {
                taken.push_header(header.name, header.value);
            }
        }
        taken
    }

    /// Number of messages.
    #[inline]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Bytes held: payloads, keys, headers, names of topics and the fixed cost of each row.
    pub fn n_bytes(&self) -> usize {
        const ROW_BYTES: usize = 2 * size_of::<usize>() + size_of::<i64>() + 2 * size_of::<u32>();
        let names = self.topics.names.n_bytes() + self.targets.names.n_bytes();
        self.payloads.n_bytes() + self.keys.n_bytes() + self.headers.n_bytes() + names + self.len() * ROW_BYTES
    }
}

/// One optional name per row.
#[derive(Clone, Debug, Default)]
struct RowNames {
    names: Names,
    /// Number of the name plus one, zero for none; rows beyond the end have none.
    rows: Vec<u32>,
    /// The name used last, because neighbours mostly share one.
    last: u32,
}

impl RowNames {
    fn with_capacity(rows: usize) -> Self {
        Self { rows: Vec::with_capacity(rows), ..Self::default() }
    }

    #[inline]
    fn push(&mut self, row: usize, name: Option<&str>) {
        let Some(name) = name else { return };
        self.rows.resize(row, 0);
        if self.last == 0 || **self.names.get(self.last - 1) != *name {
            self.last = self.names.intern(name) + 1;
        }
        self.rows.push(self.last);
    }

    #[inline]
    fn get(&self, row: usize) -> Option<&Arc<str>> {
        match self.rows.get(row) {
            Some(&at) if at > 0 => Some(self.names.get(at - 1)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_beyond_the_scan() {
        let mut messages = Messages::default();
        let topics: Vec<String> = (0..50).map(|n| format!("t/{}", n % 20)).collect();
        for (n, topic) in topics.iter().enumerate() {
            messages.push(Message { topic: (n % 7 != 0).then_some(topic), ..Message::default() });
        }
        for (n, topic) in topics.iter().enumerate() {
            assert_eq!(messages.topic(n).map(|t| &**t), (n % 7 != 0).then_some(topic.as_str()), "row {n}");
        }
        assert_eq!(messages.topics.names.n_bytes(), 10 * 3 + 10 * 4, "each once");
        assert!(messages.target(3).is_none());
    }

    #[test]
    fn take_keeps_everything_in_the_order_asked_for() {
        let mut messages = Messages::default();
        for (key, payload) in [("a", Some(&b"1"[..])), ("b", None), ("c", Some(b""))] {
            messages.push(Message { payload, key: Some(key.as_bytes()), time: Some(7), ..Message::default() });
            messages.push_header("of", Some(key.as_bytes()));
        }
        let taken = messages.take(&[2, 1]);
        assert_eq!((taken.key(0), taken.payload(0)), (Some(&b"c"[..]), Some(&b""[..])));
        assert_eq!((taken.key(1), taken.payload(1)), (Some(&b"b"[..]), None));
        assert_eq!(taken.headers().last(0, "of").and_then(|h| h.value), Some(&b"c"[..]));
    }
}
