//! One reading of one car: eighteen sensor values in schema order, and the truth about them.

use crate::FaultKind;

/// How many sensor values a reading has.
pub const N_FIELDS: usize = 18;

/// The sensor names, in the order of the Avro schema and of [`Reading::values`].
///
/// Units: temperatures degC, air flow g/s, battery percent 0..100 and V, current A (positive leaves the battery), speed m/s,
/// vibration mV, throttle 0..1, tyre pressures psi, accelerometers m/s2, firmware version.
pub const FIELDS: [&str; N_FIELDS] = [
    "coolant_temp",
    "intake_air_temp",
    "intake_air_flow_speed",
    "battery_percentage",
    "battery_voltage",
    "current_draw",
    "speed",
    "engine_vibration_amplitude",
    "throttle_pos",
    "tire_pressure_1_1",
    "tire_pressure_1_2",
    "tire_pressure_2_1",
    "tire_pressure_2_2",
    "accelerometer_1_1_value",
    "accelerometer_1_2_value",
    "accelerometer_2_1_value",
    "accelerometer_2_2_value",
    "control_unit_firmware",
];

/// Whether the value at `field` (an index into [`FIELDS`]) is an `int` of the schema: the tyre pressures and the firmware.
pub const fn is_int(field: usize) -> bool {
    matches!(field, 9..=12 | 17)
}

/// What one car measured at one tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Index of the car in its fleet.
    pub car: u32,
    /// How many readings this car gave before this one: a dense sequence number from 0.
    pub tick: u64,
    /// Event time, seconds since 1970.
    pub time: u64,
    /// The sensor values in the order of [`FIELDS`], in their units; integers where [`is_int`] says so.
    pub values: [f32; N_FIELDS],
    /// Ground truth: the fault that shows in this very row with at least its stated severity.
    pub fault: Option<FaultKind>,
}

impl Reading {
    /// The value of the schema's `failure_occurred`: `"true"` or `"false"`.
    pub fn failure_occurred(&self) -> &'static str {
        if self.fault.is_some() { "true" } else { "false" }
    }

    /// The value of the sensor with this name, `None` for a name that is not in [`FIELDS`].
    pub fn get(&self, field: &str) -> Option<f32> {
        FIELDS.iter().position(|name| *name == field).map(|at| self.values[at])
    }
}

/// The name of the car with this index: `electric-vehicle-00000` and so on; also its MQTT client id and its Kafka key.
pub fn car_name(car: u32) -> String {
    format!("electric-vehicle-{car:05}")
}

/// The MQTT topic that the car with this index publishes to.
pub fn topic(car: u32) -> String {
    format!("vehicles/sensor/data/electric-vehicle-{car:05}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_topics_are_those_of_the_reference_scenario() {
        assert_eq!(car_name(7), "electric-vehicle-00007");
        assert_eq!(car_name(123_456), "electric-vehicle-123456");
        assert_eq!(topic(99_999), "vehicles/sensor/data/electric-vehicle-99999");
    }

    #[test]
    fn ints_are_the_tyres_and_the_firmware() {
        let ints: Vec<&str> = (0..N_FIELDS).filter(|at| is_int(*at)).map(|at| FIELDS[at]).collect();
        let expected = ["tire_pressure_1_1", "tire_pressure_1_2", "tire_pressure_2_1", "tire_pressure_2_2"];
        assert_eq!(ints[..4], expected);
        assert_eq!(ints[4..], ["control_unit_firmware"]);
    }
}
