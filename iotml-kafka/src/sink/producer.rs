//! A producer, and what belongs to it: one for each sink, or one for all sinks of a task that write in the same transactions.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use iotml_core::sink::SinkError;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, ThreadedProducer};
use tokio::sync::Mutex;

use super::delivery::{Deliveries, SinkContext};
use super::handles::Handles;
use crate::client::ALONE;

/// A connected producer.
pub(super) struct Producing {
    /// Whoever holds it hands rows to librdkafka; it is fair, so writes keep the order in which they were begun. Stands before
    /// the producer, because its handles must go first.
    pub turn: Mutex<Turn>,
    pub producer: ThreadedProducer<SinkContext>,
    pub deliveries: Arc<Deliveries>,
    /// The brokers to begin with.
    servers: String,
}

/// What only the one whose turn it is needs.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Topics that are known to exist.
    pub known: HashSet<String>,
    pub handles: Handles,
}

impl Producing {
    /// Makes a producer; it connects by itself, later.
    pub fn new(client: &ClientConfig) -> Result<Self, SinkError> {
        let context = SinkContext::default();
        let made: Result<ThreadedProducer<SinkContext>, KafkaError> = client.create_with_context(context.clone());
        let producer = made.map_err(|error| SinkError::fatal_from("the Kafka producer cannot be made", error))?;
        let servers = client.get("bootstrap.servers").unwrap_or_default().to_owned();
        Ok(Self { turn: Mutex::default(), producer, deliveries: context.0, servers })
    }

    /// Waits until nothing is on its way.
    pub async fn drained(&self) {
        let _turn = self.turn.lock().await;
        self.wait_until_empty().await;
    }

    /// The same, for whoever's turn it is.
    pub async fn wait_until_empty(&self) {
        while self.deliveries.n_rows() > 0 {
            self.deliveries.watch();
            if self.deliveries.n_rows() == 0 {
                return;
            }
            self.patiently(self.deliveries.next()).await;
        }
    }

    /// Waits for what librdkafka has to do, and sees to it that it does not stay without brokers meanwhile.
    pub async fn patiently<T>(&self, done: impl Future<Output = T>) -> T {
        let mut done = pin!(done);
        loop {
            match tokio::time::timeout(ALONE, done.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.deliveries.reports.revive(self.producer.client(), &self.servers),
            }
        }
    }
}

/// Where a sink finds its producer once there is one.
pub(super) type Place = Arc<OnceLock<Producing>>;
