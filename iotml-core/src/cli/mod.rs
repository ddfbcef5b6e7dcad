//! The ready-made command line of a worker: `run`, `validate`, `plugins`, `graph`, `schema`, what asks and steers a running one
//! (`audit`, `status`, `pause`, `resume`, `restart`, `leave`), and what plug-ins add.
//!
//! A whole worker is a registry and one call:
//! ```no_run
//! use std::process::ExitCode;
//! use iotml_core::plugin::Registry;
//!
//! fn main() -> ExitCode {
//!     let registry = Registry::with_core();
//!     iotml_core::cli::main(registry)
//! }
//! ```
//!
//! Exit codes: 0 when all went well, 1 when something failed, 2 for a wrong command line or configuration.

mod arguments;
mod command;
mod graph;
mod output;
mod plugins;
mod remote;
mod run;
mod signals;
mod time;
mod validate;

pub use clap;
pub use command::Command;
pub use graph::{mermaid, text};
pub use output::{fail, print};
pub use signals::on_signal;
pub use time::time;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::FromArgMatches;

use crate::plugin::{Registry, config};
use arguments::{Action, Arguments, PluginsAction};

/// Subcommands that no plug-in can take.
pub(crate) const OWN_COMMANDS: [&str; 12] =
    ["run", "validate", "plugins", "graph", "schema", "audit", "status", "pause", "resume", "restart", "leave", "help"];

/// The exit code for a wrong command line or configuration.
pub const USAGE: u8 = 2;

/// Does what the arguments of the process say.
pub fn main(registry: Registry) -> ExitCode {
    main_with(registry, std::env::args_os())
}

/// Does what `arguments` say; the first is the name of the program.
pub fn main_with(registry: Registry, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let registry = Arc::new(registry);
    let mut arguments = arguments.into_iter().peekable();
    let mut command = arguments::command(&registry);
    // What `--version` prints: a worker has its own name, not that of this crate.
    if let Some(program) = arguments.peek().and_then(|program| Path::new(program).file_stem()) {
        command = command.display_name(program.to_string_lossy());
    }
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version come this way too, and go to stdout.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let plugged = |name| registry.commands.iter().find(|command| command.name() == name);
    if let Some((Some(command), matches)) = matches.subcommand().map(|(name, matches)| (plugged(name), matches)) {
        return command.run(matches, &registry);
    }
    let action = match Arguments::from_arg_matches(&matches) {
        Ok(Arguments { action }) => action,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(USAGE);
        }
    };
    match action {
        Action::Run { configs } => run::run(&configs, &registry),
        Action::Validate { configs, show } => validate::validate(&configs, show, &registry),
        Action::Plugins { action: None | Some(PluginsAction::List) } => print(&plugins::list(&registry)),
        Action::Plugins { action: Some(PluginsAction::Describe { name }) } => match plugins::describe(&registry, &name)
        {
            Ok(text) => print(&text),
            Err(message) => output::fail(&message, USAGE),
        },
        Action::Graph { config, format } => match validate::load(&config, &registry) {
            Ok(config) => print(&format.draw(&config)),
            Err(message) => output::fail(&message, USAGE),
        },
        Action::Audit(far) => remote::audit(&far),
        Action::Status(far) => remote::status(&far),
        Action::Pause(named) => remote::put(&named, "pause"),
        Action::Resume(named) => remote::put(&named, "resume"),
        Action::Leave(named) => remote::put(&named, "leave"),
        Action::Restart { named, task, only_failed } => remote::restart(&named, task, only_failed),
        Action::Schema => print(&format!("{:#}\n", config::schema(&registry))),
    }
}
