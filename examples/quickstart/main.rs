//! Teaches: the whole chain in one process. A thousand cars publish over MQTT, a lossless bridge writes Avro to Kafka, a
//! pipeline scores every record with a TensorFlow-trained model and writes predictions to Kafka, and cars with an anomaly get
//! an alert back over MQTT. At the end every single message is accounted for.
//!
//! ```sh
//! cargo run --release -p iotml-examples --bin quickstart
//! cargo run --release -p iotml-examples --bin quickstart -- --cars 5000 --rate 2 --seconds 60
//! cargo run --release -p iotml-examples --bin quickstart -- --kafka 127.0.0.1:9092 --mqtt 127.0.0.1:1883
//! ```

mod servers;
mod truth;
mod view;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cars::chain::Setting;
use cars::mqtt::{Ledger, Load, Stream, publish};
use cars::process::{raise_open_files, unix_seconds};
use cars::{Fleet, FleetConfig, car_name};
use clap::Parser;
use iotml_core::error::report;
use iotml_core::http;
use iotml_core::log;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Health, Pipeline, PipelineHandle};
use iotml_core::plugin::Registry;
use iotml_core::plugin::config::{Config, LogTable, Secrets};
use iotml_core::sink::Sink;
use serde::Deserialize;
use tokio::sync::watch::channel;

