//! The far end: a sink that reads predictions and dead letters back and compares them with the truth.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use iotml_core::async_trait;
use iotml_core::batch::Messages;
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use serde::Deserialize;

use super::truth::{Output, Truth};
use crate::mqtt::{SENT, SEQ};

/// What the demo reads of a prediction.
#[derive(Deserialize)]
struct Prediction {
    anomaly: Option<bool>,
}

/// Compares what arrives with the truth, and measures how long it took since it was published.
pub struct Watcher {
    truth: Arc<Truth>,
    dead_letters: String,
    latency: Mutex<Histogram<u64>>,
}

/// Latencies are recorded up to this, in microseconds.
const LONGEST: u64 = 600_000_000;

impl Watcher {
    /// A watcher to which `dead_letters` is the topic of dead letters and every other topic holds predictions.
    pub fn new(truth: Arc<Truth>, dead_letters: &str) -> Result<Arc<Self>, hdrhistogram::CreationError> {
        let latency = Mutex::new(Histogram::new_with_bounds(1, LONGEST, 3)?);
        Ok(Arc::new(Self { truth, dead_letters: dead_letters.to_owned(), latency }))
    }

    /// From MQTT publish to prediction readable, at these quantiles.
    pub fn latency(&self, quantiles: &[f64]) -> Vec<Duration> {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        quantiles.iter().map(|quantile| Duration::from_micros(latency.value_at_quantile(*quantile))).collect()
    }

    fn note(&self, messages: &Messages, row: usize) -> Option<()> {
        let header = |name| {
            let value = messages.headers().last(row, name)?.value?;
            str::from_utf8(value).ok()?.parse::<u64>().ok()
        };
        let key = str::from_utf8(messages.key(row)?).ok()?;
        let car = key.rsplit('-').next()?.parse().ok()?;
        let seq = header(SEQ)? as usize;
        if messages.topic(row).is_some_and(|topic| **topic == *self.dead_letters) {
            self.truth.saw(car, seq, Output::DeadLetter);
            return Some(());
        }
        let prediction: Prediction = serde_json::from_slice(messages.payload(row)?).ok()?;
        self.truth.saw(car, seq, Output::Prediction(prediction.anomaly?));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_micros() as u64;
        let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        latency.saturating_record(now.saturating_sub(header(SENT)?));
        Some(())
    }
}

#[async_trait]
impl Sink for Watcher {
    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        for row in 0..rows.len() {
            // A message without the demo's marks is somebody else's, and the audit will miss what should have had them.
            let _ = self.note(&rows.messages, row);
        }
        Ok(Written::default())
    }
}
