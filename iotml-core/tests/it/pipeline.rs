//! The pipeline driver on fakes: delivery, order, retries, error policy, routes, drain, state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iotml_core::arrow::array::{ArrayRef, BooleanArray, Float32Array, RecordBatch};
use iotml_core::batch::{Ack, Batch, Lane, RawBatch, Rejected, StageOutput};
use iotml_core::decode::{DecodeError, Decoder, PassThrough};
use iotml_core::error::{Cause, Class, Reason};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{
    Audit, Pipeline, PipelineError, PipelineHandle, PipelineOptions, PipelineSpec, Route, TaskStages, Tolerance, When,
    header,
};
use iotml_core::preprocess::{PreprocessError, Preprocessor};
use iotml_core::score::{ScoreError, Scorer};
use iotml_core::sink::{Sink, SinkError, Written};
use iotml_core::source::{SourceError, SourceEvent};
use iotml_core::state::{FileStateStore, StateError, Stateful};
use iotml_core::testing::{MemoryLog, MemorySink, Scripted};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Decodes a number; "down" asks for a registry that is not there the first two times.
#[derive(Default)]
struct Numbers {
    n_failures_left: u32,
}

#[iotml_core::async_trait]
impl Decoder for Numbers {
    async fn prepare(&mut self, _: &Arc<RawBatch>) -> Result<(), DecodeError> {
        if self.n_failures_left > 0 {
            self.n_failures_left -= 1;
            return Err(DecodeError::retryable("the registry is down"));
        }
        Ok(())
    }

    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        let (mut origins, mut values, mut rejected) = (vec![], vec![], vec![]);
        for row in 0..raw.len() as u32 {
            let text = String::from_utf8_lossy(raw.messages().payload(row as usize).unwrap_or_default()).into_owned();
            match text.parse::<f32>() {
                Ok(value) => {
                    origins.push(row);
                    values.push(value);
                }
                Err(error) => rejected.push(Rejected { row, cause: Cause::new(Reason::Malformed, error.to_string()) }),
            }
        }
        let large = values.iter().map(|value| *value > 90.0).collect::<Vec<_>>();
        let columns = RecordBatch::try_from_iter([
            ("value", Arc::new(Float32Array::from(values)) as ArrayRef),
            ("anomaly", Arc::new(BooleanArray::from(large))),
        ]);
        let batch = Batch::decoded(raw.clone(), origins, columns.unwrap());
        Ok(StageOutput { batch, rejected, filtered: vec![] })
    }
}

/// Keeps even values.
struct Even;

impl Preprocessor for Even {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        let values = batch.column("value").unwrap().as_any().downcast_ref::<Float32Array>().unwrap().clone();
        let even: Vec<bool> = values.values().iter().map(|value| value % 2.0 == 0.0).collect();
        let (batch, filtered) = batch.filter(&even).unwrap();
        Ok(StageOutput { batch, rejected: vec![], filtered })
    }
}

pub(crate) fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

pub(crate) fn quick() -> PipelineOptions {
    PipelineOptions {
        retry_delay_max: Duration::from_millis(20),
        drain_timeout: Duration::from_secs(5),
        ..PipelineOptions::default()
    }
}

pub(crate) fn start(
    options: PipelineOptions,
    build: impl Fn() -> TaskStages + Send + Sync + 'static,
) -> Result<PipelineHandle, PipelineError> {
    let spec = PipelineSpec { options, ..PipelineSpec::new("test", move |_| Ok(build())) };
    Pipeline::start(spec, Metrics::default())
}

pub(crate) fn pass_through(log: &MemoryLog, batch: usize, sink: &Arc<MemorySink>) -> TaskStages {
    let route = Route::required("all", None, sink.clone());
    TaskStages::new(Box::new(log.source(batch)), Box::new(PassThrough), vec![route])
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came about: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_pipeline_says_how_many_lanes_it_receives_from() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    let (source, out) = (log.clone(), sink.clone());
    let handle = start(quick(), move || pass_through(&source, 10, &out)).unwrap();
    wait_until("the source's one lane is there", || handle.n_lanes() == 1);
    log.script(Scripted::Event(SourceEvent::Lost { lanes: vec![Lane(0)], reason: "the broker forgot it".to_owned() }));
    wait_until("the lane is gone", || handle.n_lanes() == 0);
}

