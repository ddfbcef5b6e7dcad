//! Where a message stands in its source, for acknowledgement.

use std::sync::Arc;

/// One ordered stretch of a source: one MQTT connection in one session, or one Kafka partition in one assignment.
///
/// A source numbers its lanes itself and never uses a number twice, so that a position of a lane that
/// is gone can never be taken for one of its successor (invariant 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane(pub u32);

/// A message's place: its lane, and its number there, dense from the lane's first message on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The lane.
    pub lane: Lane,
    /// 0, 1, 2, ... without holes.
    pub seq: u64,
}

/// "Every position of `lane` up to and including `through` is done."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The lane.
    pub lane: Lane,
    /// The last position of the contiguous prefix that is done.
    pub through: u64,
}

/// A lane as its source announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneInfo {
    /// Number, new in this process.
    pub lane: Lane,
    /// The name of the partition behind it, such as `sensor-data-3`, stable over restarts: state is kept by it.
    pub partition: Arc<str>,
}
