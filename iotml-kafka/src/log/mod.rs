//! Exact ranges of a topic, read outside any consumer group: for training, for comparing, for looking at what was.
//!
//! ```no_run
//! use std::time::Duration;
//! use iotml_kafka::{LogEvent, LogReader, LogReaderConfig, Select, Until};
//!
//! # fn main() -> Result<(), iotml_kafka::LogError> {
//! let mut log = LogReader::open(LogReaderConfig::new("localhost:9092", "sensor-data"))?;
//! let range = log.resolve(&Select::Last(1_000_000))?;
//! log.begin(&range, Until::End)?;
//! loop {
//!     match log.next(4096, Duration::from_millis(100))? {
//!         LogEvent::Batch(batch) => println!("{} messages of {range}", batch.len()),
//!         LogEvent::Idle => {}
//!         LogEvent::End => break,
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod ask;
mod config;
mod context;
mod error;
mod feed;
#[expect(unsafe_code, reason = "calls librdkafka where rdkafka has no wrapper")]
mod native;
mod progress;
mod range;
mod read_back;
mod reader;
mod reading;
mod watch;

pub use config::{LogReaderConfig, OnGap};
pub use error::LogError;
pub use progress::{LogGap, LogProgress};
pub use range::{LogRange, Select, Span};
pub(crate) use read_back::TopicReadBack;
pub use reader::{LogEvent, LogReader, Until};
