//! Publishes streams of messages over MQTT 5, one connection per stream, and remembers which the broker acknowledged.
//!
//! Every message carries two user properties: `seq`, its number in its stream, and `sent`, microseconds since 1970.

use std::collections::VecDeque;
use std::future::ready;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, EventLoop, MqttOptions, NetworkOptions, PublishNoticeError,
    PublishOptions, PublishProperties, QoS,
};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout_at};

/// Name of the user property that numbers the messages of a stream.
pub const SEQ: &str = "seq";
/// Name of the user property with the time of publishing, microseconds since 1970.
pub const SENT: &str = "sent";

/// Publishes that one connection may have unacknowledged, beyond which it waits.
const WINDOW: usize = 64;

/// A device: a connection and what it publishes.
pub struct Stream {
    /// MQTT client id.
    pub client_id: String,
    /// Topic of every message.
    pub topic: String,
    /// Payloads; the stream ends with them.
    pub payloads: Payloads,
}

/// How to publish.
#[derive(Clone, Debug)]
pub struct Load {
    /// The broker, `host:port`.
    pub server: String,
    /// QoS of every message: 0 or 1.
    pub qos: u8,
    /// Messages per second of each stream; `None` is as fast as acknowledgements allow.
    pub rate: Option<f64>,
    /// Connections begin spread over this time.
    pub ramp_up: Duration,
    /// How long the end waits for acknowledgements still missing.
    pub patience: Duration,
}

/// What was published so far, shared with whoever watches.
#[derive(Debug, Default)]
pub struct Ledger {
    connected: AtomicU64,
    published: AtomicU64,
    acked: AtomicU64,
    resent: AtomicU64,
    /// Per stream, how many messages from the first on were acknowledged: a connection's acknowledgements come in order.
    acked_by_stream: Mutex<Vec<u64>>,
}

impl Ledger {
    /// A ledger for so many streams.
    pub fn new(n_streams: usize) -> Arc<Self> {
        Arc::new(Self { acked_by_stream: Mutex::new(vec![0; n_streams]), ..Self::default() })
    }

    /// Streams that got a connection.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// Messages handed to a connection.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Messages the broker took responsibility for (QoS 0: handed to the socket).
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Messages sent once more, because their connection was lost before they were acknowledged: the broker may have them twice.
    pub fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }

    /// How many messages of each stream, from the first on, were acknowledged.
    pub fn acked_by_stream(&self) -> Vec<u64> {
        self.acked_by_stream.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ack(&self, stream: usize) {
        self.acked.fetch_add(1, Ordering::Relaxed);
        self.acked_by_stream.lock().unwrap_or_else(PoisonError::into_inner)[stream] += 1;
    }
}

/// Why publishing failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address is not `host:port`.
    #[error("{0:?} is not host:port")]
    Address(String),
    /// The broker could not be reached, or refused the connection.
    #[error("no connection to the mqtt broker at {server}; is it running?")]
    Connect {
        /// The broker.
        server: String,
        /// The cause.
        #[source]
        source: Box<ConnectionError>,
    },
    /// A message cannot be published at all.
    #[error("stream {0:?} cannot publish")]
    Publish(String, #[source] rumqttc::ClientError),
}

/// Publishes all streams until they end or `stop` becomes true, then waits for what is unacknowledged.
///
/// Errs if the first connection of a stream fails; a connection lost later is made again and what it had in flight is sent
/// again, before anything new, so that the first occurrences keep their order. Needs a tokio runtime with time and I/O.
pub async fn publish(
    streams: Vec<Stream>,
    load: &Load,
    ledger: Arc<Ledger>,
    stop: watch::Receiver<bool>,
) -> Result<(), LoadError> {
    let (host, port) = load.server.rsplit_once(':').ok_or_else(|| LoadError::Address(load.server.clone()))?;
    let port: u16 = port.parse().map_err(|_| LoadError::Address(load.server.clone()))?;
    let n_streams = streams.len().max(1) as f64;
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let mut options = MqttOptions::new(stream.client_id.clone(), (host, port));
        // The client reserves memory for every message that may be in flight, 16 MB a connection by default.
        options.set_keep_alive(30).set_outgoing_inflight_upper_limit(WINDOW as u16);
        // Nagle's algorithm would hold small publishes back for tens of milliseconds.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        let share = number as f64 / n_streams;
        let Stream { client_id, topic, payloads } = stream;
        let connection = Connection { number, options, client_id, topic, load: load.clone(), ledger: ledger.clone() };
        let begin = start + load.ramp_up.mul_f64(share);
        running.spawn(connection.run(payloads, begin, share, stop.clone()));
    }
    let mut first_error = Ok(());
    while let Some(ended) = running.join_next().await {
        // A panic of a stream has already been printed; the others go on.
        first_error = first_error.and(ended.unwrap_or(Ok(())));
    }
    first_error
}

