//! What receives for a source: one backend per connection, all on the source's own thread.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use iotml_core::batch::Lane;
use iotml_core::source::SourceEvent;
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
    /// Connections that have not cleared yet what their broker had assigned to them; counts once the source takes leave.
    pub(super) n_to_clear: AtomicUsize,
}

/// For so long nothing must come after the last acknowledgement before a connection that takes leave believes that the broker
/// has nothing more for it. No packet says so.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// How often a connection that takes leave looks whether it is done.
pub(super) const LOOK: Duration = Duration::from_millis(100);

impl Shared {
    /// A connection that takes leave has nothing more to come. The last one ends the source.
    pub(super) fn cleared(&self) {
        if self.n_to_clear.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inbox.push_event(SourceEvent::End);
        }
    }
}

/// What the source tells a connection.
#[derive(Debug)]
pub(super) enum Command {
    /// Everything of this lane up to and including this number is durable.
    Ack(Lane, u64),
    /// Unsubscribe, go on until the broker has nothing more for us, and end the session with the connection.
    Leave,
    /// Send what is left to acknowledge, disconnect, and answer.
    Close(oneshot::Sender<()>),
}
