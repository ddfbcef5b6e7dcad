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
/// How long the end of whoever reports is held up by what is still to be written.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Takes reports without waiting, and writes them with a thread that begins with the first.
#[derive(Debug)]
pub(super) struct Reporter {
    topic: String,
    config: KafkaSinkConfig,
    writing: Mutex<Option<Writing>>,
}

/// The way to the thread that writes.
#[derive(Debug)]
struct Writing {
    sender: SyncSender<Line>,
    /// Tells when all is written, after the sender is gone.
    done: Receiver<()>,
}

/// One report: the model's name, and what is said of it as JSON.
struct Line {
    model: String,
    json: Vec<u8>,
}

impl Reporter {
    /// A reporter to `topic`, which is written as `config` says.
    pub(super) fn new(topic: &str, config: KafkaSinkConfig) -> Self {
        Self { topic: topic.to_owned(), config, writing: Mutex::new(None) }
    }

    pub(super) fn report(&self, model: &str, report: &impl Serialize) {
        let json = match serde_json::to_vec(report) {
            Ok(json) => json,
            Err(error) => return tracing::warn!(model, %error, "a report cannot be written as JSON"),
        };
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let writing = writing.get_or_insert_with(|| self.begin());
        let line = Line { model: model.to_owned(), json };
        if let Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) = writing.sender.try_send(line) {
            let report = String::from_utf8_lossy(&line.json);
            tracing::warn!(topic = self.topic, model = line.model, %report, "a report was dropped");
        }
    }

    fn begin(&self) -> Writing {
        let (sender, receiver) = sync_channel(MAX_WAITING);
        let (tell, done) = sync_channel(1);
        let config = self.config.clone();
        let run = move || write(&config, &receiver, &tell);
        if let Err(error) = thread::Builder::new().name(self.topic.clone()).spawn(run) {
            tracing::warn!(%error, "no thread can be started to report on models");
        }
        Writing { sender, done }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let writing = self.writing.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writing { sender, done }) = writing {
            drop(sender);
            // The process may end next, and the last report of a stream that ends should not be lost with it.
            let _ = done.recv_timeout(LAST_PATIENCE);
        }
    }
}

/// Writes reports until whoever reports is gone and everything is written.
fn write(config: &KafkaSinkConfig, reports: &Receiver<Line>, done: &SyncSender<()>) {
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
    let _ = done.try_send(());
}
