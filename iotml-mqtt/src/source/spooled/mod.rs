//! The backend on the Paho C client: messages go to a spool on disk before they are acknowledged to the broker.
//!
//! Paho acknowledges a message as soon as its callback returns, so the callback returns only when the message is in the
//! spool. That survives a kill of the process, and with `spool.fsync` a power cut. A full spool makes the callback wait, and with it the one
//! thread that receives for every Paho client of the process; nothing is dropped, and the broker keeps the rest. That thread sends
//! the keep-alives too, so a spool that stays full for longer than the broker's patience (one and a half times `keep_alive`) costs the
//! connection, though not the session: it is made again once there is room, and the message that waited may come twice.
//!
//! Paho's Rust wrapper ends the process when a broker sends a topic that is not UTF-8. MQTT forbids that, and the brokers we test with
//! refuse such a message when it is published; nothing is acknowledged by it.

mod acked;
mod client;
mod diagnosis;
mod keeper;
mod record;
mod segment;
mod spool;
#[cfg(test)]
mod spool_tests;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use iotml_core::batch::{Coordinate, Lane, LaneInfo, Position};
use iotml_core::error::Class;
use iotml_core::source::{SourceError, SourceEvent};
use rumqttc::{Packet, Publish};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::backend::{Backend, Command, LOOK, SILENCE, Shared};
use super::counters::SpoolGauges;
use super::handover::{hand_over, now};
use super::mapping::Mapped;
use crate::trouble::Trouble;
use client::Client;
use keeper::Keeper;
use spool::{Entry, Spool, SpoolError};

/// How long to wait before a message that could not be written to the spool is written again.
const RETRY: Duration = Duration::from_millis(200);

/// One Paho connection with its spool.
pub(super) struct Spooled {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    pub(super) client_id: String,
    /// Folder of this connection's spool.
    pub(super) folder: PathBuf,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) ready: oneshot::Sender<Result<(), Trouble>>,
}

impl Backend for Spooled {
    fn run(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let Spooled { shared, number, client_id, folder, commands, ready } = *self;
            let gauges = shared.counters.spool(number);
            let (spool, link) = match begin(&shared, &gauges, &client_id, &folder).await {
                Ok(begun) => begun,
                Err(trouble) => {
                    let _ = ready.send(Err(trouble));
                    return;
                }
            };
            let lane = Lane(shared.next_lane.fetch_add(1, Ordering::Relaxed));
            shared.lanes[number].store(lane.0, Ordering::Release);
            shared.inbox.push_event(SourceEvent::Assigned(vec![LaneInfo { lane, partition: client_id.into() }]));
            let _ = ready.send(Ok(()));
            let (leaving, mapped) = (Leaving::No, Mapped::default());
            let start = spool.position();
            let mut reader = Reader { shared, number, spool, gauges, link, commands, lane, start, leaving, mapped };
            let closed = match reader.run().await {
                Ok(closed) => closed,
                Err(error) => {
                    reader.shared.inbox.fail(error);
                    None
                }
            };
            // A callback that waits for room must come back before its client can end.
            reader.spool.close();
            let ends_session = matches!(reader.leaving, Leaving::Cleared) && reader.spool.is_empty();
            let says_goodbye = closed.is_some();
            let Reader { shared, mut link, spool, .. } = reader;
            let ended = apart(async move {
                // What became of a client that was still opening matters no more.
                let _ = link.open().await;
                if let Some(keeper) = link.keeper.take() {
                    keeper.stop().await;
                }
                if let Some(client) = &link.client
                    && says_goodbye
                {
                    client.disconnect(&shared, ends_session).await;
                }
            });
            // The client first: it still calls back into the spool.
            let _ = ended.await;
            drop(spool);
            if let Some(closed) = closed {
                let _ = closed.send(());
            }
        })
    }
}

/// Does `work`, which calls Paho, on a thread of its own.
fn apart<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work))
}

