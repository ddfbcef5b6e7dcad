//! Reports of workers, written beside everything else.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use iotml_core::model::ModelStatus;

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
    config: KafkaSinkConfig,
    sender: Mutex<Option<SyncSender<ModelStatus>>>,
}

impl Reporter {
    pub(super) fn new(config: KafkaSinkConfig) -> Self {
        Self { config, sender: Mutex::new(None) }
    }

    pub(super) fn report(&self, status: ModelStatus) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = sender.get_or_insert_with(|| {
            let (sender, receiver) = sync_channel(MAX_WAITING);
            let config = self.config.clone();
            let spawned =
                thread::Builder::new().name("model-status".to_owned()).spawn(move || write(&config, &receiver));
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread can be started to report on models");
            }
            sender
        });
        if let Err(TrySendError::Full(status) | TrySendError::Disconnected(status)) = sender.try_send(status) {
            tracing::warn!(model = status.model, version = status.version, state = %status.state, "a report was dropped");
        }
    }
}

/// Writes reports until whoever reports is gone and everything is written.
fn write(config: &KafkaSinkConfig, reports: &Receiver<ModelStatus>) {
    let mut writer: Option<Writer> = None;
    while let Ok(first) = reports.recv() {
        let mut batch = vec![first];
        batch.extend(reports.try_iter().take(255));
        let lines: Vec<(Vec<u8>, Vec<u8>)> = batch
            .iter()
            .filter_map(|status| Some((status.model.clone().into_bytes(), serde_json::to_vec(status).ok()?)))
            .collect();
        let records: Vec<(&[u8], Option<&[u8]>)> =
            lines.iter().map(|(key, line)| (key.as_slice(), Some(line.as_slice()))).collect();
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
