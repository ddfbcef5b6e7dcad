//! What flows on every hop: a [`Batch`] of rows, over the raw messages they came from.

mod arena;
mod headers;
mod messages;
mod names;
mod position;
mod raw;
mod rows;

pub use arena::Arena;
pub use headers::{Header, Headers};
pub use messages::{Message, Messages};
pub use position::{Ack, Lane, LaneInfo, Position};
pub use raw::{Coordinate, RawBatch, RawMessage};
pub use rows::{Batch, Rejected, StageOutput};

/// The event time of a message that carries none. All other times are milliseconds since the Unix epoch.
pub const NO_TIME: i64 = i64::MIN;