/// Opens the spool and connects. A session that is resumed may fill the spool before the broker has answered everything, and then
/// its messages must be read for the answers to come.
async fn begin(
    shared: &Arc<Shared>,
    gauges: &SpoolGauges,
    client_id: &str,
    folder: &Path,
) -> Result<(Arc<Spool>, Link), Trouble> {
    let config = &shared.config;
    let Some(spool) = &config.spool else { return Err(Trouble::fatal("the paho backend needs spool.dir")) };
    let spool = Spool::open(folder, spool.max_bytes.0 as u64, spool.fsync).map_err(|error| {
        // Whoever has it may be ourselves of before, whose client is still being closed.
        let class = if matches!(error, SpoolError::InUse { .. }) { Class::Retryable } else { Class::Fatal };
        Trouble::of(class, error.to_string(), error)
    })?;
    let spool = Arc::new(spool);
    show(&spool, gauges);
    let keep = {
        let (shared, spool, gauges) = (shared.clone(), spool.clone(), gauges.clone());
        move |message: &paho_mqtt::Message| {
            keep(&shared, &spool, message);
            show(&spool, &gauges);
        }
    };
    let (connecting, client_id) = (shared.clone(), client_id.to_owned());
    let opening = apart(async move {
        let (client, losses) = Client::connect(&connecting, &client_id, keep).await?;
        let keeper = Keeper::start(client.clone(), losses, connecting);
        Ok((client, keeper))
    });
    let mut link = Link { opening: Some(opening), client: None, keeper: None };
    tokio::select! {
        biased;
        opened = link.open() => opened?,
        () = spool.filled() => {}
    }
    Ok((spool, link))
}

/// A client, or one that is about to be; neither if it could not be opened.
struct Link {
    opening: Option<JoinHandle<Result<(Client, Keeper), Trouble>>>,
    client: Option<Client>,
    keeper: Option<Keeper>,
}

impl Link {
    /// Waits until the client is connected and subscribed, or could not be. Cancel-safe.
    async fn open(&mut self) -> Result<(), Trouble> {
        if let Some(opening) = &mut self.opening {
            let opened = opening.await;
            self.opening = None;
            let died = |error| Trouble::fatal_from("the client's thread died".into(), error);
            let (client, keeper) = opened.map_err(died).flatten()?;
            (self.client, self.keeper) = (Some(client), Some(keeper));
        }
        Ok(())
    }
}

impl From<SpoolError> for SourceError {
    fn from(error: SpoolError) -> Self {
        Self::fatal_from(error.to_string(), error)
    }
}

/// Writes a message to the spool, however long that takes: when this returns, the broker forgets it.
fn keep(shared: &Shared, spool: &Spool, message: &paho_mqtt::Message) {
    let mut body = BytesMut::new();
    // Paho gave us a packet, so it fits into one again.
    if let Err(error) = client::publish(message).write(&mut body) {
        shared.inbox.fail(SourceError::fatal(format!("a message cannot be kept: {error:?}")));
        return park();
    }
    while let Err(error) = spool.append(now().unwrap_or_default(), &body) {
        let message = format!("cannot write to the spool: {error}; make room or check the disk");
        tracing::error!("{message}");
        shared.inbox.fail(SourceError::fatal_from(message, error));
        std::thread::sleep(RETRY);
    }
}

/// Shows what a spool holds.
fn show(spool: &Spool, gauges: &SpoolGauges) {
    let held = spool.held();
    let shown = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    gauges.n_bytes.set(shown(held.n_bytes));
    gauges.n_messages.set(shown(held.n_records));
    gauges.oldest.set(held.oldest.unwrap_or_default() / 1_000);
}

/// Keeps the message unacknowledged by never returning; the source has failed and the process is about to end.
fn park() {
    loop {
        std::thread::park();
    }
}

/// Moves records from the spool to the inbox.
struct Reader {
    shared: Arc<Shared>,
    number: usize,
    spool: Arc<Spool>,
    gauges: SpoolGauges,
    link: Link,
    commands: mpsc::UnboundedReceiver<Command>,
    lane: Lane,
    /// Number of the lane's first message in the spool.
    start: u64,
    leaving: Leaving,
    mapped: Mapped,
}

