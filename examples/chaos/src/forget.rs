//! A broker that forgets the bridge's session, and what must follow.

use std::time::Duration;

use cars::mqtt::{Ledger, publish};
use cars::process::Failure;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use crate::config::client_ids;
use crate::load;
use crate::run::{PATIENCE, Run};

/// What publishes after the session was lost: few cars, a few messages each.
const LATER_CARS: std::ops::Range<u32> = 1_000..1_005;
const LATER_MESSAGES: u64 = 40;
/// A car that publishes until one of its messages arrives, and of which any other may be missing.
const PROBE: u32 = 9_999;

impl Run<'_> {
    /// Makes the broker forget the bridge, and publishes a little more once it has subscribed again.
    pub async fn lose_session(&mut self) -> Result<(), Failure> {
        let (hands, proxy) = (self.hands.clone(), self.stage.proxies.bridge_to_broker.clone());
        until("the bridge has acknowledged all", || async {
            hands.bridge.metric("iotml_pipeline_in_flight_rows").await == Some(0)
        })
        .await?;
        self.journal.note("begins: the broker forgets the session");
        proxy.shut(true);
        for client_id in client_ids(&self.name, self.plan.filter) {
            forget(&client_id, self.stage.ports.mqtt).await?;
        }
        proxy.shut(false);
        let n_lost = self.plan.filter.n_connections();
        until("the bridge has counted the lost sessions", || async {
            hands.bridge.metric("iotml_source_mqtt_lost_sessions_total").await == Some(n_lost)
        })
        .await?;
        let n_logged = hands.bridge.seen().n_lost_sessions;
        if n_logged != n_lost {
            self.failures.push(format!("{n_lost} sessions were lost, and the log speaks of {n_logged} (invariant 4)"));
        }
        self.probe().await?;
        self.journal.note("over:   the broker forgets the session");
        self.publish(LATER_CARS, LATER_MESSAGES, None).await
    }

    /// Waits until what is published arrives.
    async fn probe(&mut self) -> Result<(), Failure> {
        let streams = load::streams(&self.name, PROBE..PROBE + 1, u64::MAX, 1);
        let (stop, stopped) = watch::channel(false);
        let load = self.load(Some(20.0));
        let publishing = tokio::spawn(async move { publish(streams, &load, Ledger::new(1), stopped).await });
        let deadline = Instant::now() + PATIENCE;
        loop {
            block_in_place(|| self.input.read(PATIENCE))?;
            if self.input.rows.iter().flatten().any(|row| row.car == PROBE) {
                break;
            }
            if Instant::now() >= deadline {
                return Err("the bridge receives nothing after its session was lost".into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        stop.send_replace(true);
        publishing.await??;
        let n_probes = self.input.rows.iter().flatten().filter(|row| row.car == PROBE).map(|row| row.seq).max();
        // Those behind it may be on their way; all that are cut short belong to the dead letters.
        self.truth.poison.extend(load::poison(PROBE..PROBE + 1, n_probes.unwrap_or(0) + 1_000));
        Ok(())
    }
}

/// Connects as another client would and ends its session.
async fn forget(client_id: &str, mqtt: u16) -> Result<(), Failure> {
    let mut options = MqttOptions::new(client_id, ("127.0.0.1", mqtt));
    options.set_clean_start(true).set_session_expiry_interval(Some(0));
    let (client, mut events) = AsyncClient::builder(options).capacity(1).build();
    while !matches!(timeout(PATIENCE, events.poll()).await??, Event::Incoming(Packet::ConnAck(_))) {}
    client.disconnect().await?;
    // Ends with an error once the connection is closed.
    while timeout(PATIENCE, events.poll()).await?.is_ok() {}
    Ok(())
}

async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        if Instant::now() >= deadline {
            return Err(format!("waited {PATIENCE:?} until {what}").into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
