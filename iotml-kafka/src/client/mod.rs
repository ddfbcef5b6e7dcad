//! What source, sink, log reader and administration share: properties, start-up checks, error classes, batched fetching.

mod class;
mod connect;
#[expect(unsafe_code, reason = "calls librdkafka where rdkafka has no wrapper")]
mod member;
mod properties;
#[expect(unsafe_code, reason = "calls librdkafka where rdkafka has no wrapper")]
mod queue;
mod refusal;
#[expect(unsafe_code, reason = "calls librdkafka where rdkafka has no wrapper")]
mod reports;

pub(crate) use class::{Verdict, verdict};
pub(crate) use connect::{ConnectError, reach, serve};
pub(crate) use member::{CallError, GroupMember};
pub use properties::KafkaProperties;
pub(crate) use properties::Rule;
pub(crate) use queue::{Fetched, MessageQueue, watermarks};
pub(crate) use reports::{ALONE, Reports};
