//! Tests of the crate as its users see it; one binary, so that one link serves them all.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod bad_input;
mod cars;
mod cli;
mod compare;
mod conformance;
mod engines;
mod kinds;
mod kmeans;
mod library;
mod live;
mod load;
mod pipeline;
mod row_scorer;
mod seed;
mod setup;
mod state;
mod store;
mod watch;
