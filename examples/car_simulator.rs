//! Teaches: a load of many devices, one MQTT connection each, as in the reference scenario of 100,000 connected cars.
//!
//! ```sh
//! cargo run --release -p iotml-examples --bin car_simulator -- mqtt --server 127.0.0.1:1883 --cars 1000
//! cargo run --release -p iotml-examples --bin car_simulator -- mqtt --server 127.0.0.1:1883 --scenario full
//! cargo run --release -p iotml-examples --bin car_simulator -- csv --cars 100 --ticks 500 --seed 7 --out cars.csv
//! cargo run --release -p iotml-examples --bin car_simulator -- avro --cars 100 --ticks 500 --out cars.avro
//! ```

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use apache_avro::types::Value;
use apache_avro::{Schema, Writer};
use cars::mqtt::{Ledger, Load, Stream, publish};
use cars::process::raise_open_files;
use cars::{FaultPlan, Fleet, FleetConfig, avro, car_name, csv, json, topic};
use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use iotml_core::error::report;
use tokio::sync::watch;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Simulates connected cars: eighteen sensors each, some with a developing fault")]
struct Arguments {
    #[command(subcommand)]
    output: Output,
}

#[derive(Subcommand)]
enum Output {
    /// Publish over MQTT 5, one connection per car.
    Mqtt(Mqtt),
    /// Write a CSV file: time, car, the 18 sensors, failure_occurred.
    Csv(ToFile),
    /// Write an Avro object container file of CarData records with failure_occurred.
    Avro(ToFile),
}

#[derive(Args)]
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
}

impl FleetArguments {
    fn fleet(&self, n_cars: u32) -> Fleet {
        let span = FaultPlan::default().onset;
        let onset = self.onset..self.onset + (span.end - span.start);
        let faults = FaultPlan { share: self.fault_share, onset, ..FaultPlan::default() };
        let config = FleetConfig {
            seed: self.seed,
            n_cars,
            faults,
            seconds_per_tick: self.tick_seconds,
            ..FleetConfig::default()
        };
        Fleet::new(&config)
    }
}

#[derive(Args)]
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

/// The loads of the reference scenario.
#[derive(Clone, Copy, ValueEnum)]
enum Scenario {
    /// 100,000 cars, QoS 0, a message every 10 s, 3,000 messages each.
    Full,
    /// 25 cars, QoS 1, a message every 5 s, 40 messages each.
    Small,
}

#[derive(Args)]
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

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Avro,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().output {
        Output::Mqtt(mqtt) => simulate(mqtt),
        Output::Csv(file) => write_csv(&file),
        Output::Avro(file) => write_avro(&file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("car_simulator: {}", report(&*error));
            ExitCode::FAILURE
        }
    }
}

fn simulate(mut arguments: Mqtt) -> Result<(), Failure> {
    match arguments.scenario {
        Some(Scenario::Full) => {
            arguments.fleet.cars = 100_000;
            (arguments.rate, arguments.messages, arguments.qos, arguments.ramp_up) = (0.1, 3_000, 0, 20.0);
        }
        Some(Scenario::Small) => {
            arguments.fleet.cars = 25;
            (arguments.rate, arguments.messages, arguments.qos) = (0.2, 40, 1);
        }
        None => {}
    }
    let n_cars = arguments.fleet.cars;
    raise_open_files(u64::from(n_cars))?;
    let (format, messages) = (arguments.format, arguments.messages);
    let streams = arguments.fleet.fleet(n_cars).into_cars().into_iter().map(|car| {
        let (client_id, topic) = (car_name(car.index()), topic(car.index()));
        let payloads = car.take(messages).map(move |reading| {
            let mut payload = Vec::with_capacity(512);
            match format {
                Format::Json => json::write(&reading, &mut payload),
                Format::Avro => avro::write_v2(&reading, &mut payload),
            }
            payload
        });
        Stream { client_id, topic, payloads: Box::new(payloads) }
    });
    let streams = streams.collect();
    let load = Load {
        server: arguments.server,
        qos: arguments.qos,
        rate: Some(arguments.rate),
        ramp_up: Duration::from_secs_f64(arguments.ramp_up),
        patience: Duration::from_secs(30),
    };
    let total = u64::from(n_cars) * messages as u64;
    let bar = ProgressBar::new(total);
    let style = "{bar:40} {pos}/{len} acknowledged, {per_sec}, {eta} to go  {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    let ledger = Ledger::new(n_cars as usize);
    let (_stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let publishing = publish(streams, &load, ledger.clone(), stopped);
        let watching = async {
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                bar.set_position(ledger.acked());
                bar.set_message(format!("{} connected", ledger.connected()));
            }
        };
        tokio::select! {
            published = publishing => published,
            () = watching => Ok(()),
        }
    })?;
    bar.finish_and_clear();
    println!("{} of {total} messages acknowledged by the broker, from {} cars", ledger.acked(), ledger.connected());
    if ledger.acked() < total { Err("some messages were never acknowledged".into()) } else { Ok(()) }
}

fn write_csv(file: &ToFile) -> Result<(), Failure> {
    let mut out = BufWriter::new(File::create(&file.out)?);
    writeln!(out, "{}", csv::header())?;
    let mut fleet = file.fleet.fleet(file.fleet.cars);
    let mut line = Vec::new();
    for _ in 0..file.ticks {
        for reading in fleet.tick() {
            line.clear();
            csv::write(&reading, &mut line);
            line.push(b'\n');
            out.write_all(&line)?;
        }
    }
    out.flush()?;
    println!("{} rows in {}", u64::from(file.fleet.cars) * file.ticks, file.out.display());
    Ok(())
}

fn write_avro(file: &ToFile) -> Result<(), Failure> {
    let schema = Schema::parse_str(avro::CARDATA_V2)?;
    let mut writer = Writer::new(&schema, BufWriter::new(File::create(&file.out)?));
    let mut fleet = file.fleet.fleet(file.fleet.cars);
    let mut datum = Vec::new();
    for _ in 0..file.ticks {
        for reading in fleet.tick() {
            datum.clear();
            avro::write_v2(&reading, &mut datum);
            let record: Value = apache_avro::from_avro_datum(&schema, &mut datum.as_slice(), None)?;
            writer.append(record)?;
        }
    }
    writer.flush()?;
    println!("{} records in {}", u64::from(file.fleet.cars) * file.ticks, file.out.display());
    Ok(())
}
