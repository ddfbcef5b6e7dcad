//! The MQTT source.

mod backend;
mod config;
mod cork;
mod counters;
mod handover;
mod inbox;
mod link;
mod mapping;
mod options;
mod session;
#[cfg(feature = "paho")]
mod spooled;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use iotml_core::batch::{Ack, Lane};
use iotml_core::error::ConfigError;
use iotml_core::pipeline::TaskContext;
use iotml_core::source::{Acknowledged, Demand, Farewell, Source, SourceError, SourceEvent};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

pub use config::{
    BackendKind, EmptyPayload, KeptHeaders, MqttSourceConfig, MqttVersion, Retained, SpoolConfig, TopicConfig,
};

#[cfg(feature = "testing")]
pub(crate) use mapping::{Mapped, Mapping};

use crate::trouble::Trouble;
use backend::{Backend, Command, Shared};
use counters::Counters;
use inbox::{Inbox, Limits};
use link::LateAck;

/// A connection that has no lane yet.
const NO_LANE: u32 = u32::MAX;

/// How long `close` waits for the last acknowledgements to leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Receives from an MQTT 5 broker and acknowledges late: PUBACK is sent when [`Source::ack`] says that a message is durable.
///
/// One lane is one connection in one broker session. The session outlives the connection and the process: a restarted
/// process of the same instance name connects with the same client ids, and the broker sends again what was not acknowledged.
/// When the broker no longer has the session, the lane is [`Lost`](SourceEvent::Lost) and a new one begins.
///
/// The client runs on a thread of its own, so keep-alives do not depend on the pipeline. The broker's window
/// (`receive_maximum`) bounds what is in flight; where a broker goes beyond it, `max_buffer_bytes` makes the source stop reading.
/// Messages of QoS 0 know no window and are bounded by `max_qos0_rows`.
///
/// An instance that [leaves](Source::leave) unsubscribes, receives what the broker has already queued for its sessions, and ends
/// them once all of it is acknowledged. That the broker has nothing more is taken from its silence of a second.
///
/// Topics are UTF-8: brokers refuse a publisher's message under any other, and a broker that sends one all the same, which MQTT
/// forbids, ends the source with an error that says so.
///
/// ```no_run
/// use iotml_mqtt::source::TopicConfig;
/// use iotml_mqtt::{MqttSource, MqttSourceConfig};
///
/// let mut topic = TopicConfig::new("vehicles/sensor/data/{car}");
/// topic.key = Some("{car}".into());
/// topic.target = Some("sensor-data".into());
/// let source = MqttSource::new(MqttSourceConfig::new("mqtt://localhost:1883", topic))?;
/// # Ok::<(), iotml_core::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct MqttSource {
    /// Present until opened.
    plan: Option<Plan>,
    shared: Option<Arc<Shared>>,
    links: Vec<mpsc::UnboundedSender<Command>>,
    client_ids: Vec<String>,
    /// By connection: its lane, and how many messages of it are acknowledged.
    acked: Vec<(Lane, u64)>,
}

#[derive(Debug)]
struct Plan {
    config: MqttSourceConfig,
    server: crate::server::Server,
    mapping: mapping::Mapping,
}

impl MqttSource {
    /// A source for a single task. Connects to nothing; errors name what is wrong in the configuration.
    pub fn new(config: MqttSourceConfig) -> Result<Self, ConfigError> {
        Self::for_tasks(config, 1)
    }

    /// One of `n_tasks` equal sources, which must divide the messages by a shared subscription.
    pub fn for_tasks(config: MqttSourceConfig, n_tasks: usize) -> Result<Self, ConfigError> {
        let (server, mapping) = config.compile(n_tasks)?;
        let plan = Some(Plan { config, server, mapping });
        Ok(Self { plan, shared: None, links: Vec::new(), client_ids: Vec::new(), acked: Vec::new() })
    }

    fn opened(&self) -> Result<&Arc<Shared>, SourceError> {
        self.shared.as_ref().ok_or_else(|| SourceError::fatal("the mqtt source is not open"))
    }
}

/// The backend that the configuration asks for.
fn backend(
    shared: &Arc<Shared>,
    number: usize,
    client_id: &str,
    commands: mpsc::UnboundedReceiver<Command>,
    ready: oneshot::Sender<Result<(), Trouble>>,
) -> Result<Box<dyn Backend>, SourceError> {
    #[cfg(feature = "paho")]
    if let (BackendKind::Paho, Some(spool)) = (shared.config.backend, &shared.config.spool) {
        let folder = spool.dir.join(client_id);
        let (shared, client_id) = (shared.clone(), client_id.to_owned());
        return Ok(Box::new(spooled::Spooled { shared, number, client_id, folder, commands, ready }));
    }
    let options = options::options(&shared.config, &shared.server, client_id)
        .map_err(|error| SourceError::fatal_from(error.to_string(), error))?;
    Ok(Box::new(LateAck::new(shared.clone(), number, options, commands, ready)))
}

