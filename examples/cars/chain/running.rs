//! The three pipelines of the chain, in this process.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Health, Pipeline, PipelineHandle, Summary};
use iotml_core::plugin::Registry;
use iotml_core::plugin::config::Config;
use iotml_core::schemars::{self, JsonSchema};
use iotml_core::sink::Sink;
use serde::Deserialize;

use super::{N_PARTITIONS, Setting};
use crate::process::{Failure, Stop};

/// The pipelines in the order in which rows pass through them.
#[derive(Debug)]
pub struct Chain {
    /// MQTT to Kafka.
    pub bridge: PipelineHandle,
    /// Kafka to Kafka, with the model.
    pub scoring: PipelineHandle,
    /// Predictions and dead letters back into the process.
    pub watching: PipelineHandle,
}

impl Chain {
    /// Starts the pipelines of `setting`. All that comes out of them goes to `watch`.
    ///
    /// Errs with the mistakes of a configuration, or with what a server or the model refused; what was started is asked to
    /// stop then.
    pub fn start(setting: &Setting<'_>, watch: Arc<dyn Sink>, metrics: &Metrics) -> Result<Self, Failure> {
        let registry = Arc::new(registry(watch));
        let start = |name: &str, text: String| -> Result<PipelineHandle, Failure> {
            let config = Config::parse(&text, Path::new(name), &registry)?;
            Ok(Pipeline::start(config.pipeline(), metrics.clone())?)
        };
        // In this order, because sinks create the topics that the next pipeline reads.
        let bridge = start("bridge.toml", setting.bridge())?;
        let scoring = start("scoring.toml", setting.scoring())?;
        let watching = start("watching.toml", setting.watching())?;
        Ok(Self { bridge, scoring, watching })
    }

    /// Waits until both consumer groups have divided their partitions. A message that comes earlier waits in Kafka, and its
    /// latency would be that of the group.
    ///
    /// Ends early if `stop` is asked for or a pipeline ends; errs after `patience`.
    pub fn wait_for_groups(&self, patience: Duration, stop: &Stop) -> Result<(), Failure> {
        let n_partitions = usize::from(N_PARTITIONS);
        let deadline = Instant::now() + patience;
        // Predictions and dead letters are two topics.
        while self.scoring.n_lanes() < n_partitions || self.watching.n_lanes() < 2 * n_partitions {
            if stop.is_asked() || self.has_ended() {
                break;
            }
            if Instant::now() >= deadline {
                let (scoring, watching) = (self.scoring.n_lanes(), self.watching.n_lanes());
                return Err(format!(
                    "after {patience:?} the consumer groups still lack partitions: scoring has {scoring} of {n_partitions}, \
                     watching {watching} of {}; is Kafka busy?",
                    2 * n_partitions
                )
                .into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether a pipeline has ended, which before [`finish`](Chain::finish) it does by a failure only.
    pub fn has_ended(&self) -> bool {
        [&self.bridge, &self.scoring, &self.watching].into_iter().any(PipelineHandle::is_finished)
    }

    /// A way to ask for the health of bridge and scoring from elsewhere, such as an HTTP endpoint.
    pub fn monitor(&self) -> impl Fn() -> Health + Send + Sync + 'static {
        let (bridge, scoring) = (self.bridge.control(), self.scoring.control());
        move || {
            let (bridge, scoring) = (bridge.health(), scoring.health());
            Health {
                is_healthy: bridge.is_healthy && scoring.is_healthy,
                is_ready: bridge.is_ready && scoring.is_ready,
                detail: format!("{}\n{}", bridge.detail, scoring.detail),
            }
        }
    }

    /// Stops one pipeline after the other, each once the one before it has drained, and says how they ended.
    ///
    /// Errs with the first failure.
    pub fn finish(self) -> Result<[(&'static str, Summary); 3], Failure> {
        let end = |name, handle: PipelineHandle| -> Result<(&'static str, Summary), Failure> {
            handle.stop();
            Ok((name, handle.wait()?))
        };
        Ok([end("bridge", self.bridge)?, end("scoring", self.scoring)?, end("watching", self.watching)?])
    }
}

/// The plug-ins that the configurations name.
fn registry(watch: Arc<dyn Sink>) -> Registry {
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct NoOptions {}

    let mut registry = Registry::with_core();
    iotml_mqtt::register(&mut registry);
    iotml_kafka::register(&mut registry);
    iotml_model::register(&mut registry);
    registry.sink("watch", "hands everything to the program", move |_: NoOptions, _| Ok(watch.clone()));
    registry
}
