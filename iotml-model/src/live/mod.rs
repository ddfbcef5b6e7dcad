//! Models that change while the stream runs.
//!
//! ```text
//! feed -> loader (one thread for all tasks) -> seat of each task -> lineup: score
//!         fetch, check, open for each task      one atomic load a batch
//! ```
//!
//! 1. A [`Follower`] watches one model's announcements. Its loader fetches and checks what is announced beside the stream, opens it
//!    once for each task, and hands it over; whatever fails leaves what runs as it is.
//! 2. A [`LiveScorer`] takes over between two batches (invariant 8), and gives back what it had for the loader to free.
//! 3. While one is being loaded, only the newest of later announcements is kept, so that a storm of them is a few changes.

// A version is large and moves between acting, shadow and spent; its box moves instead.
#![expect(clippy::vec_box)]

mod check;
mod config;
mod fetch;
mod follower;
mod lineup;
mod loader;
mod memory;
mod refused;
mod register;
mod report;
mod sample;
mod scorer;
mod seat;
mod version;

pub use config::{FeedTable, FollowConfig};
pub use follower::Follower;
pub(crate) use register::register;
pub use scorer::LiveScorer;
