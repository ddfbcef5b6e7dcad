//! What the simulator knows of every message, what was seen of it at the far end, and the audit of the two.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Car, FaultKind, json};

/// What a car sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Healthy,
    Faulty(FaultKind),
    /// Cut short on purpose: belongs into the dead letters.
    Poison,
}

/// What came out at the far end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A prediction, and whether it says "anomaly".
    Prediction(bool),
    /// A dead letter.
    DeadLetter,
}

#[derive(Debug, Default)]
struct CarLog {
    sent: Vec<Sent>,
    seen: Vec<Option<Output>>,
}

/// The truth about every car, and what has been seen of it.
#[derive(Debug)]
pub struct Truth {
    cars: Vec<Mutex<CarLog>>,
    /// Messages that came out more than once.
    repeated: AtomicU64,
}

/// Messages as far as they have come out, and how right the predictions are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// Distinct messages with a prediction.
    pub predicted: u64,
    /// Distinct messages with a dead letter.
    pub dead_lettered: u64,
    /// Messages that came out more than once.
    pub repeated: u64,
    /// Anomalies reported in rows with a fault.
    pub hits: u64,
    /// Anomalies reported in rows without.
    pub false_alarms: u64,
    /// Rows with a fault that were not reported.
    pub misses: u64,
    /// Cars with a fault that has shown, and those of them reported at least once while it showed.
    pub faulty_cars: (u64, u64),
}

impl Score {
    /// Share of the reported anomalies that are faults; `None` while nothing is reported.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.hits, self.hits + self.false_alarms)
    }

    /// Share of the faults that are reported; `None` while there are none.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.hits, self.hits + self.misses)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The zero-loss audit by (car, sequence).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Messages that the broker acknowledged.
    pub published: u64,
    /// Of these, how many have a prediction.
    pub delivered: u64,
    /// Of these, how many have a dead letter.
    pub dead_lettered: u64,
    /// Of these, how many have neither: lost.
    pub lost: u64,
    /// Messages in the wrong place: sound ones dead-lettered, broken ones predicted.
    pub misplaced: u64,
    /// Messages that came out although the broker never acknowledged them.
    pub unacknowledged: u64,
}

impl Audit {
    /// Whether nothing was lost and everything is where it belongs.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.misplaced == 0 && self.published == self.delivered + self.dead_lettered
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, delivered, dead_lettered, lost, misplaced, unacknowledged } = self;
        write!(f, "published {published} = delivered {delivered} + dead-lettered {dead_lettered}")?;
        write!(f, "; lost {lost}, misplaced {misplaced}, delivered without an acknowledgement {unacknowledged}")
    }
}

impl Truth {
    /// Nothing sent yet by so many cars.
    pub fn new(n_cars: u32) -> Arc<Self> {
        Arc::new(Self { cars: (0..n_cars).map(|_| Mutex::default()).collect(), repeated: AtomicU64::new(0) })
    }

