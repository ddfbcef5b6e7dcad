//! The reference chain: a bridge from MQTT to Kafka, a scoring pipeline behind it, and a way back into the process.
//!
//! [`Setting`] says how an operator would configure it; [`Chain`] runs it.

mod running;
mod setting;

pub use running::Chain;
pub use setting::Setting;

/// Partitions of every topic, as in the reference scenario.
pub const N_PARTITIONS: u16 = 10;
