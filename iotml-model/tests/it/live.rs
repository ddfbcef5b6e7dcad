//! Models that change while a pipeline runs: what is put into force, when, and what is not.

mod anew;
mod bad;
mod change;
mod memory;
mod rollout;
mod store;
pub mod world;
