//! Teaches: the whole chain in one process. A thousand cars publish over MQTT, a lossless bridge writes Avro to Kafka, a
//! pipeline scores every record with a TensorFlow-trained model and writes predictions to Kafka, and cars with an anomaly get
//! an alert back over MQTT. At the end every single message is accounted for.
//!
//! ```sh
//! cargo run --release -p iotml-examples --bin quickstart
//! cargo run --release -p iotml-examples --bin quickstart -- --cars 5000 --rate 2 --seconds 60
//! cargo run --release -p iotml-examples --bin quickstart -- --kafka 127.0.0.1:9092 --mqtt 127.0.0.1:1883
//! ```
//!
//! Where to read on: `cars/chain/setting.rs` has the configurations of the three pipelines (`--show-config` prints them),
//! `cars/chain/running.rs` starts them, `cars/demo/` is what happens around them.

use std::process::ExitCode;

use cars::demo;
use clap::Parser;
use iotml_core::error::report;

fn main() -> ExitCode {
    match demo::run(&demo::Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {}", report(&*error));
            ExitCode::FAILURE
        }
    }
}
