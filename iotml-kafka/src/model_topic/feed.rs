//! The feed: announcements from the topic, reports to the other.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use iotml_core::error::{ConfigError, report};
use iotml_core::model::{Known, ModelDrift, ModelFeed, ModelSet, ModelStatus, Teller, Watch};
use iotml_core::plugin::BuildContext;

use super::config::KafkaModelFeedConfig;
use super::error::ModelTopicError;
use super::read::{FOLLOWS, Reader, Record};
use super::report::Reporter;
use super::value::{Values, is_avro};

/// The pauses between two tries of what failed.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Hears of models on a compacted topic, and reports on two others.
///
/// Every watch reads the topic with a thread of its own, from the beginning to the end as of then, and then goes on; it needs no
/// consumer group and commits nothing. Where the topic cannot be read, or the schema registry not be asked, it says so and tries again.
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

/// What a record says: the set that is in force from it on, or why it cannot be read.
type Heard = Result<Option<ModelSet>, String>;

impl Follow<'_> {
    /// Runs until nobody watches any more.
    fn run(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.teller.is_alone() {
            let values = Values::new(self.config);
            match values.and_then(|values| self.read(&values, &mut pause)) {
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

    fn read(&self, values: &Values<'_>, pause: &mut Duration) -> Result<(), ModelTopicError> {
        let mut reader = Reader::open(self.config, FOLLOWS)?;
        let (mut newest, mut heard) = (Known::default(), Ok(()));
        reader.read_to_end(|record| self.hear(values, &record, &mut heard, |heard| note(heard, &mut newest)))?;
        heard?;
        *pause = FIRST_PAUSE;
        self.teller.tell(|known| *known = Known { is_complete: true, ..newest });
        while !self.teller.is_alone() {
            let mut heard = Ok(());
            let tell = |heard| self.teller.tell(|known| note(heard, known));
            reader.more(|record| self.hear(values, &record, &mut heard, tell))?;
            heard?;
        }
        Ok(())
    }

    /// Gives what a record says to `note`, if it is of the watched model. Where the registry is needed for that and away, `heard` becomes
    /// the reason, until a later record that can be read makes it not matter; if none does, everything is read once more.
    fn hear(
        &self,
        values: &Values<'_>,
        record: &Record<'_>,
        heard: &mut Result<(), ModelTopicError>,
        note: impl FnOnce(Heard),
    ) {
        // A registry that is away is waited for once, and not for every record.
        if record.key != self.model.as_bytes() || heard.is_err() && record.value.is_some_and(is_avro) {
            return;
        }
        match record.set(values) {
            Ok(set) => {
                *heard = Ok(());
                note(Ok(set));
            }
            Err(ModelTopicError::Set(error)) => {
                let Record { partition, offset, .. } = record;
                let topic = &self.config.topic;
                note(Err(format!("{error} (topic {topic:?}, partition {partition}, offset {offset})")));
            }
            Err(error) => *heard = Err(error),
        }
    }
}

fn note(heard: Heard, known: &mut Known) {
    match heard {
        Ok(set) => (known.set, known.trouble) = (set.map(Arc::new), None),
        Err(trouble) => known.trouble = Some(trouble),
    }
}
