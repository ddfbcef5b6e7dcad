//! The demo: cars, MQTT, Kafka, scoring and alerts in one process, and the audit of what became of every message.

mod network;
mod servers;
mod summary;
mod truth;
mod view;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use iotml_core::http;
use iotml_core::log;
use iotml_core::metrics::Metrics;
use iotml_core::plugin::config::{LogTable, Secrets};
use tokio::sync::watch::channel;

use self::network::Network;
use self::servers::Servers;
use self::truth::Truth;
use self::view::View;
use self::watch::Watcher;
use crate::chain::{Chain, Setting};
use crate::mqtt::{Ledger, Load, Stream, publish};
use crate::process::{Failure, Stop, raise_open_files, unix_seconds};
use crate::{Fleet, FleetConfig, car_name};

pub use self::network::DEFAULT_NETWORK;

/// What the demo is asked to do.
#[derive(Clone, Debug, Parser)]
#[command(about = "Cars, MQTT, Kafka, ONNX scoring and alerts in one process, with a zero-loss audit at the end")]
pub struct Arguments {
    /// Number of cars, one MQTT connection each.
    #[arg(long, default_value_t = 1_000)]
    pub cars: u32,
    /// Messages per second of each car.
    #[arg(long, default_value_t = 1.0)]
    pub rate: f64,
    /// How long the cars drive.
    #[arg(long, default_value_t = 40)]
    pub seconds: u64,
    /// Quality of service of the cars: with 0 messages may get lost, and the audit only reports.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub qos: u8,
    /// A real Kafka, host:port, in the place of the embedded one.
    #[arg(long)]
    pub kafka: Option<String>,
    /// A real MQTT 5 broker, host:port, in the place of the embedded one.
    #[arg(long)]
    pub mqtt: Option<String>,
    /// Where metrics and health are served; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9464")]
    pub metrics: SocketAddr,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// So many of ten thousand messages are cut short on purpose, and belong into the dead letters.
    #[arg(long, default_value_t = 5)]
    pub poison: u32,
    /// The model, an ONNX file with a manifest; without it the default network, which is part of the program.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Print the configurations of the three pipelines and end.
    #[arg(long)]
    pub show_config: bool,
}

/// Runs the demo until the time is over or Ctrl-C, and says whether its audit is clean. Progress goes to stderr, the summary
/// to stdout.
///
/// Errs with what to do where a server, a file or a library is not there, and when a pipeline fails.
pub fn run(arguments: &Arguments) -> Result<bool, Failure> {
    run_until(arguments, &Stop::at_interrupt()?)
}

/// As [`run`], until the time is over or `stop` is asked for; signals are left alone.
pub fn run_until(arguments: &Arguments, stop: &Stop) -> Result<bool, Failure> {
    let began = Instant::now();
    let log = LogTable { level: "warn,mqtt5=error".to_owned(), ..LogTable::default() };
    log::init(&log, Secrets::default())?;
    raise_open_files(u64::from(arguments.cars))?;
    let servers = Servers::start(arguments.mqtt.clone(), arguments.kafka.clone())?;
    let network = Network::new(arguments.model.as_deref())?;
    let is_shared = arguments.mqtt.is_some() || arguments.kafka.is_some();
    let run = if is_shared { format!("-{}-{}", std::process::id(), unix_seconds()) } else { String::new() };
    let setting = Setting {
        mqtt: &servers.mqtt,
        kafka: &servers.kafka,
        run: &run,
        is_embedded: servers.has_embedded_kafka(),
        qos: arguments.qos,
        has_failure: true,
        model: network.path(),
        score_options: "",
        preprocess: "",
    };
    if arguments.show_config {
        println!("{}\n{}\n{}", setting.bridge(), setting.scoring(), setting.watching());
        return Ok(true);
    }
    servers.create_topics(&[&setting.sensor_data(), &setting.predictions(), &setting.dead_letters()])?;

    let truth = Truth::new(arguments.cars);
    let watcher = Watcher::new(truth.clone(), &setting.dead_letters())?;
    let metrics = Metrics::default();
    let chain = Chain::start(&setting, watcher.clone(), &metrics)?;
    let _endpoint = serve(arguments.metrics, &metrics, &chain)?;
    chain.wait_for_groups(Duration::from_secs(60), stop)?;
    eprintln!("ready after {:.1} s: mqtt {}, kafka {}", began.elapsed().as_secs_f64(), servers.mqtt, servers.kafka);

    let ledger = Ledger::new(arguments.cars as usize);
    let mut view = View::new(ledger.clone(), truth.clone(), watcher.clone(), arguments.seconds);
    drive(arguments, &setting, &chain, &mut view, stop)?;
    wait_for_the_rest(&ledger, &truth);
    summary::finish(chain, &ledger, &truth, &watcher, arguments.qos)
}

