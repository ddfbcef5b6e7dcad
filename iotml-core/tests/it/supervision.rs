//! Tasks that fail and are begun anew, and tasks that are told what to do, on fakes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use iotml_core::batch::{Ack, Lane, LaneInfo, RawBatch, StageOutput};
use iotml_core::decode::{DecodeError, Decoder, PassThrough};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{
    Audit, OnFailure, Pipeline, PipelineError, PipelineHandle, PipelineOptions, PipelineSpec, Route, TaskContext,
    TaskStages, TaskState,
};
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use iotml_core::source::{Demand, Farewell, Source, SourceError, SourceEvent};
use iotml_core::testing::{MemoryLog, MemorySink, MemorySource, Scripted};
use proptest::prelude::*;

use super::pipeline::{PATIENCE, numbers, pass_through, quick, start, wait_until};

/// Restarts without noticeable pauses.
fn lively(restart_max: u32) -> PipelineOptions {
    PipelineOptions { restart_max, restart_backoff_max: Duration::from_millis(5), ..quick() }
}

/// Lets bytes pass, and fails or panics as scripted: one entry a batch, over all restarts.
#[derive(Clone, Default)]
struct Shaky(Arc<Mutex<Vec<Fault>>>);

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Fails,
    Panics,
}

impl Decoder for Shaky {
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        let next = self.0.lock().unwrap().pop();
        match next.unwrap_or(Fault::None) {
            Fault::None => PassThrough.decode(raw),
            Fault::Fails => Err(DecodeError::fatal("as scripted")),
            Fault::Panics => panic!("as scripted"),
        }
    }
}

fn shaky(log: &MemoryLog, batch: usize, sink: &Arc<MemorySink>, faults: &Shaky) -> TaskStages {
    TaskStages { decoder: Box::new(faults.clone()), ..pass_through(log, batch, sink) }
}

fn states(handle: &PipelineHandle) -> Vec<TaskState> {
    handle.status().tasks.iter().map(|task| task.state).collect()
}