    /// The endless payloads of one car, each noted down; so many of ten thousand are cut short, at places of their own.
    pub fn payloads(self: &Arc<Self>, mut car: Car, poison: u32) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        let truth = self.clone();
        std::iter::from_fn(move || {
            let reading = car.tick();
            let mut payload = Vec::with_capacity(512);
            json::write(&reading, &mut payload);
            // A multiplicative hash of (car, tick) picks the broken ones, the same in every run.
            let draw = (u64::from(reading.car) << 32 | reading.tick).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let sent = if draw % 10_000 < u64::from(poison) {
                payload.truncate(payload.len() / 2);
                Sent::Poison
            } else {
                reading.fault.map_or(Sent::Healthy, Sent::Faulty)
            };
            if let Some(mut log) = truth.car(reading.car as usize) {
                log.sent.push(sent);
                log.seen.push(None);
            }
            Some(payload)
        })
    }

    /// Notes that message `seq` of `car` came out. What nobody sent is ignored: real topics may hold more than this run.
    pub fn saw(&self, car: usize, seq: usize, output: Output) {
        let Some(mut log) = self.car(car) else { return };
        match log.seen.get_mut(seq) {
            Some(seen @ None) => *seen = Some(output),
            Some(Some(_)) => {
                self.repeated.fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
    }

    /// How far things have come.
    pub fn score(&self) -> Score {
        let mut score = Score { repeated: self.repeated.load(Ordering::Relaxed), ..Score::default() };
        for car in 0..self.cars.len() {
            let Some(log) = self.car(car) else { continue };
            let (mut is_faulty, mut is_reported) = (false, false);
            for (sent, seen) in log.sent.iter().zip(&log.seen) {
                match seen {
                    Some(Output::Prediction(_)) => score.predicted += 1,
                    Some(Output::DeadLetter) => score.dead_lettered += 1,
                    None => {}
                }
                match (sent, seen) {
                    (Sent::Faulty(_), Some(Output::Prediction(true))) => {
                        score.hits += 1;
                        (is_faulty, is_reported) = (true, true);
                    }
                    (Sent::Faulty(_), Some(Output::Prediction(false))) => {
                        score.misses += 1;
                        is_faulty = true;
                    }
                    (Sent::Healthy, Some(Output::Prediction(true))) => score.false_alarms += 1,
                    _ => {}
                }
            }
            score.faulty_cars.0 += u64::from(is_faulty);
            score.faulty_cars.1 += u64::from(is_reported);
        }
        score
    }

    /// Rows with a fault of each kind: how many, and how many were reported.
    pub fn by_kind(&self) -> Vec<(FaultKind, u64, u64)> {
        let mut kinds = FaultKind::ALL.map(|kind| (kind, 0, 0));
        for car in 0..self.cars.len() {
            let Some(log) = self.car(car) else { continue };
            for (sent, seen) in log.sent.iter().zip(&log.seen) {
                let Sent::Faulty(fault) = sent else { continue };
                for (kind, n, reported) in &mut kinds {
                    if kind == fault {
                        *n += 1;
                        *reported += u64::from(*seen == Some(Output::Prediction(true)));
                    }
                }
            }
        }
        kinds.to_vec()
    }

    /// The audit, given how many messages of each car, from the first on, the broker acknowledged.
    pub fn audit(&self, acked: &[u64]) -> Audit {
        let mut audit = Audit::default();
        for (car, acked) in acked.iter().enumerate() {
            let Some(log) = self.car(car) else { continue };
            audit.published += acked;
            for (seq, (sent, seen)) in log.sent.iter().zip(&log.seen).enumerate() {
                if seq as u64 >= *acked {
                    audit.unacknowledged += u64::from(seen.is_some());
                    continue;
                }
                match seen {
                    Some(Output::Prediction(_)) => audit.delivered += 1,
                    Some(Output::DeadLetter) => audit.dead_lettered += 1,
                    None => audit.lost += 1,
                }
                let belongs = seen.is_none_or(|seen| (*sent == Sent::Poison) == (seen == Output::DeadLetter));
                audit.misplaced += u64::from(!belongs);
            }
        }
        audit
    }

    fn car(&self, car: usize) -> Option<MutexGuard<'_, CarLog>> {
        self.cars.get(car).map(|log| log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fleet, FleetConfig};

    #[test]
    fn inv_4_the_audit_finds_a_loss_and_a_mix_up() {
        let truth = Truth::new(2);
        let fleet = Fleet::new(&FleetConfig { n_cars: 2, ..FleetConfig::default() });
        for car in fleet.into_cars() {
            truth.payloads(car, 0).take(3).for_each(drop);
        }
        (0..3).for_each(|seq| truth.saw(0, seq, Output::Prediction(false)));
        (0..2).for_each(|seq| truth.saw(1, seq, Output::Prediction(false)));
        assert_eq!(truth.audit(&[3, 3]).lost, 1);
        assert!(!truth.audit(&[3, 3]).is_clean());
        assert!(truth.audit(&[3, 2]).is_clean());
        assert_eq!(truth.audit(&[2, 2]).unacknowledged, 1);
        truth.saw(1, 2, Output::DeadLetter);
        assert_eq!(truth.audit(&[3, 3]).misplaced, 1);
        truth.saw(1, 2, Output::DeadLetter);
        assert_eq!(truth.score().repeated, 1);
    }
}
