//! The fault harness: real servers, real workers, seeded faults, and a checker that reads what came out.
//!
//! Cars publish over MQTT and remember what was acknowledged to them; the worker bridges it to Kafka and scores it there.
//! Meanwhile processes are killed, servers restarted and stopped in their tracks, and connections cut, as the seed says. At the
//! end every acknowledged message must be in Kafka, every row must have a prediction or a dead letter, in order, and the
//! workers' balances must be true. See `docs/chaos.md`.

mod check;
mod config;
mod crew;
mod forget;
mod hands;
mod journal;
mod load;
mod plan;
mod proxy;
mod report;
mod run;
mod servers;
mod topics;
mod worker;
mod worker_log;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cars::process::Failure;
use clap::Parser;
use iotml_core::error::report as spell_out;

use crate::hands::Proxies;
use crate::plan::{Broker, Plan};
use crate::report::Line;
use crate::run::Stage;
use crate::servers::Servers;

/// Cars of the usual load.
const CARS: u32 = 20;

#[derive(Parser)]
#[command(about = "Breaks servers, workers and the network between them, and checks that nothing is lost")]
struct Arguments {
    /// The MQTT broker.
    #[arg(long, value_enum)]
    broker: Broker,
    /// How many seeds to run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// A file to which a line of JSON is appended per seed; seeds that it holds already are not run again, passed or failed.
    #[arg(long)]
    results: Option<PathBuf>,
    /// Run seeds again that have failed.
    #[arg(long)]
    again: bool,
    /// A folder for the logs of every seed; without it only those of failed seeds are kept, in a temporary one.
    #[arg(long)]
    logs: Option<PathBuf>,
    /// Print the schedules and run nothing.
    #[arg(long)]
    dry_run: bool,
    /// Fewer faults and a shorter load.
    #[arg(long)]
    short: bool,
    /// Run a bridge that acknowledges what it has received: the harness must find what it loses.
    #[arg(long)]
    early_ack: bool,
    /// Instead of seeds: a Kafka that hangs for so many seconds, and nothing else.
    #[arg(long, value_name = "SECONDS")]
    hang: Option<u64>,
    /// Cars, each with a connection.
    #[arg(long, default_value_t = CARS)]
    cars: u32,
    /// Messages per second of each car; 60, or 25 over HiveMQ, whose sessions on disk cost more.
    #[arg(long)]
    rate: Option<f64>,
    /// How long the cars publish in seconds; 20, or 8 for a short run.
    #[arg(long)]
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ran =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from).and_then(|runtime| {
            runtime.block_on(async {
                tokio::select! {
                    ran = run_all(&arguments) => ran,
                    _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
                    _ = terminated() => Err("terminated".into()),
                }
            })
        });
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {}", spell_out(&*error));
            ExitCode::from(2)
        }
    }
}

/// Waits for SIGTERM, at which the servers must be stopped, too.
async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signals) => drop(signals.recv().await),
        Err(_) => std::future::pending().await,
    }
}

impl Arguments {
    /// The schedules to run.
    fn plans(&self) -> Vec<Plan> {
        if let Some(seconds) = self.hang {
            return vec![Plan::hang(self.broker, Duration::from_secs(seconds))];
        }
        let load = Duration::from_secs(self.seconds.unwrap_or(if self.short { 8 } else { 20 }));
        let seeds = self.first..self.first + self.seeds;
        seeds.map(|seed| Plan::new(seed, self.broker, load, self.short)).collect()
    }

    /// What tells lines of different runs in one file apart.
    fn mode(&self) -> String {
        let words = [
            (self.short, "short".to_owned()),
            (self.early_ack, "early-ack".to_owned()),
            (self.hang.is_some(), format!("hang-{}", self.hang.unwrap_or(0))),
            (self.cars != CARS, format!("cars-{}", self.cars)),
            (self.rate.is_some(), format!("rate-{}", self.rate.unwrap_or(0.0))),
            (self.seconds.is_some(), format!("seconds-{}", self.seconds.unwrap_or(0))),
        ];
        words.into_iter().filter_map(|(is_on, word)| is_on.then_some(word)).collect::<Vec<_>>().join(" ")
    }

