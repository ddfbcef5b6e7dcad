//! Pipelines run from Python.
//!
//! | file | what |
//! | --- | --- |
//! | `handle.rs` | `Pipeline`: start, stop, wait, what it says of itself |
//! | `run.rs` | one run, in a thread that waits for its end |
//! | `stats.rs` | what became of the rows, rates |
//! | `failure.rs` | errors as exceptions |
//! | `document.rs` | TOML for the builder |
//! | `followed.rs` | the announcements that a pipeline follows |
//! | `plugins.rs` | which plug-ins there are |
//! | `plugin/` | stages written in Python |
//! | `word.rs` | names that live as long as the process |

mod document;
mod failure;
mod followed;
mod handle;
mod plugin;
pub mod plugins;
mod run;
mod stats;
mod word;

pub use document::toml_text;
pub use followed::followed;
pub use handle::{Pipeline, stop_pipelines};
pub use plugin::{PyBatch, Task};
pub use stats::Stats;
