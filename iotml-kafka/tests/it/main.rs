//! Integration tests: the same assertions on librdkafka's in-memory cluster and, where `IOTML_KAFKA` names one, on a real Kafka.

mod bad_start;
mod chain;
mod cluster;
mod conformance;
mod delivery;
mod gaps;
mod reading;
mod rebalance;
mod schemas;
