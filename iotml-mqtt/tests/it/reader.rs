//! Reads a source the way a pipeline does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use iotml_core::batch::{Ack, Lane, RawBatch};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::TaskContext;
use iotml_core::source::{Demand, Farewell, Source, SourceError, SourceEvent};
use iotml_mqtt::{MqttSource, MqttSourceConfig};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough that a broker on loopback would have sent what it wants to send.
const SILENCE: Duration = Duration::from_millis(700);

pub struct Reader {
    source: MqttSource,
    pub metrics: Metrics,
    next: HashMap<Lane, u64>,
    pub batches: Vec<RawBatch>,
    pub lost: Vec<Lane>,
    pub has_ended: bool,
}

impl Reader {
    pub async fn open(config: MqttSourceConfig) -> Self {
        Self::try_open(config).await.expect("the source opens")
    }

    pub async fn try_open(config: MqttSourceConfig) -> Result<Self, SourceError> {
        let mut source = MqttSource::new(config).expect("a valid configuration");
        let metrics = Metrics::default();
        let task = TaskContext { metrics: metrics.clone(), instance: Arc::from("it"), ..TaskContext::single("it") };
        source.open(&task).await?;
        Ok(Self { source, metrics, next: HashMap::new(), batches: Vec::new(), lost: Vec::new(), has_ended: false })
    }

    /// All payloads so far, in the order in which they came.
    pub fn payloads(&self) -> Vec<Vec<u8>> {
        let rows = self.batches.iter().flat_map(|batch| (0..batch.len()).map(move |row| (batch, row)));
        rows.map(|(batch, row)| batch.messages().payload(row).unwrap_or(b"(none)").to_vec()).collect()
    }

    pub fn len(&self) -> usize {
        self.batches.iter().map(RawBatch::len).sum()
    }

    /// Polls until there are `n` messages in all.
    pub async fn read(&mut self, n: usize) {
        let reading = async {
            while self.len() < n {
                self.step().await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, reading).await.is_ok();
        assert!(done, "only {} of {n} messages arrived", self.len());
    }

    /// Polls until a lane is lost.
    pub async fn read_until_lost(&mut self) {
        let reading = async {
            while self.lost.is_empty() {
                self.step().await;
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("a lost session is reported");
    }

    /// Polls for as long as anything comes; the number of messages in all.
    pub async fn read_rest(&mut self) -> usize {
        loop {
            let before = self.len();
            let _ = tokio::time::timeout(SILENCE, async {
                while self.len() == before {
                    self.step().await;
                }
            })
            .await;
            if self.len() == before {
                return before;
            }
        }
    }

    /// Takes leave of the broker.
    pub async fn leave(&mut self) {
        assert_eq!(self.source.leave().await.expect("leave"), Farewell::UntilEnd);
    }

    /// Polls and acknowledges until the source ends.
    pub async fn read_to_end(&mut self) {
        let reading = async {
            while !self.has_ended {
                self.step().await;
                self.ack_all();
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the source ends");
    }

    async fn step(&mut self) {
        match self.source.poll(Demand::Batches).await.expect("poll") {
            SourceEvent::Assigned(lanes) => {
                for info in lanes {
                    assert!(self.next.insert(info.lane, 0).is_none(), "a lane number is used once");
                }
            }
            SourceEvent::Batch(batch) => {
                for position in batch.positions() {
                    let next = self.next.get_mut(&position.lane).expect("an announced lane");
                    assert_eq!(position.seq, *next, "numbers are dense");
                    *next += 1;
                }
                self.batches.push(batch);
            }
            SourceEvent::Lost { lanes, .. } => self.lost.extend(lanes),
            SourceEvent::End => self.has_ended = true,
            _ => {}
        }
    }

    /// Acknowledges everything read so far.
    pub fn ack_all(&mut self) {
        let acks: Vec<_> =
            self.next.iter().filter(|(_, n)| **n > 0).map(|(lane, n)| Ack { lane: *lane, through: n - 1 }).collect();
        self.source.ack(&acks).expect("ack");
    }

    /// Acknowledges the first `n` messages of the only lane.
    pub fn ack_first(&mut self, n: u64) {
        let lane = *self.next.keys().next().expect("a lane");
        self.source.ack(&[Ack { lane, through: n - 1 }]).expect("ack");
    }

    pub fn ack_lane(&mut self, lane: Lane, through: u64) {
        self.source.ack(&[Ack { lane, through }]).expect("ack");
    }

    /// The value of a counter of the source.
    pub fn count(&self, name: &str) -> u64 {
        let text = self.metrics.text().expect("metrics");
        let prefix = format!("iotml_source_mqtt_{name}_total");
        let line = text.lines().find(|line| line.starts_with(&prefix)).unwrap_or_else(|| panic!("no {prefix}: {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a count")
    }

    /// The value of a gauge of the source.
    pub fn gauge(&self, name: &str) -> i64 {
        let text = self.metrics.text().expect("metrics");
        let prefix = format!("iotml_source_mqtt_{name}{{");
        let line = text.lines().find(|line| line.starts_with(&prefix)).unwrap_or_else(|| panic!("no {prefix}: {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }

    /// Polls until a gauge has this value.
    pub async fn wait_for_gauge(&mut self, name: &str, value: i64) {
        let waiting = async {
            while self.gauge(name) != value {
                let _ = tokio::time::timeout(Duration::from_millis(5), self.step()).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(done, "{name} is {} instead of {value}", self.gauge(name));
    }

    /// Polls, dropping what comes, until a counter has this value.
    pub async fn wait_for_count(&mut self, name: &str, value: u64) {
        let waiting = async {
            while self.count(name) < value {
                let _ = tokio::time::timeout(Duration::from_millis(5), self.step()).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(done, "{name} is {} instead of {value}", self.count(name));
    }

    /// Waits, without polling the source, until something holds.
    pub async fn wait_unpolled(&self, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("what is waited for comes");
    }

    pub async fn close(mut self) {
        self.source.close().await.expect("close");
    }
}
