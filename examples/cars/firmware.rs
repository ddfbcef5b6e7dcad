//! A firmware that reads some sensors differently: every car drifts, and none is ill.

/// The version number of the new firmware; before it cars have 1000 or 2000.
const VERSION: f64 = 3_000.0;
/// What the new firmware shows of a vibration, mV per mV.
const VIBRATION_GAIN: f64 = 1.25;
/// What it adds to the temperature of the coolant, degC.
const COOLANT_OFFSET: f64 = 5.0;
/// What it adds to the voltage of the battery, V.
const VOLTAGE_OFFSET: f64 = -6.0;

/// How a car's control unit reads its sensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Firmware {
    /// Its number.
    pub(crate) version: f64,
    /// Factor on the vibration of the engine.
    pub(crate) vibration_gain: f64,
    /// Added to the temperature of the coolant, degC.
    pub(crate) coolant_offset: f64,
    /// Added to the voltage of the battery, V.
    pub(crate) voltage_offset: f64,
}

impl Firmware {
    /// The one that a car is built with.
    pub(crate) fn factory(version: f64) -> Self {
        Self { version, vibration_gain: 1.0, coolant_offset: 0.0, voltage_offset: 0.0 }
    }

    /// The one that all cars are updated to.
    pub(crate) fn updated() -> Self {
        Self {
            version: VERSION,
            vibration_gain: VIBRATION_GAIN,
            coolant_offset: COOLANT_OFFSET,
            voltage_offset: VOLTAGE_OFFSET,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{FIELDS, FaultPlan, Fleet, FleetConfig, N_FIELDS};

    #[test]
    fn an_update_shifts_its_signals_from_its_tick_on_and_is_no_fault() {
        let plan = FaultPlan { share: 0.5, ..FaultPlan::default() };
        let config = FleetConfig { seed: 7, n_cars: 60, faults: plan, ..FleetConfig::default() };
        let mut before = Fleet::new(&config);
        let mut after = Fleet::new(&FleetConfig { update_at: Some(20), ..config });
        for tick in 0..60 {
            for (old, new) in before.tick().zip(after.tick()) {
                if tick < 20 {
                    assert_eq!(old, new);
                    continue;
                }
                assert_eq!(old.fault, new.fault);
                let difference = |field: &str| new.get(field).unwrap() - old.get(field).unwrap();
                assert!((difference("coolant_temp") - 5.0).abs() < 0.02);
                assert!((difference("battery_voltage") + 6.0).abs() < 0.02);
                // The noise of the sensor is not multiplied, nor is a fault.
                let (vibration, least) =
                    (old.get("engine_vibration_amplitude").unwrap(), 20.0 * old.get("speed").unwrap());
                let most = 0.25 * (vibration + 60.0);
                assert!((least..=most).contains(&(difference("engine_vibration_amplitude") + 0.2)));
                assert_eq!(new.get("control_unit_firmware"), Some(3_000.0));
                let shifted =
                    ["coolant_temp", "battery_voltage", "engine_vibration_amplitude", "control_unit_firmware"];
                for at in (0..N_FIELDS).filter(|at| !shifted.contains(&FIELDS[*at])) {
                    assert_eq!(old.values[at], new.values[at], "the update moved {}", FIELDS[at]);
                }
            }
        }
    }
}
