//! The test kit: conformance suites for every trait, fakes, and the addresses of test servers.

pub mod decode;
pub mod rows;
pub mod servers;
pub mod sink;
pub mod source;

mod memory;

pub use memory::{MemoryLog, MemorySink, MemorySource, Scripted};
