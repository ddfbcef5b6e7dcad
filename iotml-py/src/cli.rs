//! The command line `iotml`: that of a worker with all first-party plug-ins, and the demo and the simulator.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use cars::{demo, simulate};
use iotml_core::cli::clap::{self, Arg, ArgMatches, Args, FromArgMatches};
use iotml_core::cli::{self, Command};
use iotml_core::error::report;
use iotml_core::plugin::Registry;
use pyo3::prelude::*;

use crate::pipeline::plugins;

/// Does what `arguments` say, the first of which is the name of the program, and returns the exit code. `elsewhere` names
/// commands that Python does itself, for the help: name and what it does.
///
/// Signals are handled as a worker does: the first SIGINT or SIGTERM drains and stops, the second ends the process.
#[pyfunction]
#[pyo3(signature = (arguments, elsewhere=Vec::new(), plugins=None))]
pub fn run_command(
    py: Python<'_>,
    arguments: Vec<OsString>,
    elsewhere: Vec<(String, String)>,
    plugins: Option<&Bound<'_, PyAny>>,
) -> PyResult<u8> {
    let mut registry = plugins::registry(plugins)?;
    registry.command(Demo).command(Simulate);
    for (name, about) in elsewhere {
        registry.command(Elsewhere { name: name.leak(), about: about.leak() });
    }
    let code = py.detach(|| cli::main_with(registry, arguments));
    // An exit code cannot be taken apart, so it is compared.
    Ok((0..=u8::MAX).find(|number| ExitCode::from(*number) == code).unwrap_or(1))
}

/// The quickstart, from the wheel alone.
struct Demo;

impl Command for Demo {
    fn name(&self) -> &'static str {
        "demo"
    }

    fn about(&self) -> &'static str {
        "Cars, MQTT, Kafka, ONNX scoring and alerts in one process, with an audit of every message at the end"
    }

    fn arguments(&self, command: clap::Command) -> clap::Command {
        demo::Arguments::augment_args(command).about(self.about())
    }

    fn run(&self, matches: &ArgMatches, _: &Arc<Registry>) -> ExitCode {
        match demo::Arguments::from_arg_matches(matches).map(|arguments| demo::run(&arguments)) {
            Ok(Ok(true)) => ExitCode::SUCCESS,
            Ok(Ok(false)) => ExitCode::FAILURE,
            Ok(Err(error)) => failed(self.name(), &report(&*error)),
            Err(error) => failed(self.name(), &error.to_string()),
        }
    }
}

/// The car simulator.
struct Simulate;

impl Command for Simulate {
    fn name(&self) -> &'static str {
        "simulate"
    }

    fn about(&self) -> &'static str {
        "Simulate connected cars: publish over MQTT, or write files of their readings"
    }

    fn arguments(&self, command: clap::Command) -> clap::Command {
        simulate::Arguments::augment_args(command).about(self.about())
    }

    fn run(&self, matches: &ArgMatches, _: &Arc<Registry>) -> ExitCode {
        match simulate::Arguments::from_arg_matches(matches).map(|arguments| simulate::run(&arguments)) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => failed(self.name(), &report(&*error)),
            Err(error) => failed(self.name(), &error.to_string()),
        }
    }
}

fn failed(command: &str, message: &str) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "iotml {command}: {message}");
    ExitCode::FAILURE
}

/// A command that Python does before this command line is asked; it stands here for `--help`.
struct Elsewhere {
    name: &'static str,
    about: &'static str,
}

impl Command for Elsewhere {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn arguments(&self, command: clap::Command) -> clap::Command {
        let rest = Arg::new("ARGUMENTS").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
        command.arg(rest).disable_help_flag(true).after_help(format!("`iotml {} --help` says more.", self.name))
    }

    fn run(&self, _: &ArgMatches, _: &Arc<Registry>) -> ExitCode {
        failed(self.name, "call it as the first word of the command line")
    }
}
