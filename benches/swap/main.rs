//! Changes of models under load, against a real Kafka: a thousand of them while a pipeline reads as fast as it can. Every row is
//! then read back and looked at; gaps between batches, memory, and the time from an announcement to the new model's first batch
//! are printed. See `benches/README.md`.

mod audit;
mod fill;
mod models;
mod plan;
mod work;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use hdrhistogram::Histogram;
use iotml_core::model::ModelSet;
use iotml_kafka::ModelTopic;

use crate::models::Publisher;
use crate::plan::Plan;
use crate::work::Said;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a change may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(about = "Models swapped under load: gaps, memory, reaction, and an audit of every row")]
struct Arguments {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    step: Option<Step>,
}

/// One step, as a process of its own so that memory is its own; without one, all of them.
#[derive(Clone, Subcommand)]
enum Step {
    /// Write rows until told to stop.
    Fill,
    /// Run the pipeline until told to stop.
    Work,
}

fn main() -> ExitCode {
    let Arguments { plan, step } = Arguments::parse();
    let done = match step {
        Some(Step::Fill) => fill::run(&plan),
        Some(Step::Work) => work::run(&plan),
        None => all(&plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("swap: {error}");
            ExitCode::FAILURE
        }
    }
}

fn all(plan: &Plan) -> Result<(), Failure> {
    plan.create()?;
    let topic = ModelTopic::new(plan.feed())?;
    let publisher = Publisher::new(plan)?;
    let publish = |version: u32| -> Result<(), Failure> {
        Ok(topic.announce(&ModelSet::single("m", publisher.publish(version)?))?)
    };
    publish(1)?;
    let mut filler = Step::spawn(plan, "fill")?;
    let mut worker = Step::spawn(plan, "work")?;
    let said = listen(&mut worker)?;
    wait_until_all(plan, &said, 1)?;
    eprintln!("{} s without a change", plan.quiet);
    std::thread::sleep(Duration::from_secs(plan.quiet));
    let mut reaction = Histogram::<u64>::new(3)?;
    let mut memory = vec![resident(&worker)?];
    for version in 2..=plan.swaps + 1 {
        let begun = Instant::now();
        publish(version)?;
        wait_until_all(plan, &said, version)?;
        reaction.record(begun.elapsed().as_micros() as u64)?;
        if (version - 1).is_multiple_of((plan.swaps / 10).max(1)) {
            memory.push(resident(&worker)?);
            eprintln!("{} changes, {:.1} MB", version - 1, memory[memory.len() - 1]);
        }
    }
    // Both end when their input does.
    drop(filler.stdin.take());
    let n_rows = last_line(&mut filler)?.trim().parse()?;
    if !filler.wait()?.success() {
        return Err("the filler failed".into());
    }
    drop(worker.stdin.take());
    let gaps = loop {
        match said.recv_timeout(PATIENCE)? {
            Said::Ready { .. } => {}
            Said::Done(gaps) => break gaps,
        }
    };
    if !worker.wait()?.success() {
        return Err("the worker failed".into());
    }
    let audit = audit::run(plan, n_rows)?;
    let millis = |quantile: f64| reaction.value_at_quantile(quantile) as f64 / 1000.0;
    println!("rows: {n_rows} in, {audit}");
    println!("gaps between batches of a task, ms: {gaps}");
    println!(
        "from publishing to the last task's first batch, ms: p50 {:.1}, p99 {:.1}, max {:.1}",
        millis(0.5),
        millis(0.99),
        millis(1.0)
    );
    let (first, last) = (memory[0], memory[memory.len() - 1]);
    let shown: Vec<String> = memory.iter().map(|megabytes| format!("{megabytes:.1}")).collect();
    println!("resident MB: {}; {:+.1} %", shown.join(", "), (last / first - 1.0) * 100.0);
    audit.check()
}

impl Step {
    fn spawn(plan: &Plan, name: &str) -> Result<Child, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(plan.arguments()).arg(name);
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
    }
}

/// What the worker says, a line each.
fn listen(worker: &mut Child) -> Result<Receiver<Said>, Failure> {
    let out = worker.stdout.take().ok_or("the worker has no output")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(said) => _ = sender.send(said),
                Err(_) => eprintln!("{line}"),
            }
        }
    });
    Ok(receiver)
}

fn wait_until_all(plan: &Plan, said: &Receiver<Said>, version: u32) -> Result<(), Failure> {
    let mut n_ready = 0;
    while n_ready < plan.tasks {
        let said = said.recv_timeout(PATIENCE);
        match said.map_err(|_| format!("version {version} is not in force in time"))? {
            Said::Ready { version: ready } if ready == version.to_string() => n_ready += 1,
            Said::Ready { .. } => {}
            Said::Done(_) => return Err("the worker ended".into()),
        }
    }
    Ok(())
}

fn last_line(child: &mut Child) -> Result<String, Failure> {
    let out = child.stdout.take().ok_or("no output")?;
    let lines: Vec<String> = BufReader::new(out).lines().collect::<Result<_, _>>()?;
    Ok(lines.into_iter().last().unwrap_or_default())
}

/// Resident memory of a process in megabytes.
fn resident(child: &Child) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no resident memory is shown")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes / 1024.0)
}
