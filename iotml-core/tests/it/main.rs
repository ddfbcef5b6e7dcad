//! Integration tests of iotml-core, one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod avro;
mod cli;
mod config;
mod csv;
mod encode;
mod exactly_once;
mod fakes;
mod hostile;
mod http;
mod json;
mod letters;
mod pipeline;
mod preprocess;
mod remote;
mod rest;
mod supervision;
