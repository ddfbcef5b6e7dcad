//! What is fuzzed, as functions of bytes that panic where a property does not hold. The targets for libFuzzer call them, and so
//! do the tests, which replay seeds and what was once found.

#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a property that does not hold is a panic")]

mod avro_datum;
mod avro_schema;
mod config;
mod confluent_frame;
mod csv;
mod input;
mod json;
mod mqtt_topic;
mod onnx;
mod oracle;
mod rows;
pub mod seeds;

pub use avro_datum::avro_datum;
pub use avro_schema::avro_schema;
pub use config::config;
pub use confluent_frame::confluent_frame;
pub use csv::csv;
pub use json::json;
pub use mqtt_topic::mqtt_topic;
pub use onnx::onnx;

/// A target.
pub type Check = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Check); 8] = [
    ("confluent_frame", confluent_frame),
    ("avro_datum", avro_datum),
    ("avro_schema", avro_schema),
    ("json", json),
    ("csv", csv),
    ("config", config),
    ("onnx", onnx),
    ("mqtt_topic", mqtt_topic),
];