    /// The program beside this one.
    fn program(name: &str) -> Result<PathBuf, Failure> {
        let path = std::env::current_exe()?.with_file_name(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(format!("{} is missing: build it with cargo build -p iotml-examples -p iotml-chaos", path.display()).into())
    }
}

/// Runs what is asked for; `false` if a seed failed.
async fn run_all(arguments: &Arguments) -> Result<bool, Failure> {
    let mode = arguments.mode();
    let known = arguments.results.as_deref().map_or_else(|| Ok(Vec::new()), report::read)?;
    let known: Vec<Line> =
        known.into_iter().filter(|line| line.broker == arguments.broker && line.mode == mode).collect();
    let (mut lines, plans) = report::settled(known, arguments.plans(), arguments.again);
    if arguments.dry_run {
        plans.iter().for_each(|plan| println!("{plan}"));
        return Ok(true);
    }
    if !plans.is_empty() {
        let folder = tempfile::Builder::new().prefix("iotml-chaos-").tempdir()?;
        let mut standing = None;
        for plan in &plans {
            let place = folder.path().join(format!("servers-{}", plan.seed));
            let stage = match standing.take() {
                Some(stage) => stage,
                None => stand(arguments, &place).await?,
            };
            let line = one(arguments, &stage, plan, &mode, folder.path()).await?;
            // What is left by a seed that did not come to its end would fall to the next one.
            standing = (!line.is_cut_short).then_some(stage);
            lines.push(line);
        }
        // Before their folder goes.
        drop(standing);
    }
    lines.sort_by_key(|line| line.seed);
    println!("{} {mode}\n{}", arguments.broker.name(), report::table(&lines));
    Ok(lines.iter().all(|line| line.failures.is_empty()))
}

/// Starts the servers, with the proxies before them.
async fn stand(arguments: &Arguments, folder: &Path) -> Result<Stage, Failure> {
    let worker = Arguments::program("worker")?;
    let bridge = match arguments.early_ack {
        true => (Arguments::program("early_ack_worker")?, "mqtt_early_ack"),
        false => (worker.clone(), "mqtt"),
    };
    let proxies = Proxies::start().await?;
    let kafka_proxies = [proxies.bridge_to_kafka.port(), proxies.scorer_to_kafka.port()];
    let (servers, ports) = Servers::start(folder, arguments.broker, kafka_proxies).await?;
    proxies.bridge_to_broker.set_target(ports.mqtt);
    proxies.bridge_to_kafka.set_target(ports.kafka_proxied[0]);
    proxies.scorer_to_kafka.set_target(ports.kafka_proxied[1]);
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/cars/cars-autoencoder.onnx");
    Ok(Stage {
        servers: Arc::new(servers),
        ports,
        proxies,
        worker,
        bridge,
        model: model.canonicalize()?,
        n_cars: arguments.cars,
        rate: arguments.rate.unwrap_or(match arguments.broker {
            Broker::Mosquitto => 60.0,
            Broker::Hivemq => 25.0,
        }),
    })
}

/// Runs one seed, and keeps its logs and those of the servers if it failed. Whatever happens there is a line that says so.
async fn one(arguments: &Arguments, stage: &Stage, plan: &Plan, mode: &str, folder: &Path) -> Result<Line, Failure> {
    let name = format!("{}-{}", plan.broker.name(), plan.seed);
    let logs = arguments.logs.clone().unwrap_or_else(|| folder.to_owned()).join(&name);
    std::fs::create_dir_all(&logs)?;
    let begun = Instant::now();
    let ran = run::run(stage, plan, &logs).await;
    let line = ran.unwrap_or_else(|error| Line::cut_short(plan, begun.elapsed(), &spell_out(&*error)));
    let line = Line { mode: mode.to_owned(), ..line };
    // Before anything else can fail.
    if let Some(results) = &arguments.results {
        report::append(results, &line)?;
    }
    let has_failed = !line.failures.is_empty();
    if has_failed {
        stage.servers.copy_logs(&logs.join("servers"))?;
    }
    if arguments.logs.is_none() && !has_failed {
        std::fs::remove_dir_all(&logs)?;
    } else if arguments.logs.is_none() {
        let kept = tempfile::Builder::new().prefix(&format!("iotml-chaos-{name}-")).tempdir()?.keep();
        std::fs::rename(&logs, kept.join("logs"))?;
        eprintln!("seed {} failed; its logs are in {}", plan.seed, kept.display());
    }
    Ok(line)
}
