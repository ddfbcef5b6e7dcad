//! Raw messages as a source received them, with the positions that acknowledge them.

use super::{Lane, Message, Messages, Position, Rejected};
use crate::error::Cause;

/// Where a message stands in the foreign system, for reports and dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coordinate {
    /// Kafka partition or MQTT connection; -1 where there is none.
    pub partition: i32,
    /// Kafka offset or MQTT packet id; -1 where there is none.
    pub offset: i64,
}

impl Coordinate {
    /// For a source that has no coordinates of its own.
    pub const NONE: Coordinate = Coordinate { partition: -1, offset: -1 };
}

/// One received message on its way into a [`RawBatch`].
#[derive(Clone, Copy, Debug)]
pub struct RawMessage<'a> {
    /// What was received.
    pub message: Message<'a>,
    /// Its place in its lane.
    pub position: Position,
    /// Its place in the foreign system.
    pub coordinate: Coordinate,
}

/// Received messages, kept until each is acknowledged so that a late stage can still dead-letter the original bytes.
#[derive(Clone, Debug, Default)]
pub struct RawBatch {
    messages: Messages,
    positions: Vec<Position>,
    coordinates: Vec<Coordinate>,
    rejected: Vec<Rejected>,
}

impl RawBatch {
    /// An empty batch with room for `rows` messages and `bytes` bytes of payload.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self {
            messages: Messages::with_capacity(rows, bytes),
            positions: Vec::with_capacity(rows),
            coordinates: Vec::with_capacity(rows),
            rejected: Vec::new(),
        }
    }

    /// Appends one message without headers.
    #[inline]
    pub fn push(&mut self, raw: RawMessage<'_>) {
        self.messages.push(raw.message);
        self.positions.push(raw.position);
        self.coordinates.push(raw.coordinate);
    }

    /// Adds a header to the message appended last. Panics if there is none.
    pub fn push_header(&mut self, name: &str, value: Option<&[u8]>) {
        self.messages.push_header(name, value);
    }

    /// Says that the message appended last can be no row, and why: it becomes a dead letter of the source, and no stage sees it.
    /// Panics if there is none.
    pub fn reject(&mut self, cause: Cause) {
        assert!(!self.is_empty(), "a cause needs a message");
        self.rejected.push(Rejected { row: self.len() as u32 - 1, cause });
    }

    /// The messages that can be no rows, in ascending order.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// A copy of the messages at `rows`, which ascend, with their headers and causes.
    pub fn take(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let mut taken = Self::default();
        let mut causes = self.rejected.iter().peekable();
        for row in rows {
            let message = self.messages.message(row);
            taken.push(RawMessage { message, position: self.positions[row], coordinate: self.coordinates[row] });
            self.messages.headers().of(row).for_each(|header| taken.push_header(header.name, header.value));
            while causes.next_if(|rejected| (rejected.row as usize) < row).is_some() {}
            if let Some(rejected) = causes.next_if(|rejected| rejected.row as usize == row) {
                taken.reject(rejected.cause.clone());
            }
        }
        taken
    }

    /// A copy in which the messages that can be no rows have nothing but their places, so that a decoder does not see them.
    pub(crate) fn without_rejected(&self) -> Self {
        let mut shown = Self::with_capacity(self.len(), self.messages.n_bytes());
        let mut causes = self.rejected.iter().peekable();
        for row in 0..self.len() {
            let is_rejected = causes.next_if(|rejected| rejected.row as usize == row).is_some();
            let message = if is_rejected { Message::default() } else { self.messages.message(row) };
            shown.push(RawMessage { message, position: self.positions[row], coordinate: self.coordinates[row] });
            let headers = self.messages.headers().of(row).filter(|_| !is_rejected);
            headers.for_each(|header| shown.push_header(header.name, header.value));
        }
        shown
    }

    /// The messages.
    #[inline]
    pub fn messages(&self) -> &Messages {
        &self.messages
    }

    /// The position of `row`.
    #[inline]
    pub fn position(&self, row: usize) -> Position {
        self.positions[row]
    }

    /// All positions in row order.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// The coordinate of `row`.
    pub fn coordinate(&self, row: usize) -> Coordinate {
        self.coordinates[row]
    }

    /// The lane of `row`.
    pub fn lane(&self, row: usize) -> Lane {
        self.positions[row].lane
    }

    /// Number of messages.
    #[inline]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Bytes held, which count against the pipeline's memory bound.
    pub fn n_bytes(&self) -> usize {
        self.messages.n_bytes() + self.len() * (size_of::<Position>() + size_of::<Coordinate>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

    fn batch() -> RawBatch {
        let mut batch = RawBatch::default();
        for seq in 0..5u64 {
            let payload = [seq as u8];
            batch.push(RawMessage {
                message: Message { payload: Some(&payload), key: Some(b"k"), ..Message::default() },
                position: Position { lane: Lane(0), seq },
                coordinate: Coordinate::NONE,
            });
            batch.push_header("n", Some(&payload));
            if seq % 2 == 1 {
                batch.reject(Cause::new(Reason::Oversized, format!("message {seq}")));
            }
        }
        batch
    }

    #[test]
    fn messages_that_are_taken_keep_their_causes() {
        let taken = batch().take([0, 3, 4]);
        let causes: Vec<_> = taken.rejected().iter().map(|it| (it.row, it.cause.detail.as_str())).collect();
        assert_eq!(causes, [(1, "message 3")]);
        assert_eq!((taken.len(), taken.position(1).seq, taken.messages().payload(1)), (3, 3, Some(&[3][..])));
        assert_eq!(taken.messages().headers().last(2, "n").and_then(|it| it.value), Some(&[4][..]));
    }

    #[test]
    fn a_decoder_sees_only_places_of_what_can_be_no_row() {
        let shown = batch().without_rejected();
        for row in 0..5 {
            let is_shown = row % 2 == 0;
            assert_eq!(shown.messages().payload(row).is_some(), is_shown);
            assert_eq!(shown.messages().headers().of(row).count(), usize::from(is_shown));
            assert_eq!(shown.position(row).seq, row as u64);
        }
        assert!(shown.rejected().is_empty());
    }
}