#[test]
fn inv_1_and_4_every_row_is_delivered_then_acknowledged_and_the_audit_balances() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    log.publish(numbers(0..1000));
    log.end();
    log.witness(&sink);
    let (source, out) = (log.clone(), sink.clone());
    let summary = start(quick(), move || pass_through(&source, 64, &out)).unwrap().wait().unwrap();
    assert_eq!(sink.texts(), numbers(0..1000));
    assert_eq!(log.acked(), 1000);
    assert!(summary.is_drained);
    assert_eq!(summary.audit, Audit { received: 1000, delivered: 1000, ..Audit::default() });
    assert!(!log.witnessed().is_empty());
    for (n_stored, ack) in log.witnessed() {
        assert!(n_stored as u64 > ack.through, "row {} was acknowledged while {n_stored} were stored", ack.through);
    }
}

#[test]
fn inv_1_nothing_is_acknowledged_while_a_write_hangs_and_inv_5_the_source_is_still_polled() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    sink.delay(Some(Duration::from_secs(3600)));
    log.publish(numbers(0..10));
    let (source, out) = (log.clone(), sink.clone());
    let options = PipelineOptions { drain_timeout: Duration::from_millis(200), ..quick() };
    let handle = start(options, move || pass_through(&source, 4, &out)).unwrap();
    wait_until("rows in flight", || handle.audit().in_flight == 10);
    log.script(Scripted::LoseLane);
    wait_until("the lost lane's messages come again", || handle.audit().received == 20);
    assert_eq!(log.acked(), 0);
    handle.stop();
    let summary = handle.wait().unwrap();
    assert!(!summary.is_drained && summary.audit.balances() && summary.audit.in_flight == 20);
    assert_eq!(log.acked(), 0);
}

#[test]
fn inv_3_acknowledgements_of_a_lost_lane_are_void() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    sink.delay(Some(Duration::from_millis(300)));
    log.publish(numbers(0..3));
    let (source, out) = (log.clone(), sink.clone());
    let handle = start(quick(), move || pass_through(&source, 3, &out)).unwrap();
    wait_until("rows in flight", || handle.audit().in_flight == 3);
    log.script(Scripted::LoseLane);
    log.end();
    let summary = handle.wait().unwrap();
    assert_eq!(summary.audit, Audit { received: 6, delivered: 6, ..Audit::default() });
    assert_eq!(log.acks(), [Ack { lane: Lane(1), through: 2 }], "only the new lane is acknowledged");
}

#[test]
fn inv_6_rows_in_flight_stay_below_the_bound_while_the_sink_hangs() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    sink.delay(Some(Duration::from_secs(3600)));
    log.publish(numbers(0..10_000));
    let (source, out) = (log.clone(), sink.clone());
    let options = PipelineOptions { max_in_flight_rows: 100, drain_timeout: Duration::from_millis(100), ..quick() };
    let handle = start(options, move || pass_through(&source, 10, &out)).unwrap();
    wait_until("the bound is reached", || handle.audit().in_flight >= 100);
    log.script(Scripted::Event(SourceEvent::Idle));
    log.script(Scripted::Error(SourceError::retryable("a hiccup")));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(handle.audit().in_flight, 100);
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn inv_7_poison_is_dead_lettered_with_context_before_it_is_acknowledged_and_neighbours_pass() {
    let (log, sink, dead) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    log.publish(["1", "x", "3", "4"]);
    log.end();
    log.witness(&dead);
    let (source, out, letters) = (log.clone(), sink.clone(), dead.clone());
    let options = PipelineOptions { tolerance: Tolerance::All, ..quick() };
    let handle = start(options, move || TaskStages {
        preprocessors: vec![("even".to_owned(), Box::new(Even))],
        dead_letter: Some(letters.clone()),
        ..TaskStages::new(
            Box::new(source.source(10)),
            Box::new(Numbers::default()),
            vec![Route::required("all", None, out.clone())],
        )
    });
    let summary = handle.unwrap().wait().unwrap();
    assert_eq!(summary.audit, Audit { received: 4, delivered: 1, dead_lettered: 1, filtered: 2, ..Audit::default() });
    assert_eq!(sink.texts(), ["4"]);
    assert_eq!(dead.texts(), ["x"]);
    assert_eq!(log.acked(), 4);
    let letter = dead.stored();
    let value = |name| String::from_utf8(letter.headers().last(0, name).unwrap().value.unwrap().to_vec()).unwrap();
    assert_eq!(value(header::TOPIC), "memory");
    assert_eq!((value(header::PARTITION), value(header::OFFSET)), ("0".to_owned(), "1".to_owned()));
    assert_eq!((value(header::CONNECTOR), value(header::STAGE)), ("test".to_owned(), "decode".to_owned()));
    assert_eq!(value(header::REASON), "malformed");
    let is_durable_first = log.witnessed().iter().all(|(n_stored, ack)| ack.through < 1 || *n_stored == 1);
    assert!(is_durable_first && !log.witnessed().is_empty(), "the dead letter is durable first");
}

