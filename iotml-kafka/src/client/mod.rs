//! What source, sink and administration share: properties, start-up checks, error classes.

mod class;
mod connect;
mod properties;
mod reports;

pub(crate) use class::{Verdict, verdict};
pub(crate) use connect::{ConnectError, reach};
pub use properties::KafkaProperties;
pub(crate) use properties::Rule;
pub(crate) use reports::Reports;
