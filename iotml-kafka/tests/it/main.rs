//! Integration tests: the same assertions on librdkafka's in-memory cluster and, where `IOTML_KAFKA` names one, on a real Kafka.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bad_start;
mod chain;
mod cluster;
mod configured;
mod conformance;
mod delivery;
mod exactly_once;
mod gaps;
mod leave;
mod log;
mod log_bad;
mod model_topic;
mod model_topic_avro;
mod reading;
mod rebalance;
mod replay;
mod rights;
mod schemas;
mod security;
mod subjects;