struct Connection {
    number: usize,
    options: MqttOptions,
    client_id: String,
    topic: String,
    load: Load,
    ledger: Arc<Ledger>,
}

/// What a stream publishes.
type Payloads = Box<dyn Iterator<Item = Vec<u8>> + Send>;

/// A message that the broker has not acknowledged.
struct Unacked {
    seq: u64,
    payload: Vec<u8>,
    notice: BoxFuture<'static, Result<(), PublishNoticeError>>,
}

/// A connection that stood, and is done with when it is lost.
struct Line {
    client: AsyncClient,
    poller: JoinHandle<()>,
    stop: watch::Receiver<bool>,
}

impl Connection {
    async fn run(
        self,
        payloads: Payloads,
        begin: Instant,
        phase: f64,
        stop: watch::Receiver<bool>,
    ) -> Result<(), LoadError> {
        tokio::time::sleep_until(begin).await;
        let mut line = self.connect(stop).await?;
        self.ledger.connected.fetch_add(1, Ordering::Relaxed);
        let published = self.publish_all(&mut line, payloads, phase).await;
        // The poller ends by itself once the disconnect has gone out.
        let _ = line.client.disconnect().await;
        if tokio::time::timeout(Duration::from_secs(2), line.poller).await.is_err() {
            tracing::debug!(client = self.client_id, "the broker did not close the connection");
        }
        published
    }

