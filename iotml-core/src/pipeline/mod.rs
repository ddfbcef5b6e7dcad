//! The pipeline: joins the stages, and alone spawns, retries, sleeps and counts.

mod context;

pub use context::TaskContext;
