//! The whole chain against a real Kafka: a hand-written bare loop, an iotml pipeline, and a Python peer, interleaved, on the
//! same topic, with their scores compared. Needs a broker and a schema registry; see `benches/README.md`.

mod bare;
mod compare;
mod fill;
mod measure;
mod model;
mod pipeline;
mod plan;
mod read;
mod rollout;
mod turns;

use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

use crate::measure::Measured;
use crate::plan::Plan;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "Consume, decode, score, encode, produce: iotml beside a bare loop and a Python peer")]
struct Arguments {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    step: Option<Step>,
}

/// One step, as a process of its own so that CPU and memory are its own; without one, all of them.
#[derive(Clone, Subcommand)]
enum Step {
    /// Fill the topic.
    Fill,
    /// Run the bare loop.
    Bare,
    /// Run the iotml pipeline.
    Iotml,
    /// Compare the outputs of all three.
    Compare,
    /// Fill the topic, and run the iotml pipeline with either guarantee of delivery in turns.
    Delivery,
    /// The same with one model, with a canary, and with a shadow that nobody reads or that is written, which it follows on a topic.
    Rollouts,
    /// Only read and decode the topic: rdkafka's poll loop, by hand.
    ReadBare,
    /// The same with the log reader, the decoder and the feature matrix of iotml.
    ReadLog,
}

fn main() -> ExitCode {
    let Arguments { plan, step } = Arguments::parse();
    let done = match step {
        Some(Step::Fill) => fill::run(&plan),
        Some(Step::Bare) => measure::measured(|| bare::run(&plan)),
        Some(Step::Iotml) => measure::measured(|| pipeline::run(&plan)),
        Some(Step::Compare) => compare::run(&plan),
        Some(Step::Delivery) => turns::delivery(&plan),
        Some(Step::Rollouts) => turns::rollouts(&plan),
        Some(Step::ReadBare) => measure::measured(|| read::bare(&plan)),
        Some(Step::ReadLog) => measure::measured(|| read::log(&plan)),
        None => all(&plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("end_to_end: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Fills, runs the three in turn as often as asked, prints the table, compares.
fn all(plan: &Plan) -> Result<(), Failure> {
    fill::run(plan)?;
    let this = std::env::current_exe()?;
    let mut results: [Vec<Measured>; 3] = Default::default();
    for run in 0..plan.runs {
        let plan = plan.for_run(run);
        for (peer, name) in ["bare", "iotml", "python"].into_iter().enumerate() {
            let mut command = if name == "python" {
                let mut python = Command::new(std::env::var("IOTML_PYTHON").unwrap_or_else(|_| "python3".to_owned()));
                python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/vs/python_peer.py"));
                python
            } else {
                Command::new(&this)
            };
            command.args(plan.arguments());
            if name != "python" {
                command.arg(name);
            }
            plan.create_output(name)?;
            let measured = measure::of_process(command)?;
            eprintln!("run {}  {name:<7} {measured}", run + 1);
            results[peer].push(measured);
        }
        compare::run(&plan)?;
    }
    measure::print_table(&results, plan);
    Ok(())
}