/// The same for every start of the same instance, so that a restarted process finds its sessions.
fn client_id(prefix: Option<&str>, task: &TaskContext, connection: usize) -> String {
    let prefix = prefix.unwrap_or(&task.pipeline);
    format!("{prefix}-{}-{}-{connection}", task.instance, task.task)
}

#[iotml_core::async_trait]
impl Source for MqttSource {
    async fn open(&mut self, task: &TaskContext) -> Result<(), SourceError> {
        let Some(Plan { config, server, mapping }) = self.plan.take() else {
            return Err(SourceError::fatal("the mqtt source was opened twice"));
        };
        let client_ids: Vec<_> =
            (0..config.connections).map(|number| client_id(config.client_id.as_deref(), task, number)).collect();
        let timeout = config.connection.connect_timeout.0;
        let shared = Arc::new(Shared {
            inbox: Inbox::new(Limits {
                max_rows: config.max_batch_rows,
                max_delay: config.max_batch_delay.0,
                max_qos0_rows: config.max_qos0_rows,
                max_bytes: config.max_buffer_bytes.0,
            }),
            counters: Counters::new(&task.metrics),
            next_lane: AtomicU32::new(0),
            lanes: client_ids.iter().map(|_| AtomicU32::new(NO_LANE)).collect(),
            n_to_clear: AtomicUsize::new(client_ids.len()),
            config,
            server,
            mapping,
        });
        let mut ready = Vec::new();
        let mut backends = Vec::new();
        for (number, client_id) in client_ids.iter().enumerate() {
            let (commands, obeyed) = mpsc::unbounded_channel();
            let (stands, standing) = oneshot::channel();
            backends.push(backend(&shared, number, client_id, obeyed, stands)?);
            self.links.push(commands);
            ready.push(standing);
        }
        let running = async {
            let mut running = tokio::task::JoinSet::new();
            for backend in backends {
                running.spawn(backend.run());
            }
            running.join_all().await;
        };
        crate::thread::spawn(&client_ids[0], running)
            .map_err(|error| SourceError::fatal_from("cannot start a thread for mqtt", error))?;
        for standing in ready {
            match tokio::time::timeout(timeout, standing).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(trouble))) => return Err(self.abandon(trouble)),
                Ok(Err(_)) => return Err(SourceError::fatal("the mqtt thread ended while connecting")),
                Err(_) => return Err(self.abandon(Trouble::no_answer(&shared.server, "answer"))),
            }
        }
        self.acked = vec![(Lane(NO_LANE), 0); client_ids.len()];
        self.client_ids = client_ids;
        self.shared = Some(shared);
        Ok(())
    }

    async fn poll(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        self.opened()?.inbox.poll(demand).await
    }

    fn ack(&mut self, acks: &[Ack]) -> Result<(), SourceError> {
        let shared = self.opened()?.clone();
        for Ack { lane, through } in acks {
            let connection = shared.lanes.iter().position(|known| known.load(Ordering::Acquire) == lane.0);
            let Some(connection) = connection else { continue };
            self.acked[connection] = (*lane, through + 1);
            if let Some(link) = self.links.get(connection) {
                // A connection that ended has said why through `poll`.
                let _ = link.send(Command::Ack(*lane, *through));
            }
        }
        Ok(())
    }

    fn acknowledged(&self) -> Vec<Acknowledged> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let known = self.client_ids.iter().zip(&shared.lanes).zip(&self.acked);
        let offsets = known.map(|((client_id, lane), (of, acked))| {
            // A session that began anew has nothing acknowledged yet.
            let acked = if of.0 == lane.load(Ordering::Acquire) { *acked } else { 0 };
            Acknowledged { partition: json!({ "client_id": client_id }), offset: json!({ "acknowledged": acked }) }
        });
        offsets.collect()
    }

    async fn leave(&mut self) -> Result<Farewell, SourceError> {
        self.opened()?;
        for link in &self.links {
            // A connection that ended has said why through `poll`.
            let _ = link.send(Command::Leave);
        }
        Ok(Farewell::UntilEnd)
    }

    async fn release(&mut self, _lanes: &[Lane]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn close(&mut self) -> Result<(), SourceError> {
        let mut closing = Vec::new();
        for link in self.links.drain(..) {
            let (closed, done) = oneshot::channel();
            if link.send(Command::Close(closed)).is_ok() {
                // Kept alive until answered: dropping it would end the connection without a DISCONNECT.
                closing.push((link, done));
            }
        }
        for (_link, done) in closing {
            if tokio::time::timeout(CLOSE_TIMEOUT, done).await.is_err() {
                tracing::warn!("an mqtt connection did not close in time; unacknowledged messages come again");
            }
        }
        Ok(())
    }
}

impl MqttSource {
    /// Nothing half started stays: dropping the commands ends the connections.
    fn abandon(&mut self, trouble: Trouble) -> SourceError {
        self.links.clear();
        trouble.into_source_error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_stable_and_differ_by_instance_task_and_connection() {
        let mut task = TaskContext::single("bridge");
        assert_eq!(client_id(None, &task, 0), "bridge-local-0-0");
        task.instance = "host-7".into();
        task.task = 2;
        assert_eq!(client_id(Some("cars"), &task, 3), "cars-host-7-2-3");
    }
}
