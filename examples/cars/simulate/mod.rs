//! The simulator as a program: cars that publish over MQTT, or files of their readings.

mod files;
mod load;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::process::{Failure, Stop};
use crate::{FaultPlan, Fleet, FleetConfig};

/// What the simulator is asked to do.
#[derive(Clone, Debug, Parser)]
#[command(about = "Simulates connected cars: eighteen sensors each, some with a developing fault")]
pub struct Arguments {
    #[command(subcommand)]
    output: Output,
}

#[derive(Clone, Debug, Subcommand)]
enum Output {
    /// Publish over MQTT 5, one connection per car.
    Mqtt(Mqtt),
    /// Write a CSV file: time, car, the 18 sensors, failure_occurred.
    Csv(ToFile),
    /// Write an Avro object container file of CarData records with failure_occurred.
    Avro(ToFile),
}

/// Simulates until everything is published or written, or Ctrl-C. Progress goes to stderr, the result to stdout.
///
/// Errs with what to do where the broker or the file cannot be used, and if messages were never acknowledged.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    run_until(arguments, &Stop::at_interrupt()?)
}

/// As [`run`], until everything is done or `stop` is asked for; signals are left alone.
pub fn run_until(arguments: &Arguments, stop: &Stop) -> Result<(), Failure> {
    match &arguments.output {
        Output::Mqtt(mqtt) => load::publish_all(mqtt, stop),
        Output::Csv(file) => files::write_csv(file, stop),
        Output::Avro(file) => files::write_avro(file, stop),
    }
}

#[derive(Clone, Debug, Args)]
struct FleetArguments {
    /// Number of cars.
    #[arg(long, default_value_t = 100)]
    cars: u32,
    /// Seed of every draw; equal seeds give equal cars.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Share of the cars that get a fault, 0 to 1.
    #[arg(long, default_value_t = FaultPlan::default().share)]
    fault_share: f64,
    /// Earliest reading at which a fault begins.
    #[arg(long, default_value_t = FaultPlan::default().onset.start)]
    onset: u64,
    /// Simulated seconds between two readings of a car; 10 in the reference scenario.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600))]
    tick_seconds: u32,
    /// Readings of each car that come before the first that is heard of.
    #[arg(long, default_value_t = 0)]
    skip: u64,
    /// Reading, those skipped included, from which on all cars have a new firmware, which shifts some sensors and is no fault.
    #[arg(long, value_name = "READING")]
    update_at: Option<u64>,
}

impl FleetArguments {
    fn fleet(&self) -> Fleet {
        let span = FaultPlan::default().onset;
        let onset = self.onset..self.onset + (span.end - span.start);
        let faults = FaultPlan { share: self.fault_share, onset, ..FaultPlan::default() };
        let config = FleetConfig {
            seed: self.seed,
            n_cars: self.cars,
            faults,
            seconds_per_tick: self.tick_seconds,
            update_at: self.update_at,
            ..FleetConfig::default()
        };
        let mut fleet = Fleet::new(&config);
        (0..self.skip).for_each(|_| fleet.tick().for_each(drop));
        fleet
    }
}

#[derive(Clone, Debug, Args)]
struct ToFile {
    #[command(flatten)]
    fleet: FleetArguments,
    /// Readings per car.
    #[arg(long, default_value_t = 100)]
    ticks: u64,
    /// File to write.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Debug, Args)]
struct Mqtt {
    #[command(flatten)]
    fleet: FleetArguments,
    /// The broker, host:port.
    #[arg(long)]
    server: String,
    /// Messages per second of each car.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Messages per car.
    #[arg(long, default_value_t = 60)]
    messages: usize,
    /// Quality of service: 0 or 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// Connections begin spread over this many seconds.
    #[arg(long, default_value_t = 20.0)]
    ramp_up: f64,
    /// Payload format.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// A load of the reference scenario, in the place of cars, rate, messages, QoS and ramp-up.
    #[arg(long, value_enum)]
    scenario: Option<Scenario>,
}

/// The loads of the reference scenario.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Scenario {
    /// 100,000 cars, QoS 0, a message every 10 s, 3,000 messages each.
    Full,
    /// 25 cars, QoS 1, a message every 5 s, 40 messages each.
    Small,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Json,
    Avro,
}
