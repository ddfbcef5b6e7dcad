//! Raw messages as a source received them, with the positions that acknowledge them.

use super::{Lane, Message, Messages, Position};

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
}

impl RawBatch {
    /// An empty batch with room for `rows` messages and `bytes` bytes of payload.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self {
            messages: Messages::with_capacity(rows, bytes),
            positions: Vec::with_capacity(rows),
            coordinates: Vec::with_capacity(rows),
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