use crate::servers::Servers;
use crate::truth::Truth;
use crate::view::View;
use crate::watch::Watcher;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Cars, MQTT, Kafka, ONNX scoring and alerts in one process, with a zero-loss audit at the end")]
struct Arguments {
    /// Number of cars, one MQTT connection each.
    #[arg(long, default_value_t = 1_000)]
    cars: u32,
    /// Messages per second of each car.
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// How long the cars drive.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Quality of service of the cars: with 0 messages may get lost, and the audit only reports.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
    qos: u8,
    /// A real Kafka, host:port, in the place of the embedded one.
    #[arg(long)]
    kafka: Option<String>,
    /// A real MQTT 5 broker, host:port, in the place of the embedded one.
    #[arg(long)]
    mqtt: Option<String>,
    /// Where metrics and health are served; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9464")]
    metrics: SocketAddr,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many of ten thousand messages are cut short on purpose, and belong into the dead letters.
    #[arg(long, default_value_t = 5)]
    poison: u32,
    /// The model.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cars/cars-autoencoder.onnx"))]
    model: PathBuf,
    /// Print the configurations of the three pipelines and end.
    #[arg(long)]
    show_config: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {}", report(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The pipelines in the order in which they start; they stop in reverse.
struct Chain {
    bridge: PipelineHandle,
    scoring: PipelineHandle,
    watching: PipelineHandle,
}

fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let began = Instant::now();
    let log = LogTable { level: "warn,mqtt5=error".to_owned(), ..LogTable::default() };
    log::init(&log, Secrets::default())?;
    raise_open_files(u64::from(arguments.cars))?;
    let servers = Servers::start(arguments.mqtt.clone(), arguments.kafka.clone())?;
    let is_shared = arguments.mqtt.is_some() || arguments.kafka.is_some();
    let run = if is_shared { format!("-{}-{}", std::process::id(), unix_seconds()) } else { String::new() };
    let setting = Setting {
        mqtt: &servers.mqtt,
        kafka: &servers.kafka,
        run: &run,
        is_embedded: servers.has_embedded_kafka(),
        qos: arguments.qos,
        has_failure: true,
        model: &arguments.model,
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
    let chain = start(&setting, &watcher, &metrics)?;
    let _endpoint = serve(arguments.metrics, &metrics, &chain)?;
    eprintln!("ready after {:.1} s: mqtt {}, kafka {}", began.elapsed().as_secs_f64(), servers.mqtt, servers.kafka);

    let ledger = Ledger::new(arguments.cars as usize);
    drive(arguments, &setting, &truth, &ledger, &watcher, &chain)?;
    wait_for_the_rest(&ledger, &truth);
    finish(arguments, chain, &ledger, &truth, &watcher)
}

fn start(setting: &Setting<'_>, watcher: &Arc<Watcher>, metrics: &Metrics) -> Result<Chain, Failure> {
    #[derive(Deserialize, schemars::JsonSchema)]
    #[schemars(crate = "iotml_core::schemars")]
    #[serde(deny_unknown_fields)]
    struct NoOptions {}

    let mut registry = Registry::with_core();
    iotml_mqtt::register(&mut registry);
    iotml_kafka::register(&mut registry);
    iotml_model::register(&mut registry);
    let sink: Arc<dyn Sink> = watcher.clone();
    registry
        .sink("watch", "compares what comes out with the simulator's truth", move |_: NoOptions, _| Ok(sink.clone()));
    let registry = Arc::new(registry);
    let pipeline = |text: &str, name: &str| -> Result<PipelineHandle, Failure> {
        let config = Config::parse(text, Path::new(name), &registry)?;
        Ok(Pipeline::start(config.pipeline(), metrics.clone()).map_err(|error| error.report())?)
    };
    // Sinks create the topics that the next pipeline reads.
    let bridge = pipeline(&setting.bridge(), "bridge.toml")?;
    let scoring = pipeline(&setting.scoring(), "scoring.toml")?;
    let watching = pipeline(&setting.watching(), "watching.toml")?;
    Ok(Chain { bridge, scoring, watching })
}

fn serve(address: SocketAddr, metrics: &Metrics, chain: &Chain) -> Result<http::HttpServer, Failure> {
    let monitors = [chain.bridge.monitor(), chain.scoring.monitor()];
    let health = Arc::new(move || {
        let all = monitors.iter().map(|monitor| monitor());
        all.reduce(|one, other| Health {
            is_healthy: one.is_healthy && other.is_healthy,
            is_ready: one.is_ready && other.is_ready,
            detail: format!("{}\n{}", one.detail, other.detail),
        })
        .unwrap_or_else(|| Health { is_healthy: true, is_ready: true, detail: String::new() })
    });
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
    truth: &Arc<Truth>,
    ledger: &Arc<Ledger>,
    watcher: &Arc<Watcher>,
    chain: &Chain,
) -> Result<(), Failure> {
    let fleet = Fleet::new(&FleetConfig { seed: arguments.seed, n_cars: arguments.cars, ..FleetConfig::default() });
    let streams = fleet.into_cars().into_iter().map(|car| Stream {
        client_id: format!("{}{}", car_name(car.index()), setting.run),
        topic: setting.car_topic(&car_name(car.index())),
        payloads: Box::new(truth.payloads(car, arguments.poison)),
    });
    let streams = streams.collect();
    let load = Load {
        server: setting.mqtt.to_owned(),
        qos: arguments.qos,
        rate: Some(arguments.rate),
        ramp_up: Duration::from_millis(u64::from(arguments.cars) / 2),
        patience: Duration::from_secs(30),
    };
    let mut view = View::new(ledger.clone(), truth.clone(), watcher.clone(), arguments.seconds);
    let (stop, stopped) = channel(false);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let published = runtime.block_on(async {
        let publishing = publish(streams, &load, ledger.clone(), stopped);
        tokio::pin!(publishing);
        let start = Instant::now();
        let end = Duration::from_secs(arguments.seconds);
        loop {
            tokio::select! {
                published = &mut publishing => return published,
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            view.show(start.elapsed(), &chain.bridge, &chain.scoring);
            if start.elapsed() >= end || chain.bridge.is_finished() || chain.scoring.is_finished() {
                stop.send_replace(true);
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

/// Stops the pipelines, prints the summary, and says whether the audit is clean.
fn finish(
    arguments: &Arguments,
    chain: Chain,
    ledger: &Ledger,
    truth: &Truth,
    watcher: &Watcher,
) -> Result<bool, Failure> {
    let mut is_balanced = true;
    for (name, handle) in [("bridge", chain.bridge), ("scoring", chain.scoring), ("watching", chain.watching)] {
        handle.stop();
        let summary = handle.wait().map_err(|error| error.report())?;
        is_balanced &= summary.audit.balances() && summary.is_drained;
        println!("{name:<9} {}", summary.audit);
    }
    let score = truth.score();
    let latency = watcher.latency(&[0.5, 0.9, 0.99, 0.999, 1.0]);
    let millis: Vec<String> = latency.iter().map(|at| format!("{:.1}", at.as_secs_f64() * 1e3)).collect();
    println!(
        "latency   publish to prediction, ms: p50 {} p90 {} p99 {} p99.9 {} max {}",
        millis[0], millis[1], millis[2], millis[3], millis[4]
    );
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    println!(
        "anomalies {} reported: precision {}, recall {}; {} of {} faulty cars found",
        score.hits + score.false_alarms,
        percent(score.precision()),
        percent(score.recall()),
        score.faulty_cars.1,
        score.faulty_cars.0,
    );
    for (kind, n_rows, n_reported) in truth.by_kind() {
        println!("          {kind:<20} {n_reported} of {n_rows} rows reported");
    }
    let audit = truth.audit(&ledger.acked_by_stream());
    println!("audit     {audit}; seen more than once {}", score.repeated);
    if arguments.qos == 0 {
        println!("audit     QoS 0: messages may get lost on the way, so this only reports");
        return Ok(true);
    }
    let is_clean = audit.is_clean() && is_balanced && audit.published > 0;
    println!("audit     {}", if is_clean { "clean: nothing was lost" } else { "FAILED" });
    Ok(is_clean)
}
