//! Feeds dead letters back by a pipeline of their own: what is written is durable before the group's offsets say so.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use iotml_core::decode::PassThrough;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineSpec, Route, TaskStages};
use iotml_core::plugin::{HumanDuration, Registry};
use iotml_core::source::Source;

use super::choice::{Choice, Chooser, Counts};
use super::limited::Limited;
use super::place::{Place, Way};
use super::restore::Restore;
use crate::source::{KafkaSource, KafkaSourceConfig};

/// Few, as the time between two commits is short, so that little is written twice after an error or a kill.
const BATCH_ROWS: usize = 500;

/// What is fed back, and how far.
pub(super) struct Feed<'a> {
    pub place: &'a Place,
    pub choice: Arc<Choice>,
    pub group: &'a str,
    pub follow: bool,
    pub counts: Arc<Counts>,
}

/// What ended a run, other than an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The source has no more, or the limit is reached.
    Source,
    /// A signal.
    Signal,
}

impl Feed<'_> {
    /// Runs to the end: how many messages were fed back, durably, and what ended it.
    pub fn run(&self, registry: &Arc<Registry>, limit: Option<u64>) -> (u64, Result<End, String>) {
        let handle = match Pipeline::start(self.pipeline(registry, limit), Metrics::default()) {
            Ok(handle) => handle,
            Err(error) => return (0, Err(error.report())),
        };
        let (control, stopping) = (handle.control(), handle.control());
        let signalled = iotml_core::cli::on_signal(move || stopping.end());
        if let Err(error) = &signalled {
            tracing::warn!(%error, "signals cannot be handled: one ends the replay at once");
        }
        let ended = match handle.wait() {
            Ok(summary) if !summary.is_drained => {
                Err("not all was written in time; the rest is fed back by the next replay".to_owned())
            }
            Ok(_) if signalled.is_ok_and(|came| came.load(Ordering::SeqCst)) => Ok(End::Signal),
            Ok(_) => Ok(End::Source),
            Err(error) => Err(error.report()),
        };
        (control.audit().delivered, ended)
    }

    fn pipeline(&self, registry: &Arc<Registry>, limit: Option<u64>) -> PipelineSpec {
        let (reads, way) = (self.reads(), self.place.way.clone());
        let (choice, counts, registry) = (self.choice.clone(), self.counts.clone(), registry.clone());
        PipelineSpec::new("replay", move |context| {
            let source = KafkaSource::new(reads.clone(), context)?;
            let source: Box<dyn Source> = match limit {
                Some(left) => Box::new(Limited { inner: source, choice: choice.clone(), left }),
                None => Box::new(source),
            };
            let back = Route::required("back", Some(Box::new(Restore)), Way::sink(&way, &registry, context)?);
            let mut stages = TaskStages::new(source, Box::new(PassThrough), vec![back]);
            let chooser = Chooser { choice: choice.clone(), counts: counts.clone() };
            stages.preprocessors.push(("choose".to_owned(), Box::new(chooser)));
            Ok(stages)
        })
    }

    fn reads(&self) -> KafkaSourceConfig {
        let mut reads = KafkaSourceConfig::new("", &[&self.place.topic]);
        reads.stop_at_end = !self.follow;
        reads.max_batch_rows = BATCH_ROWS;
        reads.commit_interval = HumanDuration::from_millis(100);
        // A replay that was killed is soon no member any more, so that the next one need not wait for it.
        reads.kafka = self.place.kafka.clone().set("group.id", self.group).set("session.timeout.ms", 10_000);
        reads
    }
}
