//! Feeds dead letters back by a pipeline of their own: what is written is durable before the group's offsets say so.

use std::sync::Arc;

use iotml_core::decode::PassThrough;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineSpec, Route, TaskStages};
use iotml_core::plugin::{HumanDuration, Registry};
use iotml_core::source::Source;

use super::choice::{Choice, Chooser, Counts, Told};
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
    pub limit: Option<u64>,
    pub follow: bool,
}

impl Feed<'_> {
    /// Runs to the end, which a signal brings about early. What was counted is told after an error too.
    pub fn run(&self, registry: &Arc<Registry>) -> (Told, Result<(), String>) {
        let counts = Arc::new(Counts::default());
        let handle = match Pipeline::start(self.pipeline(registry, &counts), Metrics::default()) {
            Ok(handle) => handle,
            Err(error) => return (counts.told(0), Err(error.report())),
        };
        let audit = handle.auditor();
        if let Err(error) = iotml_core::cli::on_signal(handle.stopper()) {
            tracing::warn!(%error, "signals cannot be handled: one ends the replay at once");
        }
        let ended = match handle.wait() {
            Ok(summary) if summary.is_drained => Ok(()),
            Ok(_) => Err("not all was written in time; the rest is fed back by the next replay".to_owned()),
            Err(error) => Err(error.report()),
        };
        (counts.told(audit().delivered), ended)
    }

    fn pipeline(&self, registry: &Arc<Registry>, counts: &Arc<Counts>) -> PipelineSpec {
        let (reads, way, limit) = (self.reads(), self.place.way.clone(), self.limit);
        let (choice, counts, registry) = (self.choice.clone(), counts.clone(), registry.clone());
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
