//! A broker inside the process, for demos and tests.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mqtt5::broker::config::{BrokerConfig, StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerShutdownHandle, MqttBroker};

/// Connections the broker takes.
const MAX_CLIENTS: usize = 10_000;

/// Messages on their way to one client before the publisher is made to wait.
const LANE: usize = 1_000_000;

/// The largest packet that MQTT's length can say. The default is one byte more, which strict clients (Paho's for Python)
/// refuse to hear of.
const MAX_PACKET: usize = 268_435_455;

/// A thousand connections in one process pass the usual soft limit of 1,024 open files.
const OPEN_FILES: u64 = 65_536;

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
#[error("the embedded mqtt broker did not start: {0}")]
pub struct EmbeddedError(String);

/// An MQTT 5 broker on 127.0.0.1 and a port of its own, which stops when dropped.
///
/// Everything is kept in memory and nothing is dropped: no bound on queues, no limit on rates, a window of 65,535. It is
/// no broker for production: memory grows with what subscribers leave unacknowledged, and a stop forgets it.
pub struct EmbeddedBroker {
    address: SocketAddr,
    stop: BrokerShutdownHandle,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker on a free port and returns once it takes connections.
    pub fn start() -> Result<Self, EmbeddedError> {
        Self::start_on(0)
    }

    /// Starts a broker on this port of 127.0.0.1; 0 picks a free one.
    pub fn start_on(port: u16) -> Result<Self, EmbeddedError> {
        // Too low a limit shows up as a refused connection, with its own message.
        let _ = rlimit::increase_nofile_limit(OPEN_FILES);
        let (started, ready) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("mqtt broker".into())
            .spawn(move || run(port, &started))
            .map_err(|error| EmbeddedError(error.to_string()))?;
        match ready.recv_timeout(Duration::from_secs(30)) {
            Ok(Ok((address, stop))) => Ok(Self { address, stop, thread: Some(thread) }),
            Ok(Err(error)) => Err(EmbeddedError(error)),
            Err(_) => Err(EmbeddedError("it was not ready within 30 s".into())),
        }
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where it listens, as `mqtt://host:port`.
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.stop.shutdown();
        if let Some(thread) = self.thread.take() {
            // A broker that panicked has already said so.
            let _ = thread.join();
        }
    }
}

type Started = mpsc::Sender<Result<(SocketAddr, BrokerShutdownHandle), String>>;

fn run(port: u16, started: &Started) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("mqtt broker").enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error.to_string()));
            return;
        }
    };
    runtime.block_on(async {
        let mut broker = match MqttBroker::with_config(limits(port)).await {
            Ok(broker) => broker,
            Err(error) => {
                let _ = started.send(Err(error.to_string()));
                return;
            }
        };
        let Some(address) = broker.local_addr() else {
            let _ = started.send(Err("it has no address".into()));
            return;
        };
        let stop = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let announce = async {
            if ready.wait_for(|ready| *ready).await.is_ok() {
                let _ = started.send(Ok((address, stop)));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = broker.run() => if let Err(error) = ended {
                tracing::error!(%error, "the embedded mqtt broker ended");
                let _ = started.send(Err(error.to_string()));
            },
            () = announce => {}
        }
    });
    // Connections still open must not hold up the drop of the handle.
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Loopback only, and no limit that would drop a message: the defaults bind 0.0.0.0, keep 64 in flight, and silently drop
/// the oldest beyond 10,000 queued messages or 64 MiB per client.
fn limits(port: u16) -> BrokerConfig {
    let storage = StorageConfig::new()
        .with_backend(StorageBackend::Memory)
        .with_max_queued_messages_per_client(usize::MAX)
        .with_max_queued_bytes_per_client(usize::MAX);
    let mut config = BrokerConfig::new()
        .with_bind_address((Ipv4Addr::LOCALHOST, port))
        .with_max_clients(MAX_CLIENTS)
        .with_max_packet_size(MAX_PACKET)
        .with_client_channel_capacity(LANE)
        .with_max_outbound_inflight(u16::MAX)
        .with_sys_topics_enabled(false)
        .with_storage(storage);
    config.auth_config.rate_limit.enabled = false;
    config
}
