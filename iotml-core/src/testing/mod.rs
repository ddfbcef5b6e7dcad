//! The test kit: conformance suites for every trait, fakes, and the addresses of test servers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a suite fails by panicking")]

pub mod decode;
pub mod encode;
pub mod preprocess;
pub mod rows;
pub mod score;
pub mod servers;
pub mod sink;
pub mod source;

mod memory;
mod transaction;

pub use memory::{MemoryLog, MemorySink, MemorySource, Scripted};
pub use transaction::{CommitFault, MemoryTransaction};
