//! One car: what it remembers from second to second, and what its sensors read.

use crate::{
    FleetConfig,
    drive::Drive,
    fault::{Fault, FaultKind},
    firmware::Firmware,
    noise::Noise,
    reading::{N_FIELDS, Reading},
    vehicle::Vehicle,
};

/// Where the thermostat holds a warm engine, degC.
const THERMOSTAT: f64 = 88.0;
/// A coolant this warm has opened the thermostat: an overheating engine is hotter from here on, degC.
const WARM: f64 = 80.0;
/// Share of the tractive power that comes from the battery; the engine gives the rest.
const BATTERY_SHARE: f64 = 0.4;

/// A seeded car: an endless iterator over its own readings, one per tick.
#[derive(Clone, Debug)]
pub struct Car {
    index: u32,
    tick: u64,
    start_time: u64,
    seconds_per_tick: u32,
    update_at: Option<u64>,
    noise: Noise,
    vehicle: Vehicle,
    drive: Drive,
    fault: Option<Fault>,
    /// Charge, 0..=1.
    charge: f64,
    /// Current out of the battery, A.
    current: f64,
    /// Throttle, 0..=1.
    throttle: f64,
    /// Temperatures, degC: outside, coolant of a healthy engine, air in the tyres.
    ambient: f64,
    coolant: f64,
    tyre_air: f64,
}

impl Car {
    /// The car with this index as it is before its first tick.
    pub fn new(config: &FleetConfig, index: u32) -> Self {
        let mut noise = Noise::new(config.seed, index);
        let vehicle = Vehicle::new(&mut noise);
        let drive = Drive::new(&vehicle, &mut noise);
        let ambient = noise.uniform(12.0, 32.0);
        let coolant =
            if noise.chance(0.85) { THERMOSTAT + noise.uniform(-1.0, 4.0) } else { noise.uniform(ambient, THERMOSTAT) };
        let charge = noise.uniform(0.15, 0.95);
        let tyre_air = ambient + noise.uniform(0.0, 12.0);
        Self {
            index,
            tick: 0,
            start_time: config.start_time,
            seconds_per_tick: config.seconds_per_tick.max(1),
            update_at: config.update_at,
            noise,
            vehicle,
            drive,
            fault: Fault::of_car(&config.faults, config.seed, index),
            charge,
            current: 0.0,
            throttle: 0.0,
            ambient,
            coolant,
            tyre_air,
        }
    }

    /// The car's index in its fleet.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The fault that this car has or will get, and the tick from which it is fully developed.
    pub fn fate(&self) -> Option<(FaultKind, u64)> {
        self.fault.map(|fault| (fault.kind, fault.onset + fault.ramp))
    }

    /// Drives one tick and reads the sensors.
    pub fn tick(&mut self) -> Reading {
        for _ in 0..self.seconds_per_tick {
            self.step();
        }
        let (values, fault) = self.measure();
        let time = self.start_time + self.tick * u64::from(self.seconds_per_tick);
        let reading = Reading { car: self.index, tick: self.tick, time, values, fault };
        self.tick += 1;
        reading
    }

    /// One second of physics; the fault has no part in it, so that it offsets a signal by exactly its severity.
    fn step(&mut self) {
        let vehicle = &self.vehicle;
        self.drive.step(vehicle, self.charge, &mut self.noise);
        let (v, a) = (self.drive.speed, self.drive.acceleration);

        // Newton: inertia, grade, rolling and air resistance; at rest the brakes hold the car.
        let resistance = vehicle.mass * 9.81 * (self.drive.grade + 0.011) + vehicle.drag * v * v;
        let force = if v > 0.0 { vehicle.mass * a + resistance } else { 0.0 };
        let available = vehicle.force_max.min(vehicle.power_max / v.max(1.0));
        self.throttle = (force / available).clamp(0.0, 1.0);

        let auxiliaries = 1.0 + 0.15 * (self.ambient - 20.0).abs();
        let volts = self.open_circuit();
        self.current = if self.drive.is_charging() {
            -30.0 * ((1.0 - self.charge) / 0.2).clamp(0.2, 1.0)
        } else if force >= 0.0 {
            auxiliaries + BATTERY_SHARE * self.throttle * available * v / (0.9 * volts)
        } else {
            // Braking gives a third back; the rest is heat.
            auxiliaries + (0.33 * force * v / volts).max(-60.0)
        };
        self.charge = (self.charge - self.current / vehicle.capacity).clamp(0.0, 1.0);

        self.ambient = (self.ambient + self.noise.normal(0.01)).clamp(10.0, 34.0);
        let load = self.throttle * available * v / vehicle.power_max;
        let (towards, seconds) = if self.drive.is_charging() {
            (self.ambient, 900.0)
        } else if self.coolant < THERMOSTAT - 2.0 {
            (THERMOSTAT + 15.0, 260.0)
        } else {
            (THERMOSTAT + 8.0 * load + 0.1 * (self.ambient - 20.0), 30.0)
        };
        self.coolant += (towards - self.coolant) / seconds;
        self.tyre_air += (self.ambient + 14.0 * (v / 35.0).min(1.0) - self.tyre_air) / 600.0;
    }

