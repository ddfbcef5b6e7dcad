//! Trying again: how long to wait, and when to give up.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::{PipelineError, PipelineOptions};

/// How a step of a task failed.
pub(super) enum Failure {
    /// The same step may succeed later.
    Retryable(PipelineError),
    /// The task cannot go on.
    Task(PipelineError),
}

/// The pauses between tries of one step, growing with jitter, and the time at which to give up.
pub(super) struct Retry {
    delays: ExponentialBackoff,
    delay_max: Duration,
    give_up: Option<Instant>,
}

impl Retry {
    /// Begins with the first failure.
    pub fn new(options: &PipelineOptions, now: Instant) -> Self {
        let delays = growing(Duration::from_millis(50), options.retry_delay_max);
        let give_up = options.retry_timeout.and_then(|timeout| now.checked_add(timeout));
        Self { delays, delay_max: options.retry_delay_max, give_up }
    }

    /// When to try next; `None` once the budget is spent.
    pub fn next(&mut self, now: Instant) -> Option<Instant> {
        if self.give_up.is_some_and(|give_up| now >= give_up) {
            return None;
        }
        // The configured longest pause is meant to include the jitter.
        let delay = self.delays.next().unwrap_or(self.delay_max).min(self.delay_max);
        let at = now + delay;
        Some(self.give_up.map_or(at, |give_up| at.min(give_up)))
    }
}

/// Pauses that grow from `first` to `max` and stay there. Jitter is added on top, so whoever takes one still bounds it.
pub(super) fn growing(first: Duration, max: Duration) -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(first.min(max)).with_max_delay(max);
    builder.with_jitter().without_max_times().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_below_the_longest_and_end_with_the_budget() {
        let options = PipelineOptions {
            retry_timeout: Some(Duration::from_secs(60)),
            retry_delay_max: Duration::from_secs(2),
            ..PipelineOptions::default()
        };
        let start = Instant::now();
        let mut retry = Retry::new(&options, start);
        let mut now = start;
        let mut n_tries = 0;
        while let Some(at) = retry.next(now) {
            assert!(at > now && at - now <= Duration::from_secs(2));
            now = at;
            n_tries += 1;
        }
        assert_eq!(now, start + Duration::from_secs(60));
        assert!((30..1200).contains(&n_tries), "{n_tries}");
    }
}
