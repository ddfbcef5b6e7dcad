//! The feed: announcements from the topic, reports to the other.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use iotml_core::error::{ConfigError, report};
use iotml_core::model::{Known, ModelDrift, ModelFeed, ModelStatus, Teller, Watch};
use iotml_core::plugin::BuildContext;

use super::config::KafkaModelFeedConfig;
use super::error::ModelTopicError;
use super::read::{FOLLOWS, Reader, Record};
use super::report::Reporter;

/// The pauses between two tries of what failed.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Hears of models on a compacted topic, and reports on two others.
///
/// Every watch reads the topic with a thread of its own, from the beginning to the end as of then, and then goes on; it needs no
/// consumer group and commits nothing. Where the topic cannot be read it says so and tries again.
#[derive(Debug)]
pub struct KafkaModelFeed {
    config: Arc<KafkaModelFeedConfig>,
    statuses: Option<Reporter>,
    drifts: Option<Reporter>,
}

impl KafkaModelFeed {
    /// Checks the configuration; nothing is connected before the first watch.
    ///
    /// # Errors
    /// [`ConfigError`] naming what is wrong with it.
    pub fn new(config: KafkaModelFeedConfig, _: &BuildContext) -> Result<Self, ConfigError> {
        config.check()?;
        let config = Arc::new(config);
        let reporter = |topic: &String| (!topic.is_empty()).then(|| Reporter::new(topic, config.reports(topic)));
        let (statuses, drifts) = (reporter(&config.status_topic), reporter(&config.drift_topic));
        Ok(Self { config, statuses, drifts })
    }
}

impl ModelFeed for KafkaModelFeed {
    fn watch(&self, model: &str) -> Watch {
        let (teller, watch) = Watch::new();
        let (config, model) = (self.config.clone(), model.to_owned());
        let name = format!("feed-{model}");
        let follow = move || Follow { config: &config, model: &model, teller: &teller }.run();
        if let Err(error) = thread::Builder::new().name(name).spawn(follow) {
            // The teller is gone with the thread that was not made.
            let (teller, failed) = Watch::new();
            teller
                .tell(|known| known.trouble = Some(format!("no thread can be started to read announcements: {error}")));
            return failed;
        }
        watch
    }

    fn report(&self, status: ModelStatus) {
        if let Some(reporter) = &self.statuses {
            reporter.report(&status.model, &status);
        }
    }

    fn drifted(&self, drift: ModelDrift) {
        if let Some(reporter) = &self.drifts {
            reporter.report(&drift.model, &drift);
        }
    }
}

/// One watch.
struct Follow<'a> {
    config: &'a KafkaModelFeedConfig,
    model: &'a str,
    teller: &'a Teller,
}

impl Follow<'_> {
    /// Runs until nobody watches any more.
    fn run(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.teller.is_alone() {
            match self.read(&mut pause) {
                Ok(()) => return,
                Err(error) => {
                    let trouble = format!("announcements cannot be read: {}", report(&error));
                    tracing::warn!(model = self.model, "{trouble}");
                    self.teller.tell(|known| known.trouble = Some(trouble));
                }
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn read(&self, pause: &mut Duration) -> Result<(), ModelTopicError> {
        let mut reader = Reader::open(self.config, FOLLOWS)?;
        let mut newest = Known::default();
        reader.read_to_end(|record| self.see(&record, &mut newest))?;
        *pause = FIRST_PAUSE;
        self.teller.tell(|known| *known = Known { is_complete: true, ..newest });
        while !self.teller.is_alone() {
            reader.more(|record| self.teller.tell(|known| self.see(&record, known)))?;
        }
        Ok(())
    }

    /// Takes note of a record, if it is of the watched model.
    fn see(&self, record: &Record<'_>, known: &mut Known) {
        if record.key != self.model.as_bytes() {
            return;
        }
        match record.set() {
            Ok(set) => (known.set, known.trouble) = (set.map(Arc::new), None),
            Err(error) => {
                let Record { partition, offset, .. } = record;
                let topic = &self.config.topic;
                known.trouble = Some(format!("{error} (topic {topic:?}, partition {partition}, offset {offset})"));
            }
        }
    }
}
