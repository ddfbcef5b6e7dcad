//! Makes a lost connection again. Paho could do so by itself, but tells nobody then whether the broker still has the session, nor
//! whether it has granted the subscriptions.

use std::sync::Arc;
use std::time::Duration;

use iotml_core::error::Class;
use paho_mqtt::ReasonCode;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::backend::Shared;
use super::apart;
use super::client::{Client, Loss};
use crate::trouble::Trouble;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Keeps a client connected until it is told to stop.
pub(super) struct Keeper {
    stop: oneshot::Sender<()>,
    keeping: JoinHandle<()>,
}

impl Keeper {
    /// Begins. What a person has to mend fails the source.
    pub(super) fn start(client: Client, losses: mpsc::UnboundedReceiver<Loss>, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, keeping: tokio::spawn(keep(client, losses, shared, stopped)) }
    }

    /// Stops, once an attempt that has begun is over: Paho must not call back into a client that is gone.
    pub(super) async fn stop(self) {
        drop(self.stop);
        let _ = self.keeping.await;
    }
}

async fn keep(
    client: Client,
    mut losses: mpsc::UnboundedReceiver<Loss>,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    loop {
        let loss = tokio::select! {
            _ = &mut stopped => return,
            loss = losses.recv() => loss,
        };
        let Some(loss) = loss else { return };
        if loss == Loss::Said(ReasonCode::SessionTakenOver) {
            // Two processes with one client id would push each other out for ever.
            return shared.inbox.fail(Trouble::taken_over(&shared.server).into_source_error());
        }
        if is_connected(&client).await {
            // Told twice, or lost while it was being made again.
            continue;
        }
        shared.counters.reconnects.inc();
        tracing::warn!(server = %shared.server, ?loss, "the connection broke");
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = tokio::time::sleep(pause) => {}
            }
            match connect_again(&client, &shared).await {
                Ok(()) => break,
                Err(trouble) if trouble.class == Class::Fatal => {
                    return shared.inbox.fail(trouble.into_source_error());
                }
                Err(trouble) => tracing::warn!(?pause, "{trouble}"),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

async fn connect_again(client: &Client, shared: &Arc<Shared>) -> Result<(), Trouble> {
    let connecting = {
        let (client, shared) = (client.clone(), shared.clone());
        apart(async move { client.connect_again(&shared).await })
    };
    let died = |error| Trouble::fatal_from("the client's thread died".into(), error);
    let has_session = connecting.await.map_err(died).flatten()?;
    if !has_session {
        shared.counters.lost_sessions.inc();
        let server = &shared.server;
        tracing::warn!("{server} no longer has the session; messages it held are gone, those in the spool are not");
    }
    Ok(())
}

async fn is_connected(client: &Client) -> bool {
    let client = client.clone();
    apart(async move { client.is_connected() }).await.unwrap_or(false)
}
