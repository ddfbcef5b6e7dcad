//! Teaches: a load of many devices, one MQTT connection each, as in the reference scenario of 100,000 connected cars.
//!
//! ```sh
//! cargo run --release -p iotml-examples --bin car_simulator -- mqtt --server 127.0.0.1:1883 --cars 1000
//! cargo run --release -p iotml-examples --bin car_simulator -- mqtt --server 127.0.0.1:1883 --scenario full
//! cargo run --release -p iotml-examples --bin car_simulator -- csv --cars 100 --ticks 500 --seed 7 --out cars.csv
//! cargo run --release -p iotml-examples --bin car_simulator -- avro --cars 100 --ticks 500 --out cars.avro
//! ```
//!
//! Where to read on: `cars/mqtt.rs` publishes and remembers what was acknowledged, `cars/simulate/` is the program around it.

use std::process::ExitCode;

use cars::simulate;
use clap::Parser;
use iotml_core::error::report;

fn main() -> ExitCode {
    match simulate::run(&simulate::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("car_simulator: {}", report(&*error));
            ExitCode::FAILURE
        }
    }
}
