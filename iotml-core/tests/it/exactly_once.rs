//! Exactly once on fakes: whatever fails, every row comes out once, together with how far the source was read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use iotml_core::batch::{Batch, Lane, Rejected, StageOutput};
use iotml_core::decode::PassThrough;
use iotml_core::error::{Cause, Reason};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{
    Audit, Delivery, Pipeline, PipelineControl, PipelineError, PipelineHandle, PipelineOptions, PipelineSpec, Route,
    TaskStages, TaskState, Tolerance,
};
use iotml_core::preprocess::{PreprocessError, Preprocessor};
use iotml_core::sink::{SinkError, Written};
use iotml_core::source::SourceEvent;
use iotml_core::testing::{CommitFault, MemoryLog, MemorySink, MemoryTransaction, Scripted};

const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> PipelineOptions {
    PipelineOptions {
        delivery: Delivery::ExactlyOnce,
        transaction_interval: Duration::from_millis(2),
        tolerance: Tolerance::All,
        retry_delay_max: Duration::from_millis(20),
        drain_timeout: Duration::from_secs(5),
        ..PipelineOptions::default()
    }
}

fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|number| format!("{number:05}")).collect()
}

/// Leaves out rows that begin with "skip".
struct Skip;

impl Preprocessor for Skip {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        let raw = batch.raw().clone();
        let payload = |row: usize| raw.messages().payload(batch.origin(row)).unwrap_or_default();
        let keep: Vec<bool> = (0..batch.len()).map(|row| !payload(row).starts_with(b"skip")).collect();
        let (batch, filtered) = batch.clone().filter(&keep).unwrap();
        Ok(StageOutput { batch, rejected: Vec::<Rejected>::new(), filtered })
    }
}

/// A log, its transactions, a sink and a sink for dead letters in them.
struct Setting {
    log: MemoryLog,
    transaction: Arc<MemoryTransaction>,
    sink: Arc<MemorySink>,
    dead: Arc<MemorySink>,
}

impl Setting {
    fn new(max_in_flight: usize) -> Self {
        let log = MemoryLog::default();
        let transaction = MemoryTransaction::new(&log);
        let sink = MemorySink::transactional(&transaction, max_in_flight);
        let dead = MemorySink::transactional(&transaction, 1);
        Self { log, transaction, sink, dead }
    }

    fn start(&self, options: PipelineOptions) -> Result<PipelineHandle, PipelineError> {
        let (log, sink, dead) = (self.log.clone(), self.sink.clone(), self.dead.clone());
        let build = move || TaskStages {
            preprocessors: vec![("skip".to_owned(), Box::new(Skip))],
            dead_letter: Some(dead.clone()),
            ..TaskStages::new(
                Box::new(log.source(7)),
                Box::new(PassThrough),
                vec![Route::required("all", None, sink.clone())],
            )
        };
        let spec = PipelineSpec { options, ..PipelineSpec::new("test", move |_| Ok(build())) };
        Pipeline::start(spec, Metrics::default())
    }

    /// Runs to the end of `n` numbers and checks that each came out once, in order.
    fn run(&self, n: usize) -> Audit {
        self.log.publish(numbers(n));
        self.log.end();
        let summary = self.start(options()).unwrap().wait().unwrap();
        self.check(n);
        assert!(summary.is_drained && summary.audit.balances() && summary.audit.in_flight == 0, "{}", summary.audit);
        summary.audit
    }

