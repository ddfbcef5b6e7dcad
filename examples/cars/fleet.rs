//! Many cars under one seed.

use crate::{Car, FaultPlan, Reading};

/// What makes a fleet; two fleets of equal configuration give equal readings.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetConfig {
    /// Seed of every draw.
    pub seed: u64,
    /// How many cars; the readings of car 7 are the same in a fleet of 10 and of 100,000.
    pub n_cars: u32,
    /// Which cars fall ill.
    pub faults: FaultPlan,
    /// Simulated seconds between two readings, at least 1; the reference scenario has 10.
    pub seconds_per_tick: u32,
    /// Event time of the first reading, seconds since 1970.
    pub start_time: u64,
    /// The reading from which on all cars have a new firmware, which shifts some sensors and is no fault; `None` for never.
    pub update_at: Option<u64>,
}

impl Default for FleetConfig {
    /// 1,000 cars of seed 1, one reading per simulated second, the default faults, never updated.
    fn default() -> Self {
        Self {
            seed: 1,
            n_cars: 1_000,
            faults: FaultPlan::default(),
            seconds_per_tick: 1,
            start_time: 1_767_225_600,
            update_at: None,
        }
    }
}

/// All cars of one configuration. Either [tick](Fleet::tick) them together, or [take them apart](Fleet::into_cars) and let each
/// run as its own stream: the readings are the same.
#[derive(Clone, Debug)]
pub struct Fleet {
    cars: Vec<Car>,
}

impl Fleet {
    /// The fleet before its first tick.
    pub fn new(config: &FleetConfig) -> Self {
        Self { cars: (0..config.n_cars).map(|index| Car::new(config, index)).collect() }
    }

