//! From windows beyond a limit to one report.

use std::time::{Duration, Instant};

use super::tally::Extent;

/// Whether a drift lasts, and whether it was reported.
#[derive(Debug, Default)]
pub(super) struct Trigger {
    /// Windows in a row that were beyond a limit.
    windows: u64,
    /// Their rows.
    extent: Extent,
    reported: Option<Instant>,
}

impl Trigger {
    /// Takes a window that ended `now`, and says whether it is time for a report.
    pub(super) fn pull(&mut self, is_beyond: bool, window: &Extent, now: Instant, rule: Rule) -> bool {
        if !is_beyond {
            *self = Trigger::default();
            return false;
        }
        self.windows += 1;
        self.extent.add(window);
        let rests = self.reported.is_some_and(|at| now.saturating_duration_since(at) < rule.cooldown);
        if self.windows < u64::from(rule.windows) || rests {
            return false;
        }
        self.reported = Some(now);
        true
    }

    /// The windows in a row that are beyond a limit, and their rows.
    pub(super) fn lasts(&self) -> (u64, &Extent) {
        (self.windows, &self.extent)
    }
}

/// When there is a report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) windows: u32,
    pub(super) cooldown: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { windows: 3, cooldown: Duration::from_secs(60) };

    /// The reports of windows of 10 rows and 10 s each: `+` is beyond the limit.
    fn reports(windows: &str) -> String {
        let begun = Instant::now();
        let mut trigger = Trigger::default();
        let extent = Extent::of_rows(10);
        let pull = |(at, window): (usize, char)| {
            let now = begun + Duration::from_secs(10 * at as u64);
            let is_time = trigger.pull(window == '+', &extent, now, RULE);
            let (windows, rows) = trigger.lasts();
            assert_eq!(rows.rows, windows * 10, "the rows of this drift alone");
            if is_time { '!' } else { '.' }
        };
        windows.chars().enumerate().map(pull).collect()
    }

    #[test]
    fn what_lasts_is_reported_once() {
        assert_eq!(reports("-++++++"), "...!...");
        assert_eq!(reports("++-++-++"), "........", "too short each time");
    }

    #[test]
    fn what_goes_and_comes_again_is_reported_again() {
        assert_eq!(reports("++++-+++"), "..!....!");
    }

    #[test]
    fn what_lasts_longer_than_the_cooldown_is_reported_again() {
        assert_eq!(reports("+++++++++++++++"), "..!.....!.....!");
    }
}