#[test]
fn inv_7_a_row_that_the_sink_refuses_is_dead_lettered_alone() {
    let (log, sink, dead) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    sink.refuse(b"2", Cause::new(Reason::Refused, "too large"));
    log.publish(numbers(0..5));
    log.end();
    let (source, out, letters) = (log.clone(), sink.clone(), dead.clone());
    let options = PipelineOptions { tolerance: Tolerance::All, ..quick() };
    let handle =
        start(options, move || TaskStages { dead_letter: Some(letters.clone()), ..pass_through(&source, 5, &out) });
    let summary = handle.unwrap().wait().unwrap();
    assert_eq!((sink.texts(), dead.texts()), (["0", "1", "3", "4"].map(String::from).to_vec(), vec!["2".to_owned()]));
    assert_eq!((summary.audit.delivered, summary.audit.dead_lettered), (4, 1));
}

#[test]
fn tolerance_all_without_a_dead_letter_sink_counts_skipped_rows() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    log.publish(["1", "x", "2"]);
    log.end();
    let (source, out) = (log.clone(), sink.clone());
    let options = PipelineOptions { tolerance: Tolerance::All, ..quick() };
    let build = move || {
        let routes = vec![Route::required("all", None, out.clone() as Arc<dyn Sink>)];
        TaskStages::new(Box::new(source.source(3)), Box::new(Numbers::default()), routes)
    };
    let summary = start(options, build).unwrap().wait().unwrap();
    assert_eq!(summary.audit, Audit { received: 3, delivered: 2, skipped: 1, ..Audit::default() });
    assert_eq!(log.acked(), 3);
}

#[test]
fn tolerance_none_fails_at_the_row_and_acknowledges_nothing_behind_it() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    log.publish(["1", "2", "x", "4"]);
    let (source, out) = (log.clone(), sink.clone());
    let build = move || {
        let routes = vec![Route::required("all", None, out.clone() as Arc<dyn Sink>)];
        TaskStages::new(Box::new(source.source(2)), Box::new(Numbers::default()), routes)
    };
    let error = start(quick(), build).unwrap().wait().unwrap_err();
    assert!(matches!(&error, PipelineError::Rejected { offset: 2, .. }), "{error:?}");
    assert!(error.report().contains("malformed: invalid float literal"), "{}", error.report());
    assert!(log.acked() <= 2);
}

/// Refuses every row with an error of its own.
struct Refusing;

impl Preprocessor for Refusing {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        let cause = Cause::new(Reason::Custom("rude"), "not today").with(std::io::Error::other("its own words"));
        let rejected = (0..batch.len() as u32).map(|row| Rejected { row, cause: cause.clone() }).collect();
        Ok(StageOutput { batch: batch.take(&[]).unwrap(), rejected, filtered: vec![] })
    }
}

#[test]
fn the_error_behind_a_cause_is_kept() {
    let log = MemoryLog::default();
    log.publish(["1"]);
    let build = move || {
        let preprocessors: Vec<(String, Box<dyn Preprocessor>)> = vec![("refusing".to_owned(), Box::new(Refusing))];
        TaskStages { preprocessors, ..pass_through(&log, 1, &MemorySink::new()) }
    };
    let error = start(quick(), build).unwrap().wait().unwrap_err();
    assert!(error.report().ends_with("rude: not today: its own words"), "{}", error.report());
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap();
    assert!(cause.downcast_ref::<std::io::Error>().is_some(), "{cause:?}");
}

