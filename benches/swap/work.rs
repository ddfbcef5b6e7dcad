//! The pipeline, with a clock behind its scorer.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use iotml_core::async_trait;
use iotml_core::batch::{Batch, StageOutput};
use iotml_core::decode::{JsonDecoder, JsonDecoderConfig};
use iotml_core::encode::{JsonEncoder, JsonEncoderConfig};
use iotml_core::metrics::Metrics;
use iotml_core::model::{ModelDrift, ModelFeed, ModelState, ModelStatus, Watch};
use iotml_core::pipeline::{Pipeline, PipelineSpec, Route, TaskContext, TaskStages};
use iotml_core::plugin::BuildContext;
use iotml_core::score::{ScoreError, Scorer};
use iotml_core::state::Stateful;
use iotml_kafka::{KafkaModelFeed, KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig};
use iotml_model::{FollowConfig, Follower, LiveScorer, OnnxScorerConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Failure;
use crate::fill::committed;
use crate::plan::Plan;

/// A line of the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// A task scores with this version.
    Ready {
        /// The version.
        version: String,
    },
    /// It has ended.
    Done(Gaps),
}

/// Times between the ends of two batches of a task, in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Gaps {
    quiet: [u64; 4],
    changing: [u64; 4],
}

impl fmt::Display for Gaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |of: [u64; 4]| {
            let [p50, p99, p999, max] = of.map(|micros| micros as f64 / 1000.0);
            format!("p50 {p50:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.1}")
        };
        write!(f, "without changes {}; with changes {}", show(self.quiet), show(self.changing))
    }
}

/// Tells every change on the way.
#[derive(Debug)]
struct Telling(KafkaModelFeed, Arc<Clock>);

impl ModelFeed for Telling {
    fn watch(&self, model: &str) -> Watch {
        self.0.watch(model)
    }

    fn report(&self, status: ModelStatus) {
        if status.state == ModelState::Ready {
            if status.version == "2" {
                self.1.changes();
            }
            say(&Said::Ready { version: status.version.clone() });
        }
        self.0.report(status);
    }

    fn drifted(&self, drift: ModelDrift) {
        self.0.drifted(drift);
    }
}

fn say(said: &Said) {
    println!("{}", serde_json::to_string(said).unwrap_or_default());
}

/// The first seconds are not timed: tasks that set off pause for longer than any change makes them.
const SETTLING: Duration = Duration::from_secs(5);

/// What was timed, before the first change and from it on.
struct Clock {
    begun: Instant,
    timed: Mutex<(bool, [Histogram<u64>; 2])>,
}

impl Clock {
    fn new() -> Result<Self, Failure> {
        let timed = Mutex::new((false, [Histogram::new(3)?, Histogram::new(3)?]));
        Ok(Clock { begun: Instant::now(), timed })
    }

    fn changes(&self) {
        self.timed.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
    }

    fn tick(&self, gap: Duration) {
        if self.begun.elapsed() < SETTLING {
            return;
        }
        let mut clock = self.timed.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_changing, gaps) = &mut *clock;
        let _ = gaps[usize::from(*is_changing)].record(gap.as_micros() as u64);
    }

    fn gaps(&self) -> Gaps {
        let clock = self.timed.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |gaps: &Histogram<u64>| [0.5, 0.99, 0.999, 1.0].map(|quantile| gaps.value_at_quantile(quantile));
        Gaps { quiet: of(&clock.1[0]), changing: of(&clock.1[1]) }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The scorer, timed.
struct Timed {
    scorer: LiveScorer,
    clock: Arc<Clock>,
    last: Option<Instant>,
}

#[async_trait]
impl Scorer for Timed {
    async fn open(&mut self, task: &TaskContext) -> Result<(), ScoreError> {
        self.scorer.open(task).await
    }

    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        let scored = self.scorer.score(batch);
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.clock.tick(now - last);
        }
        scored
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        self.scorer.state()
    }
}

/// Runs until its input ends and everything was read.
pub fn run(plan: &Plan) -> Result<(), Failure> {
    let clock = Arc::new(Clock::new()?);
    let context = BuildContext { pipeline: "swap".into(), task: 0, n_tasks: plan.tasks };
    let feed = Telling(KafkaModelFeed::new(plan.feed(), &context)?, clock.clone());
    let follow =
        FollowConfig { store: plan.store.clone(), store_options: plan.store_options(), ..FollowConfig::new("m") };
    let scorer = OnnxScorerConfig { limits: plan.limits(), ..OnnxScorerConfig::following(follow) };
    let follower = Follower::new(scorer, Arc::new(feed))?;
    let decode: JsonDecoderConfig = serde_json::from_value(json!({
        "columns": [{ "name": "seq", "type": "int64", "nullable": false }, { "name": "a", "type": "float64", "nullable": false }],
    }))?;
    let encode: JsonEncoderConfig =
        serde_json::from_value(json!({ "columns": ["seq", "a", "score", "model_version"] }))?;
    let (for_task, timing) = (plan.clone(), clock.clone());
    let mut spec = PipelineSpec::new("swap", move |context| {
        let mut reads = KafkaSourceConfig::new(&for_task.kafka, &[&for_task.of("in")]);
        reads.kafka = reads.kafka.set("group.id", for_task.of("group"));
        let sink = KafkaSink::new(KafkaSinkConfig::new(&for_task.kafka, Some(&for_task.of("out"))), context)?;
        let route = Route::required("out", Some(Box::new(JsonEncoder::new(encode.clone()))), Arc::new(sink));
        let source = Box::new(KafkaSource::new(reads, context)?);
        let mut stages = TaskStages::new(source, Box::new(JsonDecoder::new(decode.clone())?), vec![route]);
        stages.scorer = Some(Box::new(Timed { scorer: follower.scorer(), clock: timing.clone(), last: None }));
        Ok(stages)
    });
    spec.n_tasks = plan.tasks;
    let handle = Pipeline::start(spec, Metrics::default())?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let reader: rdkafka::consumer::BaseConsumer = plan.client().set("group.id", plan.of("group")).create()?;
    // All that is there is read when nothing more is committed than was before, and nothing is in flight.
    let mut before = u64::MAX;
    loop {
        let now = committed(&reader, plan)?;
        if now == before && handle.audit().in_flight == 0 {
            break;
        }
        before = now;
        std::thread::sleep(Duration::from_secs(2));
    }
    handle.stop();
    let summary = handle.wait()?;
    eprintln!("{}", summary.audit);
    say(&Said::Done(clock.gaps()));
    Ok(())
}
