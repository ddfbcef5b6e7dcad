//! The sink's connection: keeps it up, and fails what it cannot deliver.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iotml_core::error::Class;
use rumqttc::{AsyncClient, Event, EventLoop, NoticeFailureReason, Outgoing, Packet};
use tokio::sync::oneshot;

use crate::server::Server;
use crate::trouble::Trouble;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The client end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: AsyncClient,
    /// Whether rows can go out now.
    pub(super) stands: Arc<AtomicBool>,
}

/// Runs the connection until it is closed, its client is dropped, or the first attempt fails.
pub(super) async fn run(
    server: Server,
    mut events: EventLoop,
    stands: Arc<AtomicBool>,
    ready: oneshot::Sender<Result<(), Trouble>>,
) {
    let mut ready = Some(ready);
    let mut pause = FIRST_PAUSE;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                stands.store(true, Ordering::Release);
                pause = FIRST_PAUSE;
                if let Some(ready) = ready.take() {
                    let _ = ready.send(Ok(()));
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                stands.store(false, Ordering::Release);
                // The pipeline writes them again; kept here, they would pile up for as long as the broker is away.
                events.drain_pending_as_failed(NoticeFailureReason::SessionReset);
                let trouble = Trouble::from_client(&server, error);
                if let Some(ready) = ready.take() {
                    let _ = ready.send(Err(trouble));
                    return;
                }
                if trouble.class == Class::Fatal {
                    // Rows are refused as retryable from now on, so the pipeline's retry timeout ends the task with this in the log.
                    tracing::error!("{trouble}");
                    return;
                }
                tracing::warn!(?pause, "{trouble}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
