//! Subcommands that plug-ins bring along.

use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;

use crate::plugin::Registry;

/// A subcommand of a worker, added by [`Registry::command`].
///
/// # Example
/// ```
/// use std::process::ExitCode;
/// use std::sync::Arc;
/// use iotml_core::cli::Command;
/// use iotml_core::cli::clap::{self, Arg, ArgMatches};
/// use iotml_core::plugin::Registry;
///
/// struct Hello;
///
/// impl Command for Hello {
///     fn name(&self) -> &'static str {
///         "hello"
///     }
///     fn about(&self) -> &'static str {
///         "Greet someone"
///     }
///     fn arguments(&self, command: clap::Command) -> clap::Command {
///         command.arg(Arg::new("NAME").required(true))
///     }
///     fn run(&self, matches: &ArgMatches, _: &Arc<Registry>) -> ExitCode {
///         println!("hello {}", matches.get_one::<String>("NAME").map_or("you", String::as_str));
///         ExitCode::SUCCESS
///     }
/// }
///
/// let mut registry = Registry::with_core();
/// registry.command(Hello);
/// ```
pub trait Command: Send + Sync {
    /// The word on the command line.
    fn name(&self) -> &'static str;

    /// What it does, in one line.
    fn about(&self) -> &'static str;

    /// Adds the arguments it takes.
    fn arguments(&self, command: clap::Command) -> clap::Command {
        command
    }

    /// Does it, and says on stderr, in one line, what went wrong and what to do.
    fn run(&self, matches: &ArgMatches, registry: &Arc<Registry>) -> ExitCode;
}