#[test]
fn a_write_that_may_pass_is_tried_again_in_its_place() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    let busy = |row| Rejected { row, cause: Cause::new(Reason::Refused, "busy") };
    sink.script(Err(SinkError::retryable("not now")));
    sink.script(Ok(Written { rejected: vec![], retryable: vec![busy(1), busy(2)] }));
    log.publish(numbers(0..6));
    log.end();
    let (source, out) = (log.clone(), sink.clone());
    let summary = start(quick(), move || pass_through(&source, 3, &out)).unwrap().wait().unwrap();
    assert_eq!(sink.texts(), numbers(0..6));
    assert_eq!(summary.audit.delivered, 6);
}

#[test]
fn the_retry_budget_ends_in_a_failure_that_names_the_route() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    (0..1000).for_each(|_| sink.script(Err(SinkError::retryable("the cluster is away"))));
    log.publish(numbers(0..6));
    let (source, out) = (log.clone(), sink.clone());
    let options = PipelineOptions { retry_timeout: Some(Duration::from_millis(100)), ..quick() };
    let error = start(options, move || pass_through(&source, 3, &out)).unwrap().wait().unwrap_err();
    assert_eq!(error.report(), "sink \"all\" failed: the cluster is away");
    assert_eq!(log.acked(), 0);
}

#[test]
fn a_decoder_whose_registry_is_down_is_tried_again() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    log.publish(numbers(0..6));
    log.end();
    let (source, out) = (log.clone(), sink.clone());
    let build = move || {
        let routes = vec![Route::required("all", None, out.clone() as Arc<dyn Sink>)];
        TaskStages::new(Box::new(source.source(3)), Box::new(Numbers { n_failures_left: 2 }), routes)
    };
    start(quick(), build).unwrap().wait().unwrap();
    assert_eq!(sink.texts(), numbers(0..6));
}

#[test]
fn inv_11_order_is_kept_with_several_writes_in_flight() {
    let (log, sink) = (MemoryLog::default(), MemorySink::with_max_in_flight(8));
    sink.delay(Some(Duration::from_millis(2)));
    log.publish(numbers(0..500));
    log.end();
    let (source, out) = (log.clone(), sink.clone());
    start(quick(), move || pass_through(&source, 7, &out)).unwrap().wait().unwrap();
    assert_eq!(sink.texts(), numbers(0..500));
    assert_eq!(log.acked(), 500);
}

#[test]
fn a_best_effort_route_never_holds_back_an_acknowledgement() {
    let (log, sink, alerts) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    alerts.delay(Some(Duration::from_secs(3600)));
    log.publish(numbers(0..100));
    let (source, out, slow) = (log.clone(), sink.clone(), alerts.clone());
    let options = PipelineOptions { best_effort_queue: 1, drain_timeout: Duration::from_millis(200), ..quick() };
    let build = move || {
        let required = Route::required("all", None, out.clone() as Arc<dyn Sink>);
        let alert = Route::best_effort("alerts", When::anomaly(), None, slow.clone());
        TaskStages::new(Box::new(source.source(1)), Box::new(Numbers::default()), vec![required, alert])
    };
    let handle = start(options, build).unwrap();
    wait_until("everything is acknowledged", || log.acked() == 100);
    assert_eq!(alerts.texts(), ["91"], "only anomalies, and only the first was taken");
    handle.stop();
    assert_eq!(handle.wait().unwrap().audit.delivered, 100);
}