    /// Drives every car one tick: one reading per car, in the order of their indices, made as the iterator advances.
    /// A car that the caller does not reach before dropping the iterator does not advance.
    pub fn tick(&mut self) -> impl ExactSizeIterator<Item = Reading> + '_ {
        self.cars.iter_mut().map(Car::tick)
    }

    /// The cars, in the order of their indices.
    pub fn cars(&self) -> &[Car] {
        &self.cars
    }

    /// The cars as streams of their own, each an endless iterator.
    pub fn into_cars(self) -> Vec<Car> {
        self.cars
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FIELDS, FaultKind, N_FIELDS};

    fn fleet(n_cars: u32, faults: FaultPlan) -> Fleet {
        Fleet::new(&FleetConfig { seed: 42, n_cars, faults, ..FleetConfig::default() })
    }

    #[test]
    fn a_reading_depends_on_seed_car_and_tick_only() {
        let mut small = fleet(8, FaultPlan::default());
        let mut large = fleet(50, FaultPlan::default());
        let mut alone = Car::new(&FleetConfig { seed: 42, n_cars: 1, ..FleetConfig::default() }, 5);
        for _ in 0..60 {
            let few: Vec<Reading> = small.tick().collect();
            let many: Vec<Reading> = large.tick().collect();
            assert_eq!(few[..], many[..8]);
            assert_eq!(alone.next(), Some(many[5]));
        }
        let mut other = Fleet::new(&FleetConfig { seed: 43, n_cars: 8, ..FleetConfig::default() });
        assert_ne!(other.tick().collect::<Vec<_>>(), small.tick().collect::<Vec<_>>());
    }

    #[test]
    fn a_longer_tick_is_the_same_physics_read_less_often() {
        let config = FleetConfig { seed: 9, seconds_per_tick: 10, ..FleetConfig::default() };
        let mut car = Car::new(&config, 0);
        let (first, second) = (car.tick(), car.tick());
        assert_eq!((first.tick, second.tick), (0, 1));
        assert_eq!(second.time - first.time, 10);
    }

    #[test]
    fn healthy_values_stay_in_their_ranges() {
        // Order of FIELDS; what a plausibility filter in front of a model would accept.
        let ranges: [(f32, f32); N_FIELDS] = [
            (10.0, 102.0),
            (9.0, 41.0),
            (0.0, 205.0),
            (0.0, 100.0),
            (195.0, 262.0),
            (-61.0, 220.0),
            (0.0, 43.0),
            (0.0, 6_900.0),
            (0.0, 1.0),
            (24.0, 36.0),
            (24.0, 36.0),
            (24.0, 36.0),
            (24.0, 36.0),
            (0.0, 7.0),
            (0.0, 7.0),
            (0.0, 7.0),
            (0.0, 7.0),
            (1_000.0, 2_000.0),
        ];
        let config = FleetConfig {
            seed: 4,
            n_cars: 200,
            faults: FaultPlan::NONE,
            seconds_per_tick: 10,
            ..FleetConfig::default()
        };
        let mut fleet = Fleet::new(&config);
        let mut seen = [(f32::MAX, f32::MIN); N_FIELDS];
        for _ in 0..500 {
            for reading in fleet.tick() {
                assert_eq!(reading.fault, None);
                for (at, value) in reading.values.into_iter().enumerate() {
                    let (low, high) = ranges[at];
                    assert!((low..=high).contains(&value), "{} = {value} in {reading:?}", FIELDS[at]);
                    seen[at] = (seen[at].0.min(value), seen[at].1.max(value));
                }
            }
        }
        for (at, (low, high)) in seen.into_iter().enumerate() {
            let width = ranges[at].1 - ranges[at].0;
            assert!(high - low > 0.3 * width, "{} only spans {low}..{high}", FIELDS[at]);
        }
    }

    #[test]
    fn vibration_follows_speed_with_one_of_two_factors() {
        let mut factors = [0, 0];
        for reading in fleet(300, FaultPlan::NONE).tick().filter(|reading| reading.values[6] > 10.0) {
            let factor = (reading.values[7] - 60.0) / reading.values[6];
            match factor {
                90.0..110.0 => factors[0] += 1,
                135.0..165.0 => factors[1] += 1,
                _ => panic!("{factor} mV per m/s: {reading:?}"),
            }
        }
        assert!(factors[0] > 20 && factors[1] > 20, "{factors:?}");
    }

    #[test]
    fn charge_falls_while_driving_and_rises_at_a_charger() {
        let config =
            FleetConfig { seed: 6, n_cars: 1, faults: FaultPlan::NONE, seconds_per_tick: 60, ..FleetConfig::default() };
        let charges: Vec<f32> = Car::new(&config, 0).take(600).map(|reading| reading.values[3]).collect();
        let n_falling = charges.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(n_falling > 100, "{n_falling}");
        assert!(charges.iter().any(|charge| *charge < 15.0) && charges.iter().any(|charge| *charge > 88.0));
    }

    /// A sick fleet and the same fleet in health differ in the intended signal of the sick cars, by the severity, and nowhere else.
    #[test]
    fn a_fault_moves_its_own_signal_by_its_severity_and_no_other() {
        let plan = FaultPlan { share: 1.0, onset: 10..20, ramp: 5 };
        let (mut sick, mut healthy) = (fleet(80, plan), fleet(80, FaultPlan::NONE));
        let fates: Vec<_> = sick.cars().iter().map(|car| car.fate().unwrap()).collect();
        let mut n_faults = [0; 4];
        for tick in 0..60 {
            let pairs: Vec<(Reading, Reading)> = sick.tick().zip(healthy.tick()).collect();
            for (ill, well) in pairs {
                let (kind, developed) = fates[ill.car as usize];
                let (signals, sign, tolerance): (&[usize], f32, f32) = match kind {
                    FaultKind::EngineVibration => (&[7], 1.0, 55.0),
                    FaultKind::TyreLeak => (&[9, 10, 11, 12], -1.0, 1.0),
                    FaultKind::CoolantOverheating => (&[0], 1.0, 0.1),
                    FaultKind::BatterySag => (&[4], -1.0, 0.1),
                };
                let offset: f32 = signals.iter().map(|at| ill.values[*at] - well.values[*at]).sum();
                for at in (0..N_FIELDS).filter(|at| !signals.contains(at)) {
                    assert_eq!(ill.values[at], well.values[at], "{kind} moved {}", FIELDS[at]);
                }
                if tick < 10 {
                    assert_eq!((ill.values, ill.fault), (well.values, None));
                }
                if ill.fault.is_some() {
                    assert!(tick >= developed && ill.fault == Some(kind));
                    assert!((offset * sign - kind.severity() as f32).abs() <= tolerance, "{kind} is off by {offset}");
                    n_faults[kind as usize] += 1;
                } else {
                    assert!(tick < developed || offset == 0.0, "{kind} shows unlabelled at {tick}");
                }
            }
        }
        assert!(n_faults.iter().all(|n| *n > 300), "{n_faults:?}");
    }
}