fn serve(address: SocketAddr, metrics: &Metrics, chain: &Chain) -> Result<http::HttpServer, Failure> {
    let health = Arc::new(chain.monitor());
    let served = http::serve(address, metrics.clone(), health.clone()).or_else(|error| match error {
        // A second demo beside the first must not fail for its port.
        http::HttpError::InUse(_) => http::serve(SocketAddr::new(address.ip(), 0), metrics.clone(), health),
        other => Err(other),
    })?;
    eprintln!("metrics at http://{}/metrics", served.address());
    Ok(served)
}

/// Lets the cars drive for the time asked for, with the view in front.
fn drive(
    arguments: &Arguments,
    setting: &Setting<'_>,
    chain: &Chain,
    view: &mut View,
    stop: &Stop,
) -> Result<(), Failure> {
    let fleet = Fleet::new(&FleetConfig { seed: arguments.seed, n_cars: arguments.cars, ..FleetConfig::default() });
    let streams = fleet.into_cars().into_iter().map(|car| Stream {
        client_id: format!("{}{}", car_name(car.index()), setting.run),
        topic: setting.car_topic(&car_name(car.index())),
        payloads: Box::new(view.truth.payloads(car, arguments.poison)),
    });
    let streams = streams.collect();
    let load = Load {
        server: setting.mqtt.to_owned(),
        qos: arguments.qos,
        rate: Some(arguments.rate),
        ramp_up: Duration::from_millis(u64::from(arguments.cars) / 2),
        patience: Duration::from_secs(30),
    };
    let (end, ended) = channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let published = runtime.block_on(async {
        let publishing = publish(streams, &load, view.ledger.clone(), ended);
        tokio::pin!(publishing);
        let start = Instant::now();
        let time = Duration::from_secs(arguments.seconds);
        loop {
            tokio::select! {
                published = &mut publishing => return published,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            view.show(start.elapsed(), chain);
            if start.elapsed() >= time || chain.has_ended() || stop.is_asked() {
                end.send_replace(true);
            }
        }
    });
    view.close();
    Ok(published?)
}

/// Waits until everything published has come out, or nothing more comes for a while.
fn wait_for_the_rest(ledger: &Ledger, truth: &Truth) {
    const QUIET: Duration = Duration::from_secs(10);
    let acked: u64 = ledger.acked_by_stream().iter().sum();
    let out = || {
        let score = truth.score();
        score.predicted + score.dead_lettered
    };
    let (mut last, mut since) = (out(), Instant::now());
    while last < acked && since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(50));
        let now = out();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_network_needs_no_file_of_the_repository() {
        let network = Network::new(None).unwrap();
        let path = network.path().to_owned();
        assert_eq!(std::fs::read(&path).unwrap(), DEFAULT_NETWORK);
        drop(network);
        assert!(!path.exists(), "nothing is left behind");
    }

    #[test]
    fn a_demo_that_is_asked_to_stop_ends_early_with_its_audit() {
        let arguments = ["demo", "--cars", "5", "--seconds", "600", "--metrics", "127.0.0.1:0"];
        let arguments = Arguments::parse_from(arguments);
        let stop = Stop::default();
        stop.ask();
        let began = Instant::now();
        if let Err(error) = run_until(&arguments, &stop) {
            let text = iotml_core::error::report(&*error);
            let is_required = std::env::var("IOTML_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
            assert!(text.contains("ORT_DYLIB_PATH") && !is_required, "{text}");
            println!("skipped: {text}");
        }
        assert!(began.elapsed() < Duration::from_secs(300));
    }
}
