//! MQTT end to end: on the embedded broker always, and on Mosquitto and HiveMQ CE where their addresses are given.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod broker;
mod conformance;
mod cut;
mod delivery;
mod leave;
mod letters;
mod load;
mod mapping;
mod not_utf8;
mod publisher;
mod reader;
mod refusal;
mod restart;
mod security;
mod sink;
#[cfg(feature = "paho")]
mod spooled;
#[cfg(feature = "paho")]
mod spooled_again;
mod stall;
mod tls;