#[test]
fn inv_1_and_4_a_task_that_fails_or_panics_is_begun_anew_and_nothing_is_lost() {
    let (log, sink, faults) = (MemoryLog::default(), MemorySink::new(), Shaky::default());
    // Taken from the end.
    *faults.0.lock().unwrap() = vec![Fault::Panics, Fault::None, Fault::Fails, Fault::None, Fault::None];
    log.publish(numbers(0..100));
    log.end();
    let metrics = Metrics::default();
    let (source, out, script) = (log.clone(), sink.clone(), faults.clone());
    let mut spec = PipelineSpec::new("test", move |_| Ok(shaky(&source, 10, &out, &script)));
    spec.options = lively(5);
    let handle = Pipeline::start(spec, metrics.clone()).unwrap();
    let control = handle.control();
    let summary = handle.wait().unwrap();
    let mut texts = sink.texts();
    texts.sort_by_key(|text| text.parse::<u32>().unwrap());
    texts.dedup();
    assert_eq!(texts, numbers(0..100));
    assert_eq!(log.acked(), 100);
    let audit = summary.audit;
    assert!(audit.balances() && audit.returned > 0 && audit.in_flight == 0, "{audit}");
    assert_eq!(audit.delivered, audit.received - audit.returned);
    assert_eq!(control.status().tasks[0].n_restarts, 2);
    let text = metrics.text().unwrap();
    for line in [
        "iotml_pipeline_task_restarts_total{pipeline=\"test\",task=\"0\"} 2".to_owned(),
        "iotml_pipeline_task_failed{pipeline=\"test\",task=\"0\"} 0".to_owned(),
        "iotml_pipeline_in_flight_rows{pipeline=\"test\",task=\"0\"} 0".to_owned(),
        format!("iotml_pipeline_received_rows_total{{pipeline=\"test\",task=\"0\"}} {}", audit.received),
        format!("iotml_pipeline_delivered_rows_total{{pipeline=\"test\",task=\"0\"}} {}", audit.delivered),
        format!("iotml_pipeline_returned_rows_total{{pipeline=\"test\",task=\"0\"}} {}", audit.returned),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever fails when: every row is delivered and acknowledged in the end, and at every look
    /// received = delivered + dead-lettered + filtered + skipped + returned + in flight.
    #[test]
    fn inv_4_the_balance_closes_over_any_failures(
        faults in prop::collection::vec(prop_oneof![3 => Just(Fault::None), 1 => Just(Fault::Fails), 1 => Just(Fault::Panics)], 0..12),
        writes in prop::collection::vec(prop_oneof![4 => Just(true), 1 => Just(false)], 0..8),
        n_rows in 1u32..60,
        batch in 1usize..9,
    ) {
        let (log, sink, script) = (MemoryLog::default(), MemorySink::with_max_in_flight(3), Shaky::default());
        *script.0.lock().unwrap() = faults;
        for works in writes {
            sink.script(if works { Ok(Default::default()) } else { Err(SinkError::fatal("as scripted")) });
        }
        log.publish(numbers(0..n_rows));
        log.end();
        let (source, out) = (log.clone(), sink.clone());
        let handle = start(lively(100), move || shaky(&source, batch, &out, &script)).unwrap();
        let control = handle.control();
        while !handle.is_finished() {
            let audit = control.audit();
            prop_assert!(audit.balances(), "{audit}");
        }
        let audit = handle.wait().unwrap().audit;
        prop_assert!(audit.balances() && audit.in_flight == 0, "{audit}");
        prop_assert_eq!(log.acked(), u64::from(n_rows));
        let mut texts = sink.texts();
        texts.sort_by_key(|text| text.parse::<u32>().unwrap());
        texts.dedup();
        prop_assert_eq!(texts, numbers(0..n_rows));
    }
}

#[test]
fn a_task_beyond_its_budget_has_failed_and_the_others_go_on() {
    let logs = [MemoryLog::default(), MemoryLog::default()];
    let sinks = [MemorySink::new(), MemorySink::new()];
    let broken = Arc::new(AtomicBool::new(true));
    let (sources, outs, is_broken) = (logs.clone(), sinks.clone(), broken.clone());
    let mut spec = PipelineSpec::new("test", move |context| {
        let stages = pass_through(&sources[context.task], 5, &outs[context.task]);
        let faults = Shaky::default();
        if context.task == 1 && is_broken.load(Ordering::SeqCst) {
            *faults.0.lock().unwrap() = vec![Fault::Fails];
        }
        Ok(TaskStages { decoder: Box::new(faults), ..stages })
    });
    (spec.options, spec.n_tasks) = (lively(2), 2);
    let handle = Pipeline::start(spec, Metrics::default()).unwrap();
    assert_eq!(states(&handle), [TaskState::Running; 2]);
    logs[1].publish(["x"]);
    wait_until("task 1 has failed", || states(&handle) == [TaskState::Running, TaskState::Failed]);
    let status = handle.status();
    assert_eq!((status.state, status.tasks[1].n_restarts), (TaskState::Running, 2));
    let trace = status.tasks[1].trace.clone().unwrap();
    assert_eq!(trace, "decode \"decode\" failed: as scripted");
    let health = handle.health();
    assert!(!health.is_healthy && !health.is_ready, "{health:?}");
    assert_eq!(health.detail, format!("task 1 FAILED: {trace}"));
    assert_eq!(logs[1].acked(), 0);

    logs[0].publish(numbers(0..10));
    wait_until("task 0 goes on", || logs[0].acked() == 10);
    assert!(!handle.is_finished());

    // By hand it begins again, with its whole budget.
    broken.store(false, Ordering::SeqCst);
    assert!(handle.control().restart_task(1) && !handle.control().restart_task(2));
    wait_until("task 1 is mended", || logs[1].acked() == 1);
    wait_until("and healthy", || handle.health().is_healthy && handle.health().is_ready);
    assert_eq!(handle.status().tasks[1].trace, None);
    handle.stop();
    let summary = handle.wait().unwrap();
    assert!(summary.audit.balances(), "{}", summary.audit);
}

#[test]
fn when_no_task_can_go_on_the_pipeline_ends_with_the_first_error() {
    let (log, sink, faults) = (MemoryLog::default(), MemorySink::new(), Shaky::default());
    *faults.0.lock().unwrap() = vec![Fault::Fails; 9];
    log.publish(["x"]);
    let (source, out, script) = (log.clone(), sink.clone(), faults.clone());
    let handle = start(lively(2), move || shaky(&source, 5, &out, &script)).unwrap();
    let control = handle.control();
    let error = handle.wait().unwrap_err();
    assert_eq!(error.report(), "decode \"decode\" failed: as scripted");
    assert_eq!(faults.0.lock().unwrap().len(), 6, "the first try and two restarts");
    assert!(control.has_ended() && !control.health().is_healthy);
    assert_eq!(control.status().state, TaskState::Failed);
    assert_eq!(control.audit(), Audit { received: 3, returned: 3, ..Audit::default() });
}

#[test]
fn a_pipeline_that_is_to_stay_waits_for_a_hand() {
    let (log, sink, faults) = (MemoryLog::default(), MemorySink::new(), Shaky::default());
    *faults.0.lock().unwrap() = vec![Fault::Fails];
    log.publish(["x"]);
    log.end();
    let (source, out, script) = (log.clone(), sink.clone(), faults.clone());
    let options = PipelineOptions { on_failure: OnFailure::Stay, ..lively(0) };
    let handle = start(options, move || shaky(&source, 5, &out, &script)).unwrap();
    wait_until("failed", || states(&handle) == [TaskState::Failed]);
    assert!(!handle.is_finished());
    assert_eq!(handle.control().restart(true), [0]);
    assert_eq!(handle.wait().unwrap().audit.delivered, 1);
    assert_eq!(log.acked(), 1);
}

#[test]
fn a_row_that_is_not_tolerated_fails_the_task_at_once() {
    struct Rejects(Arc<AtomicU32>);
    impl Decoder for Rejects {
        fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let cause = iotml_core::error::Cause::new(iotml_core::error::Reason::Malformed, "no");
            let batch = iotml_core::batch::Batch::undecoded(raw.clone()).take(&[]).unwrap();
            let rejected = vec![iotml_core::batch::Rejected { row: 0, cause }];
            Ok(StageOutput { batch, rejected, filtered: vec![] })
        }
    }
    let (log, n_tries) = (MemoryLog::default(), Arc::new(AtomicU32::new(0)));
    log.publish(["x"]);
    let tries = n_tries.clone();
    let build =
        move || TaskStages { decoder: Box::new(Rejects(tries.clone())), ..pass_through(&log, 5, &MemorySink::new()) };
    let error = start(lively(50), build).unwrap().wait().unwrap_err();
    assert!(matches!(error, PipelineError::Rejected { .. }), "{error:?}");
    assert_eq!(n_tries.load(Ordering::SeqCst), 1, "the same row would come again");
}