    /// Makes the first connection. A busy broker is asked again, one that refuses is an error at once.
    async fn connect(&self, stop: watch::Receiver<bool>) -> Result<Line, LoadError> {
        let deadline = Instant::now() + self.load.patience;
        loop {
            match self.dial().await {
                Ok((client, poller)) => return Ok(Line { client, poller, stop }),
                Err(source) if is_refusal(&source) || Instant::now() >= deadline => {
                    return Err(LoadError::Connect { server: self.load.server.clone(), source });
                }
                Err(error) => {
                    tracing::debug!(%error, "no connection yet");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn dial(&self) -> Result<(AsyncClient, JoinHandle<()>), Box<ConnectionError>> {
        let (client, mut events) = AsyncClient::builder(self.options.clone()).capacity(WINDOW).build();
        events.poll().await.map_err(Box::new)?;
        Ok((client, tokio::spawn(keep_polling(events))))
    }

    async fn publish_all(&self, line: &mut Line, mut payloads: Payloads, phase: f64) -> Result<(), LoadError> {
        let mut unacked: VecDeque<Unacked> = VecDeque::new();
        let period = self.load.rate.map(|rate| Duration::from_secs_f64(1.0 / rate.max(1e-6)));
        let mut ticks = period.map(|period| {
            let mut ticks = interval_at(Instant::now() + period.mul_f64(phase), period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            ticks
        });
        let mut seq = 0;
        while !*line.stop.borrow() {
            if let Some(ticks) = &mut ticks
                && !self.wait_for_tick(line, ticks, &mut unacked).await?
            {
                break;
            }
            let Some(payload) = payloads.next() else { break };
            self.ledger.published.fetch_add(1, Ordering::Relaxed);
            unacked.push_back(self.send(&line.client, seq, payload).await?);
            seq += 1;
            while unacked.len() >= WINDOW {
                self.await_oldest(line, &mut unacked).await?;
            }
        }
        let deadline = Instant::now() + self.load.patience;
        while !unacked.is_empty() {
            match timeout_at(deadline, self.await_oldest(line, &mut unacked)).await {
                Ok(awaited) => awaited?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Waits for the next tick, taking in acknowledgements meanwhile. `false` once the run is to stop.
    async fn wait_for_tick(
        &self,
        line: &mut Line,
        ticks: &mut Interval,
        unacked: &mut VecDeque<Unacked>,
    ) -> Result<bool, LoadError> {
        loop {
            let Some(mut oldest) = unacked.pop_front() else {
                return Ok(tokio::select! {
                    _ = ticks.tick() => true,
                    _ = line.stop.changed() => false,
                });
            };
            // Not dropped when another branch wins, or its acknowledgement would be missed.
            let is_over = tokio::select! {
                acked = &mut oldest.notice => {
                    self.acknowledged(line, oldest, acked, unacked).await?;
                    continue;
                }
                _ = ticks.tick() => false,
                _ = line.stop.changed() => true,
            };
            unacked.push_front(oldest);
            return Ok(!is_over);
        }
    }

    async fn send(&self, client: &AsyncClient, seq: u64, payload: Vec<u8>) -> Result<Unacked, LoadError> {
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let properties = PublishProperties {
            user_properties: vec![(SEQ.to_owned(), seq.to_string()), (SENT.to_owned(), sent.to_string())],
            ..PublishProperties::default()
        };
        let qos = if self.load.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let options = PublishOptions::new(qos).properties(properties);
        let notice = match client.publish_tracked(self.topic.clone(), payload.clone(), options).await {
            Ok(notice) => notice.wait_completion_async().boxed(),
            // Just lost: found out, as for the messages before it, when its acknowledgement is awaited.
            Err(ClientError::RequestChannelDisconnected(_)) => ready(Err(PublishNoticeError::Recv)).boxed(),
            Err(error) => return Err(LoadError::Publish(self.client_id.clone(), error)),
        };
        Ok(Unacked { seq, payload, notice })
    }

    /// Waits for the acknowledgement of the oldest message.
    async fn await_oldest(&self, line: &mut Line, unacked: &mut VecDeque<Unacked>) -> Result<(), LoadError> {
        let Some(mut oldest) = unacked.pop_front() else { return Ok(()) };
        let acked = (&mut oldest.notice).await;
        self.acknowledged(line, oldest, acked, unacked).await
    }

    /// Takes note of an acknowledgement. Where there will be none, a new connection is made, and everything in flight is sent
    /// on it again; once the run is to stop, for as long as there is patience.
    async fn acknowledged(
        &self,
        line: &mut Line,
        message: Unacked,
        acked: Result<(), PublishNoticeError>,
        unacked: &mut VecDeque<Unacked>,
    ) -> Result<(), LoadError> {
        let Err(error) = acked else {
            self.ledger.ack(self.number);
            return Ok(());
        };
        tracing::debug!(client = self.client_id, seq = message.seq, %error, "connecting again");
        unacked.push_front(message);
        line.poller.abort();
        let mut give_up = None;
        loop {
            sleep(Duration::from_millis(200)).await;
            if *line.stop.borrow() && Instant::now() >= *give_up.get_or_insert(Instant::now() + self.load.patience) {
                unacked.clear();
                return Ok(());
            }
            match self.dial().await {
                Ok((client, poller)) => {
                    (line.client, line.poller) = (client, poller);
                    break;
                }
                Err(error) => tracing::debug!(client = self.client_id, %error, "no connection yet"),
            }
        }
        for message in unacked.iter_mut() {
            self.ledger.resent.fetch_add(1, Ordering::Relaxed);
            *message = self.send(&line.client, message.seq, std::mem::take(&mut message.payload)).await?;
        }
        Ok(())
    }
}

/// Whether no second try can help: nobody listens there, or the broker said no.
fn is_refusal(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        ConnectionError::ConnectionRefused(_) => true,
        _ => false,
    }
}

/// Drives one connection until it is closed or lost; dropping it then fails what it had in flight.
async fn keep_polling(mut events: EventLoop) {
    loop {
        match events.poll().await {
            Ok(_) => {}
            Err(ConnectionError::RequestsDone) => return,
            Err(error) => return tracing::debug!(%error, "connection lost"),
        }
    }
}
