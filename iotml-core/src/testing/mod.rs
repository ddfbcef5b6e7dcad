//! The test kit: conformance suites for every trait, fakes, and the addresses of test servers.

pub mod servers;
