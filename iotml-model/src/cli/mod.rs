//! The subcommand `model`: what is in a store and what is announced, and changing both.
//!
//! One file for each of its own subcommands, which are an `Args` and a `run` that gives what is to be told.

mod board;
mod change;
mod compare;
mod describe;
mod evidence;
mod judge;
mod list;
mod publish;
mod reach;
mod service;
mod status;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use iotml_core::arrow::temporal_conversions::timestamp_ms_to_datetime;
use iotml_core::cli::clap::{self, ArgMatches, FromArgMatches, Subcommand, ValueEnum};
use iotml_core::cli::{Command, USAGE, fail, print};
use iotml_core::error::report;
use iotml_core::plugin::Registry;

use crate::store::StoreError;

/// The subcommand.
pub(crate) struct ModelCommand;

#[derive(Subcommand, Debug)]
enum Action {
    /// Show the versions that are in a store
    List(list::Arguments),
    /// Show what a version in a store is
    Describe(describe::Arguments),
    /// Put a model into a store, as a version that never changes, and announce it
    Publish(publish::Arguments),
    /// Show what is announced, and what workers made of it
    Status(status::Arguments),
    /// Let a version score all rows: a canary that has proved itself, or an older one
    Promote(change::Named),
    /// Let the version that was retired last score all rows again
    Rollback(change::Model),
    /// Take a version out of service: a canary or a shadow that has not proved itself
    Retire(change::Named),
    /// Compare what versions said of the rows of a stream: scores, anomalies, latency, agreement, and how right they were
    Compare(compare::Arguments),
    /// Promote or retire canaries, shadows and arms by rules over that comparison
    Judge(judge::Arguments),
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Why there is no answer, in one line.
type Failure = String;

impl Command for ModelCommand {
    fn name(&self) -> &'static str {
        "model"
    }

    fn about(&self) -> &'static str {
        "Publish models, say which of them score, and show what workers made of that"
    }

    fn arguments(&self, command: clap::Command) -> clap::Command {
        Action::augment_subcommands(command).subcommand_required(true).arg_required_else_help(true)
    }

    fn run(&self, matches: &ArgMatches, registry: &Arc<Registry>) -> ExitCode {
        let action = match Action::from_arg_matches(matches) {
            Ok(action) => action,
            Err(error) => return fail(&error, USAGE),
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&format!("no runtime can be started: {error}"), 1),
        };
        // A runtime is for the store; whoever announces may have one of its own, in which no other may run.
        let told = match action {
            Action::List(arguments) => runtime.block_on(list::run(arguments)),
            Action::Describe(arguments) => runtime.block_on(describe::run(arguments)),
            Action::Publish(arguments) => publish::run(arguments, &runtime, registry),
            Action::Status(arguments) => status::run(&arguments, registry),
            Action::Promote(arguments) => change::promote(&arguments, registry),
            Action::Rollback(arguments) => change::roll_back(&arguments, registry),
            Action::Retire(arguments) => change::retire(&arguments, registry),
            Action::Compare(arguments) => compare::run(&arguments, &runtime, registry),
            Action::Judge(arguments) => return judge::run(&arguments, &runtime, registry),
        };
        match told {
            Ok(text) => print(&text),
            Err(message) => fail(&message, 1),
        }
    }
}

fn told(error: StoreError) -> Failure {
    report(&error)
}

/// A time as a date, to the second.
fn date(time: SystemTime) -> String {
    date_of(time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}

/// The same of milliseconds since the Unix epoch; none lies before it.
fn date_of(millis: i64) -> String {
    let date = timestamp_ms_to_datetime(millis.max(0));
    date.map_or_else(|| "-".to_owned(), |date| date.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
