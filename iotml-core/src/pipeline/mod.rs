//! The pipeline: joins the stages, and alone spawns, retries, sleeps and counts.
//!
//! ```text
//! source -> decode -> preprocess -> score -> for each route: encode -> sink
//!    ^                                                                  |
//!    +------------ acknowledgements, by lane, in receive order ---------+
//! ```
//!
//! Each task has one OS thread that decodes, preprocesses, scores and encodes; sources receive and sinks deliver in
//! threads of their own, with bounded hand-over on both sides. [`PipelineSpec`] says what to run, [`Pipeline::start`]
//! runs it, [`PipelineHandle`] watches and stops it, [`PipelineControl`] does so from elsewhere. A task that fails is begun
//! anew with fresh stages, as often as [`PipelineOptions`] say.

mod audit;
mod board;
mod chain;
mod context;
mod control;
mod dead_letter;
mod error;
mod exactly_once;
mod handle;
mod limit;
mod notices;
mod order;
mod outlet;
mod retry;
mod shared;
mod shorten;
mod spec;
mod status;
mod step;
mod supervisor;
mod task;
mod tracker;
mod when;

pub use audit::Audit;
pub use context::TaskContext;
pub use control::PipelineControl;
pub use dead_letter::header;
pub use error::PipelineError;
pub use handle::{Pipeline, PipelineHandle, Summary};
pub use notices::Notices;
pub use shared::Shared;
pub use spec::{BuildTask, Delivery, OnFailure, PipelineOptions, PipelineSpec, Route, TaskStages, Tolerance};
pub use status::{Health, PipelineStatus, TaskState, TaskStatus};
pub use when::When;
