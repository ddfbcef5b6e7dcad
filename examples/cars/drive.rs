//! How a car is driven: legs of idling, city and highway driving, chosen by the car's own draws.

use crate::{noise::Noise, vehicle::Vehicle};

/// What the driver does for the next seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leg {
    /// Standing with the engine running.
    Idle,
    /// Towards a speed (m/s), then keeping it about there.
    Drive(f64),
    /// Parked at a charger with the engine off.
    Charge,
}

/// The driver of one car: decides the acceleration of the next second.
#[derive(Clone, Debug)]
pub(crate) struct Drive {
    leg: Leg,
    /// Seconds left in this leg.
    left: f64,
    /// Acceleration now, m/s2.
    pub(crate) acceleration: f64,
    /// Road grade as a slope, slowly wandering.
    pub(crate) grade: f64,
    /// Roughness of the road, 0.2 (new) .. 1.6 (cobbles), slowly wandering.
    pub(crate) roughness: f64,
    /// Speed, m/s.
    pub(crate) speed: f64,
}

impl Drive {
    /// A car in the middle of some leg.
    pub(crate) fn new(vehicle: &Vehicle, noise: &mut Noise) -> Self {
        let mut drive = Self {
            leg: Leg::Idle,
            left: 0.0,
            acceleration: 0.0,
            grade: 0.0,
            roughness: noise.uniform(0.3, 1.2),
            speed: 0.0,
        };
        if noise.chance(0.8) {
            drive.next_leg(vehicle, noise);
            if let Leg::Drive(target) = drive.leg {
                drive.speed = target * noise.uniform(0.4, 1.0);
            }
        } else {
            drive.left = noise.uniform(2.0, 25.0);
        }
        drive
    }

    /// Whether the car is parked at a charger; its engine is off then.
    pub(crate) fn is_charging(&self) -> bool {
        self.leg == Leg::Charge
    }

    /// Drives one second. A car at or below 12 % charge goes to a charger, and leaves it at 90 %.
    pub(crate) fn step(&mut self, vehicle: &Vehicle, charge: f64, noise: &mut Noise) {
        self.left -= 1.0;
        match self.leg {
            Leg::Charge if charge >= 0.9 => self.begin(Leg::Idle, noise.uniform(5.0, 20.0)),
            Leg::Charge => {}
            _ if self.speed == 0.0 && charge <= 0.12 => self.begin(Leg::Charge, 0.0),
            _ if self.left <= 0.0 || (charge <= 0.12 && self.leg != Leg::Idle) => self.next_leg(vehicle, noise),
            _ => {}
        }
        let wanted = match self.leg {
            Leg::Idle | Leg::Charge => 0.0,
            Leg::Drive(_) if charge <= 0.12 => 0.0,
            Leg::Drive(target) => target,
        };
        let gap = wanted - self.speed;
        // Drivers ease into the speed that they want; the engine cannot do more than its class can.
        let strongest = vehicle.vigour * (1.0 - 0.4 * (self.speed / 40.0).min(1.0));
        let aim = (gap * 0.25).clamp(-1.6 * vehicle.vigour, strongest)
            + if self.speed > 3.0 { noise.normal(0.12) } else { 0.0 };
        self.acceleration += (aim - self.acceleration) * 0.6;
        let before = self.speed;
        self.speed = (self.speed + self.acceleration).clamp(0.0, 42.0);
        if wanted == 0.0 && self.speed < 0.6 {
            self.speed = 0.0;
        }
        self.acceleration = self.speed - before;
        if self.speed > 0.0 {
            self.grade = (self.grade * 0.98 + noise.normal(0.003)).clamp(-0.06, 0.06);
            self.roughness = (self.roughness + noise.normal(0.04) + (0.7 - self.roughness) * 0.01).clamp(0.2, 1.6);
        }
    }

    fn begin(&mut self, leg: Leg, seconds: f64) {
        self.leg = leg;
        self.left = seconds;
    }

    fn next_leg(&mut self, vehicle: &Vehicle, noise: &mut Noise) {
        let driving = matches!(self.leg, Leg::Drive(_));
        if driving && noise.chance(0.45) {
            self.begin(Leg::Idle, noise.uniform(12.0, 45.0));
        } else if noise.chance(vehicle.highway) {
            self.begin(Leg::Drive(noise.uniform(22.0, 37.0)), noise.uniform(60.0, 240.0));
        } else {
            self.begin(Leg::Drive(noise.uniform(6.0, 17.0)), noise.uniform(20.0, 90.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_has_idling_city_and_highway() {
        let (mut idle, mut city, mut highway) = (0, 0, 0);
        for car in 0..20 {
            let mut noise = Noise::new(11, car);
            let vehicle = Vehicle::new(&mut noise);
            let mut drive = Drive::new(&vehicle, &mut noise);
            for _ in 0..3_600 {
                drive.step(&vehicle, 0.5, &mut noise);
                assert!((0.0..=42.0).contains(&drive.speed) && drive.acceleration.abs() < 5.0, "{drive:?}");
                match drive.speed {
                    v if v < 0.1 => idle += 1,
                    v if v < 18.0 => city += 1,
                    _ => highway += 1,
                }
            }
        }
        assert!(idle > 3_600 && city > 3_600 && highway > 3_600, "{idle} {city} {highway}");
    }

    #[test]
    fn an_empty_car_stops_to_charge_and_leaves_full() {
        let mut noise = Noise::new(2, 1);
        let vehicle = Vehicle::new(&mut noise);
        let mut drive = Drive::new(&vehicle, &mut noise);
        for _ in 0..120 {
            drive.step(&vehicle, 0.1, &mut noise);
        }
        assert!(drive.is_charging() && drive.speed == 0.0, "{drive:?}");
        drive.step(&vehicle, 0.91, &mut noise);
        assert!(!drive.is_charging());
    }
}
