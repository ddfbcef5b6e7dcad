//! What receives for a source: one backend per connection, all on the source's own thread.

use std::pin::Pin;
use std::sync::atomic::AtomicU32;

use iotml_core::batch::Lane;
use tokio::sync::oneshot;

use super::config::MqttSourceConfig;
use super::counters::Counters;
use super::inbox::Inbox;
use super::mapping::Mapping;
use crate::server::Server;

/// One connection. It puts lanes and messages into the [`Inbox`] and obeys [`Command`]s until it is closed or dropped.
pub(super) trait Backend: Send {
    /// Runs to the end of the connection.
    fn run(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What all connections of a source share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: MqttSourceConfig,
    pub(super) server: Server,
    pub(super) mapping: Mapping,
    pub(super) inbox: Inbox,
    pub(super) counters: Counters,
    /// Lanes are never numbered twice (invariant 3).
    pub(super) next_lane: AtomicU32,
    /// The lane of each connection, for routing acknowledgements.
    pub(super) lanes: Vec<AtomicU32>,
}

/// What the source tells a connection.
#[derive(Debug)]
pub(super) enum Command {
    /// Everything of this lane up to and including this number is durable.
    Ack(Lane, u64),
    /// Send what is left to acknowledge, disconnect, and answer.
    Close(oneshot::Sender<()>),
}