    /// The pack's voltage without load: nearly straight, with the steep end of an empty lithium cell.
    fn open_circuit(&self) -> f64 {
        210.0 + 40.0 * self.charge + 8.0 * (1.0 - (-10.0 * self.charge).exp())
    }

    /// The sensors' values now, and the fault if it shows in them.
    fn measure(&mut self) -> ([f32; N_FIELDS], Option<FaultKind>) {
        let level = self.fault.map_or(0.0, |fault| fault.level(self.tick));
        let shows = self.fault.is_some_and(|fault| self.can_show(fault.kind));
        let offset = |kind: FaultKind| match self.fault {
            Some(fault) if fault.kind == kind && shows => level * kind.severity(),
            _ => 0.0,
        };
        let (v, a) = (self.drive.speed, self.drive.acceleration);
        let running = !self.drive.is_charging();
        let firmware = match self.update_at {
            Some(tick) if self.tick >= tick => Firmware::updated(),
            _ => Firmware::factory(self.vehicle.firmware),
        };
        let vibration = if running { 60.0 + self.vehicle.vibration_mv_per_mps * v } else { 0.0 };
        let (idle_flow, full_flow) = self.vehicle.air_flow;
        let density = 293.0 / (273.0 + self.ambient);
        let flow =
            if running { (idle_flow + (full_flow - idle_flow) * self.throttle.powf(0.8)) * density } else { 0.0 };
        let bay = 6.0 * ((self.coolant - self.ambient) / 70.0).clamp(0.0, 1.0) * (-v / 10.0).exp();
        let road = self.drive.roughness * (0.05 + 0.06 * v);
        let volts = self.open_circuit() - self.current * self.vehicle.resistance;
        let tyre = |psi: f64| (psi + 14.7) * (273.0 + self.tyre_air) / 293.0 - 14.7;
        let leaking = |at: usize| match self.fault {
            Some(fault) if fault.tyre == at => offset(FaultKind::TyreLeak),
            _ => 0.0,
        };
        let tyres: [f64; 4] = std::array::from_fn(|at| tyre(self.vehicle.tyre_psi[at]) - leaking(at));
        let (vibration, coolant, volts) = (
            firmware.vibration_gain * vibration + offset(FaultKind::EngineVibration),
            self.coolant + firmware.coolant_offset + offset(FaultKind::CoolantOverheating),
            volts + firmware.voltage_offset - offset(FaultKind::BatterySag),
        );

        let noise = &mut self.noise;
        let mut accelerometer = |share: f64| {
            let shaken = share * a.abs() + road * (1.0 + noise.normal(0.06)) + noise.normal(0.03);
            rounded(shaken.clamp(0.0, 7.0), 1e3)
        };
        // Weight moves to the front when braking and to the back when accelerating.
        let (front, back) = if a < 0.0 { (1.1, 0.9) } else { (0.9, 1.1) };
        let shaken = [accelerometer(front), accelerometer(front), accelerometer(back), accelerometer(back)];
        let values = [
            rounded(coolant + noise.normal(0.3), 1e2),
            rounded(self.ambient + bay + noise.normal(0.2), 1e2),
            rounded((flow * (1.0 + noise.normal(0.01)) + noise.normal(0.3)).max(0.0), 1e2),
            rounded((self.charge * 100.0 + noise.normal(0.1)).clamp(0.0, 100.0), 1e2),
            rounded(volts + noise.normal(0.3), 1e2),
            rounded(self.current + noise.normal(0.2), 1e2),
            rounded((v + if v > 0.0 { noise.normal(0.05) } else { 0.0 }).max(0.0), 1e3),
            rounded((vibration * (1.0 + noise.normal(0.015)) + noise.normal(10.0)).max(0.0), 1e1),
            rounded((self.throttle + noise.normal(0.004)).clamp(0.0, 1.0), 1e4),
            rounded(tyres[0] + noise.normal(0.1), 1.0),
            rounded(tyres[1] + noise.normal(0.1), 1.0),
            rounded(tyres[2] + noise.normal(0.1), 1.0),
            rounded(tyres[3] + noise.normal(0.1), 1.0),
            shaken[0],
            shaken[1],
            shaken[2],
            shaken[3],
            firmware.version as f32,
        ];
        let developed = self.fault.filter(|_| shows && level >= 1.0).map(|fault| fault.kind);
        (values, developed)
    }

    /// Whether the car's state lets this fault be measured at all: no engine shakes when off, no cold engine overheats.
    fn can_show(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::EngineVibration => !self.drive.is_charging(),
            FaultKind::CoolantOverheating => self.coolant >= WARM,
            FaultKind::TyreLeak | FaultKind::BatterySag => true,
        }
    }
}

impl Iterator for Car {
    type Item = Reading;

    /// The next reading; a car never stops, so this is never `None`.
    fn next(&mut self) -> Option<Reading> {
        Some(self.tick())
    }
}

/// A sensor has a finite resolution, and short numbers make short payloads.
fn rounded(value: f64, steps: f64) -> f32 {
    ((value * steps).round() / steps) as f32
}
