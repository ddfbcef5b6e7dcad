//! The layered core of iotml: what flows, the stages it flows through, and the pipeline that joins them.
//!
//! One chain, one word per stage, the same words in every crate, in the configuration and in the metrics:
//!
//! ```text
//! source -> decode -> preprocess -> score -> encode -> sink
//! ```
//!
//! 1. a [`source::Source`] yields raw messages and later acknowledges them;
//! 2. a [`decode::Decoder`] turns raw bytes into columns;
//! 3. [`preprocess::Preprocessor`]s filter and reshape rows;
//! 4. a [`score::Scorer`] appends scores and verdicts;
//! 5. an [`encode::Encoder`] turns columns back into bytes;
//! 6. a [`sink::Sink`] makes them durable.
//!
//! On every hop flows one type, the [`batch::Batch`]. The [`pipeline`] alone spawns, retries, sleeps and counts;
//! the [`plugin::Registry`] maps the `type` names of a configuration to stages.

#![forbid(unsafe_code)]

pub mod batch;

pub mod decode;
pub mod encode;
pub mod preprocess;
pub mod score;
pub mod sink;
pub mod source;

#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
pub mod error;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "cli")]
pub mod log;
pub mod metrics;
pub mod model;
pub mod pipeline;
pub mod plugin;
pub mod secret;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;

pub use arrow;
pub use async_trait::async_trait;
pub use ndarray;
pub use schemars;