#[test]
fn a_stop_does_not_wait_for_the_next_try() {
    let (log, sink, faults) = (MemoryLog::default(), MemorySink::new(), Shaky::default());
    *faults.0.lock().unwrap() = vec![Fault::Fails; 9];
    log.publish(["x"]);
    let (source, out, script) = (log.clone(), sink.clone(), faults.clone());
    let options = PipelineOptions { restart_max: 9, restart_backoff_max: Duration::from_secs(3600), ..quick() };
    let handle = start(options, move || shaky(&source, 5, &out, &script)).unwrap();
    wait_until("restarting", || states(&handle) == [TaskState::Restarting]);
    let health = handle.health();
    assert!(health.is_healthy && !health.is_ready, "it has chances left: {health:?}");
    assert_eq!(health.detail, "RESTARTING: decode \"decode\" failed: as scripted");
    let start = Instant::now();
    handle.stop();
    assert_eq!(handle.wait().unwrap_err().report(), "decode \"decode\" failed: as scripted");
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn inv_5_a_paused_pipeline_drains_receives_nothing_and_is_still_polled() {
    let (log, sink) = (MemoryLog::default(), MemorySink::new());
    sink.delay(Some(Duration::from_millis(50)));
    log.publish(numbers(0..10));
    let (source, out) = (log.clone(), sink.clone());
    let handle = start(quick(), move || pass_through(&source, 5, &out)).unwrap();
    wait_until("received", || handle.audit().received == 10);
    let control = handle.control();
    control.pause();
    wait_until("paused", || control.status().state == TaskState::Paused);
    wait_until("drained", || log.acked() == 10);
    log.publish(numbers(10..20));
    let lane = LaneInfo { lane: Lane(9), partition: "other".into() };
    log.script(Scripted::Event(SourceEvent::Assigned(vec![lane])));
    wait_until("an event while paused", || control.n_lanes() == 2);
    assert_eq!(control.audit().received, 10, "nothing new while paused");
    let health = control.health();
    assert!(health.is_healthy && !health.is_ready, "{health:?}");
    control.resume();
    wait_until("the rest is delivered", || log.acked() == 20);
    handle.stop();
    assert_eq!(handle.wait().unwrap().audit, Audit { received: 20, delivered: 20, ..Audit::default() });
}

#[test]
fn a_stopped_pipeline_closes_its_stages_and_resumes_with_fresh_ones() {
    let (log, sink, n_built) = (MemoryLog::default(), MemorySink::new(), Arc::new(AtomicU32::new(0)));
    log.publish(numbers(0..10));
    let (source, out, built) = (log.clone(), sink.clone(), n_built.clone());
    let handle = start(quick(), move || {
        built.fetch_add(1, Ordering::SeqCst);
        pass_through(&source, 5, &out)
    })
    .unwrap();
    wait_until("delivered", || log.acked() == 10);
    let control = handle.control();
    control.stop();
    wait_until("stopped", || control.status().state == TaskState::Stopped);
    assert!(!handle.is_finished() && control.n_lanes() == 0 && control.health().is_healthy);
    log.publish(numbers(10..20));
    control.resume();
    wait_until("the rest is delivered", || log.acked() == 20);
    assert_eq!(n_built.load(Ordering::SeqCst), 2);
    control.restart(false);
    wait_until("begun anew", || n_built.load(Ordering::SeqCst) == 3 && control.status().state == TaskState::Running);
    control.stop();
    wait_until("stopped", || control.status().state == TaskState::Stopped);
    control.end();
    assert_eq!(handle.wait().unwrap().audit, Audit { received: 20, delivered: 20, ..Audit::default() });
}

/// A sink that writes down what becomes of it, and lets itself be opened or not.
struct Door {
    name: &'static str,
    opens: bool,
    said: Arc<Mutex<Vec<String>>>,
}

#[iotml_core::async_trait]
impl Sink for Door {
    async fn open(&self, _task: &TaskContext) -> Result<(), SinkError> {
        self.said.lock().unwrap().push(format!("{} opens: {}", self.name, self.opens));
        if self.opens { Ok(()) } else { Err(SinkError::fatal("as scripted")) }
    }

    async fn write(&self, _rows: Outgoing) -> Result<Written, SinkError> {
        Err(SinkError::fatal("there is nothing to write"))
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.said.lock().unwrap().push(format!("{} closes", self.name));
        Ok(())
    }
}

/// A source that cannot be opened.
struct Nowhere;

#[iotml_core::async_trait]
impl Source for Nowhere {
    async fn open(&mut self, _task: &TaskContext) -> Result<(), SourceError> {
        Err(SourceError::fatal("nobody is there"))
    }

    async fn poll(&mut self, _demand: Demand) -> Result<SourceEvent, SourceError> {
        Err(SourceError::fatal("it is not open"))
    }

    fn ack(&mut self, _acks: &[Ack]) -> Result<(), SourceError> {
        Ok(())
    }
}

#[test]
fn what_was_opened_is_closed_when_a_task_cannot_start() {
    for (second, expected) in [
        (true, vec!["first opens: true", "second opens: true", "first closes", "second closes"]),
        (false, vec!["first opens: true", "second opens: false", "first closes"]),
    ] {
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = said.clone();
        let started = start(lively(0), move || {
            let door = |name, opens| {
                let sink = Arc::new(Door { name, opens, said: heard.clone() });
                Route::required(name, None, sink)
            };
            let routes = vec![door("first", true), door("second", second)];
            TaskStages::new(Box::new(Nowhere), Box::new(PassThrough), routes)
        });
        assert!(started.is_err());
        assert_eq!(*said.lock().unwrap(), expected);
    }
}

/// A sink whose far side is away for some of the times that it is opened.
struct Away {
    inner: Arc<MemorySink>,
    is_away: bool,
}

#[iotml_core::async_trait]
impl Sink for Away {
    async fn open(&self, task: &TaskContext) -> Result<(), SinkError> {
        if self.is_away { Err(SinkError::retryable("nobody answers")) } else { self.inner.open(task).await }
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        self.inner.write(rows).await
    }
}

#[test]
fn inv_1_a_far_side_that_is_away_longer_than_the_restarts_last_is_waited_for() {
    let (log, sink, n_opened) = (MemoryLog::default(), MemorySink::new(), Arc::new(AtomicU32::new(0)));
    sink.script(Err(SinkError::fatal("it has gone away")));
    log.publish(numbers(0..10));
    log.end();
    let (source, out, opened) = (log.clone(), sink.clone(), n_opened.clone());
    let build = move || {
        let number = opened.fetch_add(1, Ordering::SeqCst);
        let sink = Arc::new(Away { inner: out.clone(), is_away: (1..20).contains(&number) });
        let route = Route::required("all", None, sink);
        TaskStages::new(Box::new(source.source(5)), Box::new(PassThrough), vec![route])
    };
    let handle = start(lively(1), build).unwrap();
    let control = handle.control();
    assert_eq!(handle.wait().unwrap().audit.in_flight, 0);
    assert_eq!((log.acked(), control.status().tasks[0].n_restarts), (10, 20));
    assert_eq!(n_opened.load(Ordering::SeqCst), 21);

    // At the first start nobody waits.
    let build = move || {
        let sink = Arc::new(Away { inner: MemorySink::new(), is_away: true });
        let route = Route::required("all", None, sink);
        TaskStages::new(Box::new(MemoryLog::default().source(5)), Box::new(PassThrough), vec![route])
    };
    assert!(start(lively(9), build).is_err_and(|error| error.report().contains("nobody answers")));
}

/// A source whose far side still holds messages for it when it takes leave.
struct Departing {
    inner: MemorySource,
    log: MemoryLog,
    farewell: Farewell,
    closed: Arc<Mutex<Vec<&'static str>>>,
    /// How long the far side takes to answer.
    opens: Arc<Mutex<Duration>>,
    /// Whether it answers when the source is closed.
    closes: bool,
}

#[iotml_core::async_trait]
impl Source for Departing {
    async fn open(&mut self, task: &TaskContext) -> Result<(), SourceError> {
        // A far side answers after a moment.
        let opens = *self.opens.lock().unwrap();
        tokio::time::sleep(opens).await;
        self.inner.open(task).await
    }

    async fn poll(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        self.inner.poll(demand).await
    }

    fn ack(&mut self, acks: &[Ack]) -> Result<(), SourceError> {
        self.inner.ack(acks)
    }

    async fn leave(&mut self) -> Result<Farewell, SourceError> {
        self.closed.lock().unwrap().push("left");
        if self.farewell == Farewell::UntilEnd {
            self.log.publish(numbers(10..30));
            self.log.end();
        }
        Ok(self.farewell)
    }

    async fn close(&mut self) -> Result<(), SourceError> {
        self.closed.lock().unwrap().push("closed");
        if self.closes { Ok(()) } else { std::future::pending().await }
    }
}

#[test]
fn inv_1_a_source_that_does_not_close_in_time_fails_no_pipeline_that_is_done_unless_it_takes_leave() {
    for leaves in [false, true] {
        let sink = MemorySink::new();
        let (log, handle, _) = departing_from(Farewell::Now, false, &sink);
        wait_until("acknowledgements", || log.acked() == 10);
        if leaves {
            handle.control().leave();
            assert!(handle.wait().unwrap_err().report().contains("did not close in time"));
        } else {
            handle.stop();
            let summary = handle.wait().unwrap();
            assert!(summary.is_drained && summary.audit.delivered == 10, "{}", summary.audit);
        }
    }
}

/// What a departing source has said, and how long its far side takes to answer when it is opened again.
type Departure = (Arc<Mutex<Vec<&'static str>>>, Arc<Mutex<Duration>>);

fn departing(farewell: Farewell, sink: &Arc<MemorySink>) -> (MemoryLog, PipelineHandle, Departure) {
    departing_from(farewell, true, sink)
}

fn departing_from(farewell: Farewell, closes: bool, sink: &Arc<MemorySink>) -> (MemoryLog, PipelineHandle, Departure) {
    let (log, said) = (MemoryLog::default(), Arc::new(Mutex::new(Vec::new())));
    log.publish(numbers(0..10));
    let (source, out, closed) = (log.clone(), sink.clone(), said.clone());
    let opens = Arc::new(Mutex::new(Duration::from_millis(20)));
    let again = opens.clone();
    let options = PipelineOptions { drain_timeout: Duration::from_millis(300), ..lively(0) };
    let handle = start(options, move || {
        let (inner, log) = (source.source(5), source.clone());
        let source = Departing { inner, log, farewell, closed: closed.clone(), opens: opens.clone(), closes };
        TaskStages::new(Box::new(source), Box::new(PassThrough), vec![Route::required("all", None, out.clone())])
    });
    (log, handle.unwrap(), (said, again))
}

#[test]
fn inv_1_who_leaves_receives_what_the_far_side_still_holds_and_then_ends() {
    let sink = MemorySink::new();
    let (log, handle, (said, _)) = departing(Farewell::UntilEnd, &sink);
    wait_until("delivered", || log.acked() == 10);
    handle.control().leave();
    let summary = handle.wait().unwrap();
    assert!(summary.is_drained);
    assert_eq!((log.acked(), sink.texts()), (30, numbers(0..30)));
    assert_eq!(*said.lock().unwrap(), ["left", "closed"]);
}

#[test]
fn inv_1_who_cannot_finish_in_time_stays_and_says_so() {
    let sink = MemorySink::new();
    let (log, handle, _) = departing(Farewell::UntilEnd, &sink);
    wait_until("delivered", || log.acked() == 10);
    sink.delay(Some(Duration::from_secs(3600)));
    handle.control().leave();
    let error = handle.wait().unwrap_err();
    assert!(matches!(error, PipelineError::Stayed(20)), "{error:?}");
    assert!(error.report().contains("let it leave again"), "{}", error.report());
    assert_eq!(log.acked(), 10);
}

#[test]
fn a_stopped_pipeline_opens_once_more_to_leave() {
    let sink = MemorySink::new();
    let (log, handle, (said, _)) = departing(Farewell::Now, &sink);
    wait_until("delivered", || log.acked() == 10);
    let control = handle.control();
    control.stop();
    wait_until("stopped", || control.status().state == TaskState::Stopped);
    control.leave();
    handle.wait().unwrap();
    assert_eq!(*said.lock().unwrap(), ["closed", "left", "closed"]);
}

#[test]
fn one_that_is_told_to_leave_while_it_opens_does_so_and_who_finds_nobody_to_leave_stays() {
    let second = Duration::from_secs(1);
    for (opens, has_left) in [(Duration::from_millis(150), true), (3600 * second, false)] {
        let sink = MemorySink::new();
        let (log, handle, (said, again)) = departing(Farewell::Now, &sink);
        wait_until("delivered", || log.acked() == 10);
        *again.lock().unwrap() = opens;
        let control = handle.control();
        control.restart(false);
        wait_until("it is being opened", || *said.lock().unwrap() == ["closed"]);
        control.leave();
        let ended = handle.wait();
        let expected = if has_left { vec!["closed", "left", "closed"] } else { vec!["closed"] };
        assert_eq!(*said.lock().unwrap(), expected);
        match has_left {
            true => drop(ended.unwrap()),
            false => assert!(matches!(ended.unwrap_err(), PipelineError::Stayed(0))),
        }
    }
}
