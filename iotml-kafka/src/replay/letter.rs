//! A dead letter: a message with the context of its error in its headers.

use std::borrow::Cow;

use iotml_core::batch::{Coordinate, Header, Messages, RawBatch};
use iotml_core::pipeline::header;

/// One dead letter, as it lies in its topic.
#[derive(Clone, Copy)]
pub(super) struct Letter<'a> {
    messages: &'a Messages,
    row: usize,
    /// Its own place, not that of the message it was made of.
    pub place: Coordinate,
}

impl<'a> Letter<'a> {
    /// Message `row` of what was read of the topic.
    pub fn of(raw: &'a RawBatch, row: usize) -> Self {
        Self { messages: raw.messages(), row, place: raw.coordinate(row) }
    }

    /// The topic the message came from, if the letter says so.
    pub fn origin(&self) -> Option<Cow<'a, str>> {
        self.text(header::TOPIC).filter(|topic| !topic.is_empty())
    }

    /// The reason in one word; of a letter that Kafka Connect wrote, the class of the exception.
    pub fn reason(&self) -> Option<Cow<'a, str>> {
        self.text(header::REASON).or_else(|| self.text(header::EXCEPTION))
    }

    /// How often the message was fed back before. A count that is none is taken for 0, and is one once it was fed back.
    pub fn replays(&self) -> u32 {
        self.text(header::REPLAYS).and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    pub fn key(&self) -> Option<&'a [u8]> {
        self.messages.key(self.row)
    }

    pub fn payload(&self) -> Option<&'a [u8]> {
        self.messages.payload(self.row)
    }

    /// Time of the message in milliseconds since the Unix epoch.
    pub fn time(&self) -> Option<i64> {
        self.messages.time(self.row)
    }

    /// The headers that the message had when it was received first.
    pub fn own_headers(&self) -> impl Iterator<Item = Header<'a>> {
        let all = self.messages.headers().of(self.row);
        all.filter(|header| !header::is_context(header.name) && header.name != header::REPLAYS)
    }

    /// What the last header of this name says.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let header = self.messages.headers().last(self.row, name)?;
        header.value.map(String::from_utf8_lossy)
    }
}
