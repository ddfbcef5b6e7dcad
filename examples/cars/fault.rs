//! The four faults, how large they are, and which cars get one.
//!
//! Severities are what a workshop calls an early warning, well before the driver notices: each is the constant physical offset
//! that the signal has once the fault has developed, and the row is then (and only then) labelled with it.

use std::{fmt, ops::Range, str::FromStr};

use crate::noise::Noise;

/// What is wrong with a car.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A worn engine mount: [`FaultKind::severity`] mV more vibration whenever the engine runs.
    EngineVibration,
    /// One tyre has lost [`FaultKind::severity`] psi.
    TyreLeak,
    /// A thermostat that sticks: a warm engine is [`FaultKind::severity`] degC hotter.
    CoolantOverheating,
    /// Weak cells: the pack gives [`FaultKind::severity`] V less at the same charge and current.
    BatterySag,
}

impl FaultKind {
    /// All kinds, in the order in which faulty cars get them.
    pub const ALL: [Self; 4] = [Self::EngineVibration, Self::TyreLeak, Self::CoolantOverheating, Self::BatterySag];

    /// The offset of a developed fault in the unit of its sensor: 1,000 mV, 4 psi, 12 degC, 10 V.
    ///
    /// For scale: a healthy car shows up to 6,000 mV, drivers are warned by law at about 7 psi, coolant boils some 25 degC above
    /// the thermostat, and 10 V are 4 % of the pack's voltage.
    pub const fn severity(self) -> f64 {
        match self {
            Self::EngineVibration => 1_000.0,
            Self::TyreLeak => 4.0,
            Self::CoolantOverheating => 12.0,
            Self::BatterySag => 10.0,
        }
    }

    /// The name used in files and on command lines, such as `tyre-leak`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EngineVibration => "engine-vibration",
            Self::TyreLeak => "tyre-leak",
            Self::CoolantOverheating => "coolant-overheating",
            Self::BatterySag => "battery-sag",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("no fault is named {text}; known are {}", known()))
    }
}

/// Which cars fall ill and when.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultPlan {
    /// Share of the cars that get a fault, 0..=1; spread evenly over the indices, the kinds in turn.
    pub share: f64,
    /// The tick at which a car's fault begins is drawn from here.
    pub onset: Range<u64>,
    /// How many ticks a fault takes from its beginning to its full severity.
    pub ramp: u64,
}

impl FaultPlan {
    /// No car ever falls ill.
    pub const NONE: Self = Self { share: 0.0, onset: 0..1, ramp: 1 };
}

impl Default for FaultPlan {
    /// Five cars of a hundred, from within the first minute, developing over ten ticks: short enough to be seen in a demo.
    fn default() -> Self {
        Self { share: 0.05, onset: 5..20, ramp: 10 }
    }
}

/// The fault of one car: it grows linearly from its onset, then stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) onset: u64,
    pub(crate) ramp: u64,
    /// Which tyre leaks, 0..4.
    pub(crate) tyre: usize,
}

impl Fault {
    /// The fault of this car, if the plan gives it one; its draws are its own, so that a sick car drives as it would have driven healthy.
    pub(crate) fn of_car(plan: &FaultPlan, seed: u64, car: u32) -> Option<Self> {
        let share = plan.share.clamp(0.0, 1.0);
        // Counting up in steps of `share` gives every fleet its exact share, and a car the same fate in a fleet of any size.
        let phase = Noise::new(seed ^ 0xfa17, u32::MAX).uniform(0.0, 1.0);
        let nth = |car: u32| (f64::from(car) * share + phase).floor();
        let mut noise = Noise::new(seed ^ 0xfa17, car);
        let after = if share >= 1.0 { f64::from(car) + 1.0 } else { nth(car + 1) };
        let ill = share >= 1.0 || after > nth(car);
        ill.then(|| Self {
            kind: FaultKind::ALL[after as usize % 4],
            onset: noise.uniform(plan.onset.start as f64, plan.onset.end.max(plan.onset.start + 1) as f64) as u64,
            ramp: plan.ramp.max(1),
            tyre: noise.uniform(0.0, 4.0) as usize % 4,
        })
    }

    /// How far the fault has developed at this tick, 0..=1 of its severity.
    pub(crate) fn level(&self, tick: u64) -> f64 {
        (tick.saturating_sub(self.onset) as f64 / self.ramp as f64).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n_ill(share: f64, n_cars: u32) -> usize {
        let plan = FaultPlan { share, ..FaultPlan::default() };
        (0..n_cars).filter(|car| Fault::of_car(&plan, 3, *car).is_some()).count()
    }

    #[test]
    fn the_share_is_exact_and_kinds_take_turns() {
        assert_eq!(n_ill(0.05, 1_000), 50);
        assert_eq!(n_ill(0.0, 1_000), 0);
        assert_eq!(n_ill(1.0, 1_000), 1_000);
        let plan = FaultPlan { share: 0.1, ..FaultPlan::default() };
        for kind in FaultKind::ALL {
            let n =
                (0..400).filter(|car| Fault::of_car(&plan, 3, *car).is_some_and(|fault| fault.kind == kind)).count();
            assert_eq!(n, 10, "{kind}");
        }
    }

    #[test]
    fn a_fault_grows_then_stays() {
        let fault = Fault { kind: FaultKind::TyreLeak, onset: 10, ramp: 4, tyre: 0 };
        let levels: Vec<f64> = [0, 10, 11, 12, 14, 1_000].map(|tick| fault.level(tick)).to_vec();
        assert_eq!(levels, [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn names_read_back_and_a_wrong_one_is_answered_with_the_known() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let error = "tire-leak".parse::<FaultKind>().unwrap_err();
        assert!(error.contains("tyre-leak"), "{error}");
    }
}
