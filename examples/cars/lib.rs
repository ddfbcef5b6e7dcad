//! Seeded cars whose eighteen sensors agree with each other, and four faults that make one of them disagree.
//!
//! A [`Fleet`] drives its [`Car`]s one tick at a time; every tick of a car gives one [`Reading`], the record that the cars of
//! the reference scenario publish, with the ground truth beside it. [`json`], [`avro`] and [`csv`] turn a reading into bytes.
//! A reading depends on the seed, the car's index and the tick only: not on how many cars run, nor on who asks first.
//!
//! ```
//! use cars::{FaultPlan, Fleet, FleetConfig, json};
//!
//! let mut fleet = Fleet::new(&FleetConfig { n_cars: 3, faults: FaultPlan::default(), ..FleetConfig::default() });
//! let mut payload = Vec::new();
//! for reading in fleet.tick() {
//!     payload.clear();
//!     json::write(&reading, &mut payload);
//!     assert!(cars::topic(reading.car).starts_with("vehicles/sensor/data/electric-vehicle-0000"));
//! }
//! ```
//!
//! # Physics
//! One step is one second. `v` is speed (m/s), `a` acceleration (m/s2), `SOC` the charge 0..1; see the module that holds each.
//!
//! | signal | equation | file |
//! | --- | --- | --- |
//! | speed | trips of idling, city and highway legs, braking; `v += a` | `drive.rs` |
//! | throttle | tractive force / force available at this speed | `car.rs` |
//! | current | battery's share of the power / pack voltage + auxiliaries; negative while braking or charging | `car.rs` |
//! | charge | `SOC -= I dt / capacity`; below 12 % the car stops and charges to 90 % | `car.rs` |
//! | voltage | open-circuit curve of `SOC` - `I R` | `car.rs` |
//! | vibration | (100 or 150) mV per m/s, plus idling | `car.rs` |
//! | coolant | first order towards thermostat + load, or ambient when the engine is off | `car.rs` |
//! | intake air | ambient + engine bay heat; flow from throttle, displacement and air density | `car.rs` |
//! | tyres | ideal gas between 20 degC and the tyre's temperature, whole psi | `car.rs` |
//! | accelerometers | `abs(a)` + road roughness that grows with speed | `car.rs` |

#![forbid(unsafe_code)]

pub mod avro;
mod car;
pub mod chain;
pub mod csv;
#[cfg(test)]
mod default_network;
pub mod demo;
mod drive;
mod fault;
mod firmware;
mod fleet;
pub mod json;
pub mod mqtt;
mod noise;
pub mod process;
mod reading;
pub mod simulate;
mod vehicle;

pub use car::Car;
pub use fault::{FaultKind, FaultPlan};
pub use fleet::{Fleet, FleetConfig};
pub use reading::{FIELDS, N_FIELDS, Reading, car_name, is_int, topic};