/// Each batch is kept whole for the one row of it that is an alert.
#[test]
fn inv_6_a_best_effort_route_whose_sink_hangs_keeps_few_bytes_however_large_its_batches_are() {
    let (log, sink, alerts) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    alerts.delay(Some(Duration::from_secs(3600)));
    // 100 kB each: a number behind zeros, which the decoder does not mind.
    let large = |number: u32| format!("{}{number}", "0".repeat(100_000));
    log.publish((0..40).map(|_| large(95)));
    let (source, out, slow) = (log.clone(), sink.clone(), alerts.clone());
    let options =
        PipelineOptions { max_in_flight_bytes: 1 << 20, drain_timeout: Duration::from_millis(200), ..quick() };
    let metrics = Metrics::default();
    let mut spec = PipelineSpec::new("test", move |_| {
        let required = Route::required("all", None, out.clone() as Arc<dyn Sink>);
        let alert = Route::best_effort("alerts", When::anomaly(), None, slow.clone());
        Ok(TaskStages::new(Box::new(source.source(1)), Box::new(Numbers::default()), vec![required, alert]))
    });
    spec.options = options;
    let handle = Pipeline::start(spec, metrics.clone()).unwrap();
    wait_until("everything is acknowledged", || log.acked() == 40);
    let dropped = || {
        let text = metrics.text().unwrap();
        let is_it = |line: &&str| line.starts_with("iotml_sink_dropped_rows_total{") && line.contains("\"alerts\"");
        let line = text.lines().find(is_it).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    // A batch is the message and its copy on the way out: five fit into a MiB.
    let n_kept = 40 - dropped();
    assert!((3..=6).contains(&n_kept), "{n_kept} batches of 200 kB are kept");
    alerts.delay(None);
    wait_until("the alerts that were kept are written", || alerts.n_stored() as u32 == n_kept);
    // What has been written makes room.
    log.publish((0..3).map(|_| large(96)));
    wait_until("new alerts are taken", || alerts.n_stored() as u32 == n_kept + 3);
    handle.stop();
    assert_eq!(handle.wait().unwrap().audit.delivered, 43);
}

#[test]
fn a_lane_that_leaves_is_drained_committed_and_released() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    sink.delay(Some(Duration::from_millis(100)));
    log.publish(numbers(0..9));
    let (source, out) = (log.clone(), sink.clone());
    let handle = start(quick(), move || pass_through(&source, 3, &out)).unwrap();
    wait_until("all received", || handle.audit().received == 9);
    log.script(Scripted::Event(SourceEvent::Revoking { lanes: vec![Lane(0)], deadline: PATIENCE }));
    wait_until("released", || log.released() == [Lane(0)]);
    assert_eq!(log.acked(), 9, "what was in flight is acknowledged before the release");
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn a_stage_that_loses_a_row_is_caught() {
    struct Forgetful;
    impl Preprocessor for Forgetful {
        fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
            Ok(StageOutput::all(batch.take(&[0]).unwrap()))
        }
    }
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    log.publish(numbers(0..3));
    let (source, out) = (log.clone(), sink.clone());
    let build = move || TaskStages {
        preprocessors: vec![("forgetful".to_owned(), Box::new(Forgetful))],
        ..pass_through(&source, 3, &out)
    };
    let error = start(quick(), build).unwrap().wait().unwrap_err().report();
    assert!(error.contains("forgetful") && error.contains("dropped the row of message 1 without a word"), "{error}");
    assert_eq!(log.acked(), 0);
}

#[test]
fn a_panic_of_a_stage_is_an_error_of_the_pipeline() {
    struct Panics;
    impl Decoder for Panics {
        fn decode(&mut self, _: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
            panic!("as planned")
        }
    }
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    log.publish(["1"]);
    let (source, out) = (log.clone(), sink.clone());
    let build = move || TaskStages { decoder: Box::new(Panics), ..pass_through(&source, 1, &out) };
    let handle = start(quick(), build).unwrap();
    let error = handle.wait().unwrap_err();
    assert!(matches!(&error, PipelineError::Panicked { message, .. } if message == "as planned"), "{error:?}");
}

#[test]
fn nothing_is_left_half_started() {
    struct Refusing;
    #[iotml_core::async_trait]
    impl Sink for Refusing {
        async fn open(&self, _: &iotml_core::pipeline::TaskContext) -> Result<(), SinkError> {
            Err(SinkError::fatal("connection refused by 127.0.0.1:1; is the broker running?"))
        }
        async fn write(&self, _: iotml_core::sink::Outgoing) -> Result<Written, SinkError> {
            Ok(Written::default())
        }
    }
    let log = MemoryLog::default();
    log.publish(["1"]);
    let source = log.clone();
    let error = start(quick(), move || {
        let route = Route::required("all", None, Arc::new(Refusing));
        TaskStages::new(Box::new(source.source(1)), Box::new(PassThrough), vec![route])
    });
    let error = error.unwrap_err().report();
    assert_eq!(error, "sink \"all\" failed: connection refused by 127.0.0.1:1; is the broker running?");
    assert_eq!(log.acked(), 0);
}

