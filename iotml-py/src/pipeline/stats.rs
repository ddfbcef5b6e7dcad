//! How a pipeline is doing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use iotml_core::pipeline::Audit;
use pyo3::prelude::*;

/// Over how long rates are taken.
const WINDOW: Duration = Duration::from_secs(10);

/// What became of the rows of a pipeline, and how it is doing, on one snapshot.
///
/// `received == delivered + dead_lettered + filtered + skipped + returned + in_flight`, always.
#[pyclass(frozen, module = "iotml", get_all)]
#[derive(Debug)]
pub struct Stats {
    /// Rows the source yielded, redelivered ones again.
    received: u64,
    /// Rows that every required route made durable.
    delivered: u64,
    /// Rows of which at least one result went to the dead-letter sink, durably.
    dead_lettered: u64,
    /// Rows left out on purpose.
    filtered: u64,
    /// Rows dropped by `errors.tolerance = "all"` without a dead-letter sink.
    skipped: u64,
    /// Rows in flight when their task was begun anew or their transaction aborted; the source yields them again, and they are
    /// received again.
    returned: u64,
    /// Rows not yet done; with transactions, not yet committed.
    in_flight: u64,
    /// `new`, `starting`, `running`, `stopped`, or `failed`.
    state: &'static str,
    /// No task has failed; idle is healthy.
    is_healthy: bool,
    /// Every task receives, and nothing is in flight for too long.
    is_ready: bool,
    /// Why not, or the balance, in one line.
    detail: String,
    /// How long the pipeline has been running, or ran, in seconds.
    seconds: f64,
    /// Rows received a second: over the last ten seconds in which `stats` was asked for, over the whole run once it ended.
    received_per_second: f64,
    /// Rows that are done, in whatever way, a second; over the same time.
    done_per_second: f64,
}

/// What is known of a pipeline at one moment.
pub struct Seen {
    pub audit: Audit,
    pub state: &'static str,
    pub is_healthy: bool,
    pub is_ready: bool,
    pub detail: String,
    pub seconds: f64,
    pub rates: (f64, f64),
}

impl From<Seen> for Stats {
    fn from(seen: Seen) -> Self {
        let Seen { audit, state, is_healthy, is_ready, detail, seconds, rates } = seen;
        let Audit { received, delivered, dead_lettered, filtered, skipped, returned, in_flight } = audit;
        Self {
            received,
            delivered,
            dead_lettered,
            filtered,
            skipped,
            returned,
            in_flight,
            state,
            is_healthy,
            is_ready,
            detail,
            seconds,
            received_per_second: rates.0,
            done_per_second: rates.1,
        }
    }
}

#[pymethods]
impl Stats {
    fn __repr__(&self) -> String {
        let Self { state, received, delivered, dead_lettered, filtered, skipped, returned, in_flight, .. } = self;
        format!(
            "Stats({state}: received {received} = delivered {delivered} + dead_lettered {dead_lettered} + filtered \
             {filtered} + skipped {skipped} + returned {returned} + in_flight {in_flight}; {:.0} rows/s)",
            self.received_per_second
        )
    }
}

/// Rates from the snapshots that were asked for.
#[derive(Debug)]
pub struct Rates {
    /// Oldest first; the first is the newest one from before the window.
    samples: VecDeque<(Instant, Audit)>,
}

impl Rates {
    /// From `began` on.
    pub fn new(began: Instant) -> Self {
        Self { samples: VecDeque::from([(began, Audit::default())]) }
    }

    /// Rows received and rows done a second, over the window that ends now.
    pub fn add(&mut self, now: Instant, audit: Audit) -> (f64, f64) {
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.samples.pop_front();
        }
        let rates = self.samples.front().map_or((0.0, 0.0), |(at, before)| between(*before, audit, now - *at));
        // Asked for in a tight loop, the window would fill up with samples that tell nothing.
        if self.samples.back().is_none_or(|(at, _)| now - *at >= WINDOW / 100) {
            self.samples.push_back((now, audit));
        }
        rates
    }
}

/// Rows received and rows done a second.
pub fn between(before: Audit, after: Audit, took: Duration) -> (f64, f64) {
    let done = |audit: &Audit| audit.received - audit.in_flight;
    let per_second = |rows: u64| if took.is_zero() { 0.0 } else { rows as f64 / took.as_secs_f64() };
    (per_second(after.received - before.received), per_second(done(&after).saturating_sub(done(&before))))
}
