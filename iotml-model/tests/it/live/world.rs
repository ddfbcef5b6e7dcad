//! A pipeline of several tasks whose models are announced in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use iotml_core::arrow::array::{Array, AsArray};
use iotml_core::arrow::datatypes::Float32Type;
use iotml_core::batch::{Batch, Message, Messages};
use iotml_core::encode::{EncodeError, Encoded, Encoder, envelope};
use iotml_core::error::ConfigError;
use iotml_core::metrics::Metrics;
use iotml_core::model::{Announcement, MemoryFeed, ModelSet, ModelState, ModelStatus};
use iotml_core::pipeline::{Pipeline, PipelineHandle, PipelineSpec, Route, Summary, TaskStages, Tolerance};
use iotml_core::testing::{MemoryLog, MemorySink};
use iotml_model::manifest::{Golden, embed};
use iotml_model::testing::{OnnxBuilder, scaled_copy};
use iotml_model::{EngineChoice, FollowConfig, Follower, Kind, Manifest, OnnxScorerConfig};

use crate::setup::Numbers;

pub const PATIENCE: Duration = Duration::from_secs(60);

/// The number, version, score and limit of a row, as text.
struct Scores;

impl Encoder for Scores {
    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
        let number = |name: &str, row: usize| {
            let column = batch.column(name).unwrap().as_primitive::<Float32Type>();
            if column.is_null(row) { "none".to_owned() } else { column.value(row).to_string() }
        };
        let versions = batch.column("model_version").unwrap().as_string::<i32>();
        let mut messages = Messages::default();
        for row in 0..batch.len() {
            let version = versions.value(row);
            let text = format!("{} {version} {} {}", number("a", row), number("score", row), number("threshold", row));
            messages.push(Message { payload: Some(text.as_bytes()), ..envelope(batch, row) });
        }
        Ok(Encoded { messages, rejected: vec![] })
    }
}

/// What came out for one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: String,
    pub a: f32,
    pub version: String,
    /// NaN where there is none.
    pub score: f32,
    pub threshold: f32,
}

/// A model whose score is the square of the number times its version, and whose threshold is its version.
pub fn manifest(version: u32) -> iotml_model::manifest::ManifestBuilder {
    let score = |a: f64| Some((a * f64::from(version)).powi(2));
    let golden = Golden {
        input: vec![vec![1.0], vec![2.0]],
        score: Some(vec![score(1.0), score(2.0)]),
        output: None,
        tolerance: 1e-4,
    };
    let builder = Manifest::builder(Kind::Reconstruction, "m").version(version.to_string()).feature("a", None);
    builder.golden(golden).fixed_threshold(f64::from(version))
}

/// The file: `x` comes back as `x * (1 - version)`, so that the error is `x * version`.
pub fn graph(version: u32) -> OnnxBuilder {
    scaled_copy(1, 1.0 - version as f32)
}

pub fn file(version: u32) -> Vec<u8> {
    embed(&graph(version).build(), &manifest(version).build().unwrap()).unwrap()
}

pub fn good(version: u32) -> Announcement {
    Announcement::inline(version.to_string(), file(version))
}

pub struct World {
    pub feed: Arc<MemoryFeed>,
    pub follower: Follower,
    pub logs: Vec<MemoryLog>,
    pub sinks: Vec<Arc<MemorySink>>,
    pub shadows: Arc<MemorySink>,
    pub dead: Arc<MemorySink>,
    pub metrics: Metrics,
}

impl World {
    pub fn new(engine: EngineChoice, n_tasks: usize) -> Self {
        Self::with(engine, n_tasks, MemoryFeed::new(), |_| {})
    }

    pub fn with(
        engine: EngineChoice,
        n_tasks: usize,
        feed: MemoryFeed,
        change: impl FnOnce(&mut OnnxScorerConfig),
    ) -> Self {
        let feed = Arc::new(feed);
        let mut config = OnnxScorerConfig { engine, ..OnnxScorerConfig::following(FollowConfig::new("m")) };
        change(&mut config);
        World {
            follower: Follower::new(config, feed.clone()).unwrap(),
            feed,
            logs: (0..n_tasks).map(|_| MemoryLog::default()).collect(),
            sinks: (0..n_tasks).map(|_| MemorySink::new()).collect(),
            shadows: MemorySink::new(),
            dead: MemorySink::new(),
            metrics: Metrics::default(),
        }
    }