/// Scores a row by how many rows came before it.
#[derive(Default)]
struct Counting(u64);

impl Scorer for Counting {
    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        self.0 += batch.len() as u64;
        Ok(StageOutput::all(batch))
    }

    fn state(&mut self) -> Option<&mut dyn Stateful> {
        Some(self)
    }
}

impl Stateful for Counting {
    fn snapshot(&self, _: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(Some(self.0.to_be_bytes().to_vec()))
    }

    fn restore(&mut self, _: &str, snapshot: &[u8]) -> Result<(), StateError> {
        let bytes = snapshot.try_into().map_err(|_| StateError::Snapshot("not eight bytes".to_owned()))?;
        self.0 = u64::from_be_bytes(bytes);
        Ok(())
    }

    fn forget(&mut self, _: &str) {
        self.0 = 0;
    }
}

#[test]
fn inv_9_state_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let count = |n: u32| {
        let (log, sink) = (MemoryLog::default(), MemorySink::new());
        log.publish(numbers(0..n));
        log.end();
        let build = move || TaskStages { scorer: Some(Box::new(Counting::default())), ..pass_through(&log, 10, &sink) };
        let mut spec = PipelineSpec::new("test", move |_| Ok(build()));
        spec.state = Some(Arc::new(FileStateStore::new(folder.path())));
        Pipeline::start(spec, Metrics::default()).unwrap().wait().unwrap();
        let kept = std::fs::read(folder.path().join("score").join("memory-0.state")).unwrap();
        u64::from_be_bytes(kept.try_into().unwrap())
    };
    assert_eq!(count(25), 25);
    assert_eq!(count(5), 30);
}

#[test]
fn who_is_late_is_not_ready_and_still_healthy() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    sink.delay(Some(Duration::from_secs(3600)));
    let (source, out) = (log.clone(), sink.clone());
    let options = PipelineOptions {
        max_in_flight_age: Duration::from_millis(50),
        drain_timeout: Duration::from_millis(50),
        ..quick()
    };
    let handle = start(options, move || pass_through(&source, 1, &out)).unwrap();
    assert!(handle.health().is_healthy && handle.health().is_ready, "idle is healthy");
    log.publish(["1"]);
    wait_until("late", || !handle.health().is_ready);
    assert!(handle.health().is_healthy, "a restart would help nobody: {:?}", handle.health());
    assert!(handle.health().detail.contains("in flight"), "{}", handle.health().detail);
    sink.delay(None);
    wait_until("ready again", || handle.health().is_ready);
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn metrics_tell_what_became_of_the_rows() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    log.publish(["1", "x", "2"]);
    log.end();
    let metrics = Metrics::default();
    let (source, out) = (log.clone(), sink.clone());
    let mut spec = PipelineSpec::new("p", move |_| {
        let routes = vec![Route::required("all", None, out.clone() as Arc<dyn Sink>)];
        Ok(TaskStages::new(Box::new(source.source(3)), Box::new(Numbers::default()), routes))
    });
    spec.options = PipelineOptions { tolerance: Tolerance::All, ..quick() };
    Pipeline::start(spec, metrics.clone()).unwrap().wait().unwrap();
    let text = metrics.text().unwrap();
    for line in [
        "iotml_pipeline_received_rows_total{pipeline=\"p\",task=\"0\"} 3",
        "iotml_pipeline_delivered_rows_total{pipeline=\"p\",task=\"0\"} 2",
        "iotml_pipeline_rejected_rows_total{pipeline=\"p\",task=\"0\",stage=\"decode\",reason=\"malformed\"} 1",
        "iotml_sink_rows_total{pipeline=\"p\",task=\"0\",route=\"all\"} 2",
        "iotml_pipeline_in_flight_rows{pipeline=\"p\",task=\"0\"} 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn classes_say_what_to_do_next() {
    assert_eq!(SinkError::retryable("x").class(), Class::Retryable);
    assert_eq!(SourceError::fatal("x").class(), Class::Fatal);
    assert_eq!(DecodeError::Record(Cause::new(Reason::Empty, "x")).class(), Class::Record);
}