/// How far a connection is with taking leave.
enum Leaving {
    No,
    /// It wants to unsubscribe.
    Wanted,
    /// The broker is asked; whether it has confirmed it.
    Asked(JoinHandle<bool>),
    /// The broker assigns nothing more to it; since when nothing came.
    Unsubscribed(Instant),
    /// The broker has nothing for it, nor has the spool.
    Cleared,
}

impl Reader {
    /// Runs until it is closed (with whom to tell), or its source is dropped.
    async fn run(&mut self) -> Result<Option<oneshot::Sender<()>>, SourceError> {
        loop {
            // Commands first, so that a long spool does not keep acknowledgements waiting.
            match self.commands.try_recv() {
                Ok(Command::Close(closed)) => return Ok(Some(closed)),
                Ok(Command::Leave) => {
                    self.leaving = Leaving::Wanted;
                    continue;
                }
                Ok(Command::Ack(lane, through)) => {
                    self.ack(lane, through)?;
                    continue;
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return Ok(None),
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            let full = !self.shared.inbox.has_room();
            if !full && let Some(entry) = self.spool.read()? {
                self.hand_on(entry);
                if let Leaving::Unsubscribed(silent) = &mut self.leaving {
                    *silent = Instant::now();
                }
                continue;
            }
            self.look_around().await;
            let is_leaving = !matches!(self.leaving, Leaving::No | Leaving::Cleared);
            let is_opening = self.link.opening.is_some();
            tokio::select! {
                opened = self.link.open(), if is_opening => opened.map_err(Trouble::into_source_error)?,
                () = self.shared.inbox.room(), if full => {}
                () = self.spool.grown(), if !full => {}
                () = tokio::time::sleep(LOOK), if is_leaving => {}
                command = self.commands.recv() => match command {
                    Some(Command::Close(closed)) => return Ok(Some(closed)),
                    Some(Command::Ack(lane, through)) => self.ack(lane, through)?,
                    Some(Command::Leave) => self.leaving = Leaving::Wanted,
                    None => return Ok(None),
                },
            }
        }
    }

    /// Goes on with taking leave, as far as that is possible now.
    async fn look_around(&mut self) {
        match (&mut self.leaving, &self.link.client) {
            (Leaving::Wanted, Some(client)) => {
                let (client, shared) = (client.clone(), self.shared.clone());
                self.leaving = Leaving::Asked(apart(async move { client.unsubscribe(&shared).await }));
            }
            (Leaving::Asked(asked), _) if asked.is_finished() => {
                let is_confirmed = asked.await.unwrap_or(false);
                self.leaving = if is_confirmed { Leaving::Unsubscribed(Instant::now()) } else { Leaving::Wanted };
            }
            (Leaving::Unsubscribed(silent), _) if silent.elapsed() >= SILENCE && self.spool.is_empty() => {
                self.leaving = Leaving::Cleared;
                self.shared.cleared();
            }
            _ => {}
        }
    }

    fn ack(&self, lane: Lane, through: u64) -> Result<(), SpoolError> {
        if lane == self.lane {
            self.spool.ack(self.start + through + 1)?;
            show(&self.spool, &self.gauges);
        }
        Ok(())
    }

    fn hand_on(&mut self, entry: Entry) {
        let position = Position { lane: self.lane, seq: entry.seq - self.start };
        let coordinate = Coordinate { partition: self.number as i32, offset: entry.seq as i64 };
        let mut body = BytesMut::from(entry.body.as_slice());
        let publish = match Packet::read(&mut body, None) {
            Ok(Packet::Publish(publish)) => publish,
            // Its checksum was right, so another version wrote it: better a message without a topic than a hole.
            _ => Publish::new(String::new(), rumqttc::QoS::AtLeastOnce, entry.body, None),
        };
        self.shared.counters.received.inc();
        hand_over(&self.shared, &mut self.mapped, &publish, Some(entry.time), position, coordinate);
    }
}
