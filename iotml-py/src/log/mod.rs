//! Reading the log: a topic or files, from bytes to batches of rows for training.
//!
//! ```text
//! LogReader -> LogRead: [ thread: KafkaRows or FileRows -> Assembler ] -> blocks -> LogBatch, LogStream
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `options.rs`, `range.rs` | what to read, and what to make of it |
//! | `reader.rs` | `LogReader`, `FileReader` |
//! | `rows.rs`, `kafka.rs`, `files/` | rows from a topic, from files |
//! | `assemble.rs`, `labels.rs`, `windows.rs`, `rejected.rs` | rows to blocks |
//! | `worker.rs`, `reading.rs` | the thread that reads ahead, and the iterator on it |
//! | `block.rs`, `batch.rs`, `stream.rs`, `stats.rs` | what Python gets |
//! | `failure.rs` | why a read ends early |

mod assemble;
mod batch;
mod block;
mod failure;
mod files;
mod kafka;
mod labels;
mod options;
mod range;
mod reader;
mod reading;
mod rejected;
mod rows;
mod stats;
mod stream;
mod windows;
mod worker;

pub use batch::LogBatch;
pub use range::{FileRange, PyLogRange};
pub use reader::{FileReader, PyLogReader};
pub use reading::LogRead;
pub use stats::{LogStats, Rejection};
pub use stream::LogStream;
