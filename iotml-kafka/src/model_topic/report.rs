//! Reports of workers, written beside everything else.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::writer::{Writer, may_pass};
use crate::sink::KafkaSinkConfig;

/// Reports that may wait; more are dropped, since they are in the log, too.
const MAX_WAITING: usize = 4096;
/// How long a report that cannot be written holds up those after it.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Takes reports without waiting, and writes them with a thread that begins with the first.
#[derive(Debug)]
pub(super) struct Reporter {
    topic: String,
    config: KafkaSinkConfig,
    sender: Mutex<Option<SyncSender<Line>>>,
}

/// One report: the model's name, and what is said of it as JSON.
struct Line {
    model: String,
    json: Vec<u8>,
}

impl Reporter {
    /// A reporter to `topic`, which is written as `config` says.
    pub(super) fn new(topic: &str, config: KafkaSinkConfig) -> Self {
        Self { topic: topic.to_owned(), config, sender: Mutex::new(None) }
    }

    pub(super) fn report(&self, model: &str, report: &impl Serialize) {
        let json = match serde_json::to_vec(report) {
            Ok(json) => json,
            Err(error) => return tracing::warn!(model, %error, "a report cannot be written as JSON"),
        };
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel(MAX_WAITING);
            let config = self.config.clone();
            let spawned = thread::Builder::new().name(self.topic.clone()).spawn(move || write(&config, &receiver));
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread can be started to report on models");
            }
            sender
        });
        let line = Line { model: model.to_owned(), json };
        if let Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) = sender.try_send(line) {
            let report = String::from_utf8_lossy(&line.json);
            tracing::warn!(topic = self.topic, model = line.model, %report, "a report was dropped");
        }
    }
}

/// Writes reports until whoever reports is gone and everything is written.
fn write(config: &KafkaSinkConfig, reports: &Receiver<Line>) {
    let mut writer: Option<Writer> = None;
    while let Ok(first) = reports.recv() {
        let mut batch = vec![first];
        batch.extend(reports.try_iter().take(255));
        let records: Vec<(&[u8], Option<&[u8]>)> =
            batch.iter().map(|line| (line.model.as_bytes(), Some(line.json.as_slice()))).collect();
        let begun = Instant::now();
        loop {
            let failed = match &writer {
                Some(open) => match open.write(&records) {
                    Ok(()) => break,
                    Err(error) => (may_pass(&error), error.to_string()),
                },
                None => match Writer::open(config.clone()) {
                    Ok(open) => {
                        writer = Some(open);
                        continue;
                    }
                    Err(error) => (true, error.to_string()),
                },
            };
            let (may_pass, error) = failed;
            if !may_pass || begun.elapsed() > PATIENCE {
                tracing::warn!(error, n_reports = records.len(), "reports on models were dropped");
                break;
            }
            thread::sleep(PAUSE);
        }
    }
}