    pub fn spec(&self) -> PipelineSpec {
        let (logs, sinks, dead) = (self.logs.clone(), self.sinks.clone(), self.dead.clone());
        let (follower, shadows) = (self.follower.clone(), self.shadows.clone());
        let mut spec = PipelineSpec::new("cars", move |context| -> Result<TaskStages, ConfigError> {
            let required = Route::required("scores", Some(Box::new(Scores)), sinks[context.task].clone());
            let shadow = Route::required("shadow", Some(Box::new(Scores)), shadows.clone());
            let routes = vec![required, Route { shadow: true, ..shadow }];
            let source = logs[context.task].source(64);
            let mut stages = TaskStages::new(Box::new(source), Box::new(Numbers), routes);
            stages.scorer = Some(Box::new(follower.scorer()));
            stages.dead_letter = Some(dead.clone());
            Ok(stages)
        });
        spec.n_tasks = self.logs.len();
        spec.options.tolerance = Tolerance::All;
        spec
    }

    pub fn start(&self) -> PipelineHandle {
        Pipeline::start(self.spec(), self.metrics.clone()).unwrap()
    }

    pub fn announce(&self, announcements: impl IntoIterator<Item = Announcement>) {
        let versions = announcements.into_iter().collect();
        self.feed.announce(ModelSet { versions, ..ModelSet::new("m") });
    }

    /// What was reported of a version, as words.
    pub fn states(&self, version: &str) -> Vec<ModelState> {
        self.reports(version).iter().map(|report| report.state).collect()
    }

    pub fn reports(&self, version: &str) -> Vec<ModelStatus> {
        self.feed.reports().into_iter().filter(|report| report.version == version).collect()
    }

    /// The reports that a version is refused.
    pub fn refusals(&self, version: &str) -> Vec<ModelStatus> {
        let mut reports = self.reports(version);
        reports.retain(|report| report.state == ModelState::Unavailable);
        reports
    }

    /// Waits until a version was reported to be in this state by `n` reports.
    #[track_caller]
    pub fn wait_for(&self, version: &str, state: ModelState, n: usize) {
        let count = || self.states(version).iter().filter(|found| **found == state).count();
        let what = format!("{n} reports that {version} is {state}");
        wait(&what, || count() >= n, || format!("{:?}", self.feed.reports()));
    }

    /// All rows that came out, by task.
    pub fn rows(&self) -> Vec<Vec<Row>> {
        self.sinks.iter().map(|sink| rows(sink)).collect()
    }

    /// Ends the sources, and waits for the end.
    pub fn end(&self, handle: PipelineHandle) -> Summary {
        self.logs.iter().for_each(MemoryLog::end);
        handle.wait().unwrap()
    }

    /// Sends numbered rows with 100 keys to all tasks, until told to stop; gives how many each task got.
    pub fn load(&self) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (logs, sinks, stopped) = (self.logs.clone(), self.sinks.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut n = 0u32;
            while !stopped.load(Ordering::SeqCst) {
                let message = |n: u32| (Some(format!("car{}", n % 100).into_bytes()), Some(n.to_string().into_bytes()));
                logs.iter().for_each(|log| log.publish_keyed((n..n + 256).map(message)));
                n += 256;
                // Not more than is read, so that a slow machine does not pile rows up.
                let behind = || sinks.iter().any(|sink| (sink.n_stored() as u32) + 4096 < n);
                while behind() && !stopped.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            }
            n
        });
        Load { stop, thread }
    }
}

/// Rows that are being sent.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Load {
    pub fn stop(self) -> u32 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

pub fn rows(sink: &MemorySink) -> Vec<Row> {
    let stored = sink.stored();
    let row = |at: usize| {
        let text = String::from_utf8_lossy(stored.payload(at).unwrap()).into_owned();
        let fields: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| fields[at].parse().unwrap_or(f32::NAN);
        let key = String::from_utf8_lossy(stored.key(at).unwrap_or_default()).into_owned();
        Row { key, a: number(0), version: fields[1].to_owned(), score: number(2), threshold: number(3) }
    };
    (0..stored.len()).map(row).collect()
}

#[track_caller]
pub fn wait(what: &str, is_so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what}: {}", otherwise());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that every row was scored once, by one version whose score and threshold it has.
#[track_caller]
pub fn assert_each_once(rows: &[Row], n: u32) {
    assert_eq!(rows.len(), n as usize);
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row.a, at as f32, "rows keep their order, none is missing and none comes twice");
        let version: f32 = row.version.parse().unwrap();
        let expected = (row.a * version).powi(2);
        assert!((row.score - expected).abs() <= expected * 1e-4, "{row:?} is not scored by the version that it names");
        assert_eq!(row.threshold, version, "{row:?}: the threshold travels with the model");
    }
}
