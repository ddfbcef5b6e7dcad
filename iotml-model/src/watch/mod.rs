//! Whether live rows are still like those that a model was trained on.
//!
//! ```text
//! batch -> observer of each task: counts into bins -> window of the version -> PSI, KS -> limit for long enough? -> report
//!          one pass over the columns, no allocation   one lock a batch, all tasks together      by the feed, once
//! ```
//!
//! 1. The manifest's [`Distribution`](crate::manifest::Distribution) says how the raw values of the training rows are shared among bins;
//! 2. a [`Watcher`] counts the live rows of every version into the same bins, window by window, for all tasks of a process;
//! 3. of each window and feature follow the PSI, the sum over bins of `(p - q) ln(p / q)` for the shares `p` live and `q` in training
//!    (none below 1e-4), in which rows without a value are a bin of their own, and the Kolmogorov-Smirnov distance of the rows that have
//!    one, at the edges of the bins;
//! 4. once a limit is passed in enough windows in a row, one [`ModelDrift`](iotml_core::model::ModelDrift) is reported: the next only
//!    after a window within the limits, or after a while.
//!
//! Memory is a few numbers for each bin and partition, whatever comes.

mod bins;
mod config;
mod observer;
mod tally;
mod trigger;
mod watched;
mod watcher;

pub use config::WatchConfig;
pub(crate) use observer::{Observer, Verdicts};
pub use watcher::Watcher;
pub(crate) use watcher::{NO_DISTRIBUTION, Shared};
