//! Integration tests of iotml-core, one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod avro;
mod cli;
mod config;
mod fakes;
mod http;
mod pipeline;
mod preprocess;
