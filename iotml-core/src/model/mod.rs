//! Models that are announced while pipelines run: what is said of them, and where it is heard.
//!
//! ```text
//! publisher -> [ModelSet] -> [ModelFeed] -> scorer -> [ModelStatus] -> back by the feed
//! ```
//!
//! 1. a [`ModelSet`] is all that is in force of one model: its versions, and which rows each of them scores ([`Rollout`]);
//! 2. a [`ModelFeed`] tells a scorer the newest set, and every later one; a compacted Kafka topic is one, [`MemoryFeed`] another;
//! 3. a [`ModelStatus`] is what a worker says of a version: loading, ready, refused and why, let go;
//! 4. a [`ModelDrift`] is what it says when the rows are no longer like those that the version was trained on.
//!
//! A set replaces the one before it as a whole. What counts is what was announced last, not which version is higher: an older
//! version announced again is a downgrade, and one that is in service already is left alone.

mod announcement;
mod announcer;
mod digest;
mod drift;
mod feed;
mod memory;
mod rollout;
mod set;
mod status;

pub use announcement::{Announcement, Availability, Place};
pub use announcer::Announcer;
pub use digest::{Digest, DigestError};
pub use drift::{AnomalyRate, FeatureDrift, LogStretch, ModelDrift};
pub use feed::{Known, ModelFeed, ModelFeeds, Teller, Watch};
pub use memory::MemoryFeed;
pub use rollout::{Plan, Rollout};
pub use set::{MODEL_SET_FORMAT, ModelSet, SetError};
pub use status::{ModelState, ModelStatus};