    fn check(&self, n: usize) {
        assert_eq!(self.sink.texts(), numbers(n));
        assert_eq!(self.log.acked(), n as u64);
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never came about: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn inv_9_rows_and_positions_are_committed_together() {
    for max_in_flight in [1, 8] {
        let setting = Setting::new(max_in_flight);
        let audit = setting.run(5000);
        assert_eq!(audit, Audit { received: 5000, delivered: 5000, ..Audit::default() });
        assert!(setting.transaction.n_commits() > 1 && setting.transaction.n_aborts() == 0);
    }
}

#[test]
fn inv_9_a_write_that_fails_aborts_and_its_rows_are_read_again() {
    let setting = Setting::new(4);
    let cause = Cause::new(Reason::Refused, "not now");
    setting.sink.script(Ok(Written::default()));
    setting.sink.script(Err(SinkError::retryable("the far side is away")));
    setting.sink.script(Ok(Written { retryable: vec![Rejected { row: 3, cause }], ..Written::default() }));
    let audit = setting.run(1000);
    assert!(setting.transaction.n_aborts() >= 1 && audit.returned > 0, "{audit}");
    assert_eq!(audit.delivered, 1000, "what was aborted was not delivered");
    assert_eq!(setting.log.n_rewinds(), setting.transaction.n_aborts());
}

#[test]
fn inv_9_a_commit_that_fails_or_whose_answer_is_lost_doubles_nothing() {
    let setting = Setting::new(4);
    let gone = || SinkError::retryable("no answer");
    setting.transaction.script(CommitFault::Refused(gone()));
    setting.transaction.script(CommitFault::InDoubt(gone()));
    setting.transaction.script(CommitFault::InDoubt(gone()));
    let audit = setting.run(1000);
    assert_eq!(setting.transaction.n_aborts(), 3);
    // Of a commit in doubt only the far side knows whether it counts.
    assert!(audit.delivered < 1000 && audit.returned > 0, "{audit}");
}

#[test]
fn inv_9_dead_letters_and_filtered_rows_are_part_of_it() {
    let setting = Setting::new(2);
    let rows: Vec<String> = (0..600)
        .map(|n| match n % 3 {
            0 => format!("bad {n:05}"),
            1 => format!("skip {n:05}"),
            _ => format!("good {n:05}"),
        })
        .collect();
    for n in (0..600).step_by(3) {
        let cause = Cause::new(Reason::Refused, "no");
        setting.sink.refuse(format!("bad {n:05}").as_bytes(), cause);
    }
    setting.transaction.script(CommitFault::Refused(SinkError::retryable("not now")));
    setting.log.publish(&rows);
    setting.log.end();
    let summary = setting.start(options()).unwrap().wait().unwrap();
    let of = |kind: &str| rows.iter().filter(|row| row.starts_with(kind)).cloned().collect::<Vec<_>>();
    assert_eq!(setting.sink.texts(), of("good"));
    let mut dead = setting.dead.texts();
    dead.sort();
    assert_eq!(dead, of("bad"));
    let audit = summary.audit;
    assert_eq!((audit.delivered, audit.dead_lettered, audit.filtered), (200, 200, 200));
    assert!(audit.balances() && setting.log.acked() == 600);
}

#[test]
fn inv_9_positions_of_rows_that_are_all_filtered_are_committed_too() {
    let setting = Setting::new(1);
    setting.log.publish((0..50).map(|n| format!("skip {n}")));
    let handle = setting.start(options()).unwrap();
    wait_until("the positions are committed", || setting.log.acked() == 50);
    handle.stop();
    assert_eq!(handle.wait().unwrap().audit, Audit { received: 50, filtered: 50, ..Audit::default() });
}

#[test]
fn inv_3_and_9_rows_of_a_lost_lane_are_aborted_and_come_again() {
    let setting = Setting::new(1);
    setting.sink.delay(Some(Duration::from_secs(3600)));
    setting.log.publish(numbers(3));
    let handle = setting.start(options()).unwrap();
    // A lane that is lost before anything was written leaves nothing to abort.
    wait_until("rows on their way", || setting.transaction.has_begun());
    setting.log.script(Scripted::LoseLane);
    wait_until("the transaction is aborted", || setting.transaction.n_aborts() == 1);
    setting.sink.delay(None);
    setting.log.end();
    let audit = handle.wait().unwrap().audit;
    setting.check(3);
    assert_eq!(audit, Audit { received: 6, delivered: 3, returned: 3, ..Audit::default() });
}

#[test]
fn inv_3_and_9_lanes_that_leave_are_committed_first_or_aborted_when_it_is_too_late() {
    for (delay, n_aborts) in [(Duration::from_millis(20), 0), (Duration::from_secs(3600), 1)] {
        let setting = Setting::new(1);
        setting.sink.delay(Some(delay));
        setting.log.publish(numbers(5));
        let handle = setting.start(options()).unwrap();
        wait_until("rows in flight", || handle.audit().received == 5);
        let deadline = if n_aborts == 0 { PATIENCE } else { Duration::from_millis(50) };
        setting.log.script(Scripted::Event(SourceEvent::Revoking { lanes: vec![Lane(0)], deadline }));
        wait_until("the lane is released", || setting.log.released() == [Lane(0)]);
        assert_eq!(setting.transaction.n_aborts(), n_aborts);
        if n_aborts == 0 {
            assert_eq!(setting.log.acked(), 5, "committed before it was released");
        }
        setting.sink.delay(None);
        setting.log.end();
        handle.wait().unwrap();
        setting.check(5);
    }
}

#[test]
fn inv_9_a_stop_commits_what_is_done_and_aborts_what_hangs() {
    let setting = Setting::new(1);
    setting.log.publish(numbers(7));
    let slow = PipelineOptions {
        transaction_interval: Duration::from_secs(3600),
        drain_timeout: Duration::from_millis(500),
        ..options()
    };
    let handle = setting.start(slow).unwrap();
    // The first rows are committed at once, those behind them only at the stop.
    wait_until("the first are committed", || setting.log.acked() == 7);
    setting.log.publish(numbers(14).split_off(7));
    wait_until("more have come", || handle.audit().received == 14);
    handle.stop();
    assert!(handle.wait().unwrap().is_drained);
    setting.check(14);

    let setting = Setting::new(1);
    setting.sink.delay(Some(Duration::from_secs(3600)));
    setting.log.publish(numbers(7));
    let handle = setting.start(PipelineOptions { drain_timeout: Duration::from_millis(50), ..options() }).unwrap();
    wait_until("rows on their way", || setting.transaction.has_begun());
    handle.stop();
    let summary = handle.wait().unwrap();
    assert!(!summary.is_drained && summary.audit.in_flight == 7);
    assert_eq!((setting.sink.n_stored(), setting.log.acked(), setting.transaction.n_aborts()), (0, 0, 1));
}

#[test]
fn inv_9_an_abort_waits_for_a_far_side_that_is_away_and_an_end_does_not() {
    let setting = Setting::new(1);
    setting.transaction.set_away(true);
    setting.sink.script(Err(SinkError::retryable("the far side is away")));
    setting.log.publish(numbers(5));
    let handle = setting.start(options()).unwrap();
    wait_until("the rows are void", || handle.audit().returned == 5);
    assert_eq!(setting.transaction.n_aborts(), 0);
    setting.transaction.set_away(false);
    wait_until("it is back", || setting.log.acked() == 5);
    setting.log.end();
    assert!(handle.wait().unwrap().is_drained);
    setting.check(5);

    let ends: [fn(&PipelineControl); 4] =
        [PipelineControl::end, PipelineControl::leave, PipelineControl::stop, |control| drop(control.restart(false))];
    for (number, end) in ends.into_iter().enumerate() {
        let setting = Setting::new(1);
        setting.transaction.set_away(true);
        setting.sink.script(Err(SinkError::retryable("the far side is away")));
        setting.log.publish(numbers(5));
        let options = PipelineOptions { drain_timeout: Duration::from_millis(50), ..options() };
        let handle = setting.start(options).unwrap();
        wait_until("the rows are void", || handle.audit().returned == 5);
        end(&handle.control());
        if number < 2 {
            let summary = handle.wait().unwrap();
            assert!(!summary.is_drained && summary.audit.balances(), "{}", summary.audit);
        } else {
            let state = || handle.control().status().tasks[0].state;
            wait_until("it is closed", || state() == if number == 2 { TaskState::Stopped } else { TaskState::Failed });
        }
        assert_eq!((setting.sink.n_stored(), setting.log.acked()), (0, 0));
    }
}

#[test]
fn inv_9_what_fails_for_good_ends_the_task_and_a_new_one_goes_on_at_what_is_committed() {
    let setting = Setting::new(2);
    setting.log.publish(numbers(300));
    setting.sink.script(Ok(Written::default()));
    setting.sink.script(Err(SinkError::fatal("fenced")));
    let error = setting.start(options()).unwrap().wait().unwrap_err();
    assert!(error.report().contains("fenced"), "{}", error.report());
    let committed = setting.log.acked() as usize;
    assert_eq!(setting.sink.texts(), numbers(committed));
    setting.log.end();
    let transaction = MemoryTransaction::new(&setting.log);
    let sink = MemorySink::transactional(&transaction, 2);
    let next = Setting { log: setting.log.clone(), sink, transaction, dead: MemorySink::new() };
    let next = Setting { dead: MemorySink::transactional(&next.transaction, 1), ..next };
    next.start(options()).unwrap().wait().unwrap();
    assert_eq!([setting.sink.texts(), next.sink.texts()].concat(), numbers(300));
}

#[test]
fn inv_9_an_error_that_stays_ends_the_task_when_its_time_is_over() {
    let setting = Setting::new(1);
    setting.log.publish(numbers(3));
    (0..1000).for_each(|_| setting.sink.script(Err(SinkError::retryable("away"))));
    let short = PipelineOptions { retry_timeout: Some(Duration::from_millis(200)), ..options() };
    let error = setting.start(short).unwrap().wait().unwrap_err().report();
    assert!(error.contains("away"), "{error}");
    assert!(setting.transaction.n_aborts() > 1);
    assert_eq!((setting.sink.n_stored(), setting.log.acked()), (0, 0));
}

#[test]
fn inv_9_sinks_without_a_transaction_or_with_two_are_refused() {
    let setting = Setting::new(1);
    for (dead, part) in [
        (MemorySink::new(), "needs a sink that takes part in transactions"),
        (MemorySink::transactional(&MemoryTransaction::new(&setting.log), 1), "in one transaction"),
    ] {
        let setting = Setting { log: setting.log.clone(), sink: setting.sink.clone(), dead, ..Setting::new(1) };
        let error = setting.start(options()).unwrap_err().report();
        assert!(error.contains(part), "{error}");
    }
}
