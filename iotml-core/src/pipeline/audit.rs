//! The balance of a pipeline (invariant 4).

use std::fmt;
use std::ops::Add;

/// What became of the rows a pipeline received, on one consistent snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Rows the source yielded, redelivered ones again.
    pub received: u64,
    /// Rows that every required route made durable.
    pub delivered: u64,
    /// Rows of which at least one result went to the dead-letter sink, durably.
    pub dead_lettered: u64,
    /// Rows left out on purpose.
    pub filtered: u64,
    /// Rows dropped by `errors.tolerance = "all"` without a dead-letter sink.
    pub skipped: u64,
    /// Rows that were in flight when their task failed, was restarted or stopped, or their transaction was aborted: not
    /// acknowledged, so that the source yields them again, and they are counted as received again.
    pub returned: u64,
    /// Rows not yet done; with transactions, not yet committed.
    pub in_flight: u64,
}

impl Audit {
    /// Everything but `received`; equal to it unless a row got lost.
    pub fn accounted(&self) -> u64 {
        self.delivered + self.dead_lettered + self.filtered + self.skipped + self.returned + self.in_flight
    }

    /// Whether no row got lost.
    pub fn balances(&self) -> bool {
        self.received == self.accounted()
    }

    /// The balance when what was in flight is the source's again.
    pub(super) fn given_back(self) -> Audit {
        Audit { returned: self.returned + self.in_flight, in_flight: 0, ..self }
    }
}

impl Add for Audit {
    type Output = Audit;

    fn add(self, other: Audit) -> Audit {
        Audit {
            received: self.received + other.received,
            delivered: self.delivered + other.delivered,
            dead_lettered: self.dead_lettered + other.dead_lettered,
            filtered: self.filtered + other.filtered,
            skipped: self.skipped + other.skipped,
            returned: self.returned + other.returned,
            in_flight: self.in_flight + other.in_flight,
        }
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.balances() { "=" } else { "!=" };
        write!(
            f,
            "received {} {sign} delivered {} + dead-lettered {} + filtered {} + skipped {}",
            self.received, self.delivered, self.dead_lettered, self.filtered, self.skipped
        )?;
        // Most pipelines never fail, and their line stays as short as the sum that people know.
        if self.returned > 0 {
            write!(f, " + returned {}", self.returned)?;
        }
        write!(f, " + in flight {}", self.in_flight)
    }
}
