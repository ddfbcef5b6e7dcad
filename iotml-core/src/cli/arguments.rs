//! What the command line takes.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::graph;
use crate::plugin::Registry;
use crate::plugin::config::Config;

/// Runs pipelines: source -> decode -> preprocess -> score -> encode -> sink.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = false)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Run pipelines until they end or SIGINT or SIGTERM asks them to drain and stop; SIGUSR1 makes them leave for good
    Run {
        /// Configuration files, one pipeline each
        #[arg(value_name = "CONFIG", required = true)]
        configs: Vec<PathBuf>,
    },
    /// Check configurations without starting anything, and report every mistake at once
    Validate {
        /// Configuration files, one pipeline each
        #[arg(value_name = "CONFIG", required = true)]
        configs: Vec<PathBuf>,
        /// Print the configurations as JSON, with secrets and substituted values as stars
        #[arg(long)]
        show: bool,
    },
    /// List the plug-ins of this worker, or describe one
    Plugins {
        #[command(subcommand)]
        action: Option<PluginsAction>,
    },
    /// Draw a pipeline
    Graph {
        /// Configuration file
        #[arg(value_name = "CONFIG")]
        config: PathBuf,
        /// How to draw it
        #[arg(long, value_enum, default_value = "text")]
        format: GraphFormat,
    },
    /// Print the JSON Schema of configurations of this worker
    Schema,
    /// Ask a running worker what became of every row; exits with 1 if it does not add up
    Audit(Far),
    /// Ask a running worker how its pipelines are doing; exits with 1 if a task has failed
    Status(Far),
    /// Make a pipeline of a running worker receive nothing more, and keep its connections
    Pause(Named),
    /// Make a paused pipeline receive again
    Resume(Named),
    /// Begin the tasks of a pipeline anew
    Restart {
        #[command(flatten)]
        named: Named,
        /// Only this task
        #[arg(long, value_name = "NUMBER", conflicts_with = "only_failed")]
        task: Option<usize>,
        /// Only tasks that have failed
        #[arg(long)]
        only_failed: bool,
    },
    /// Make a pipeline of an instance that does not come back receive what is still meant for it, end its sessions, and end
    Leave(Named),
}

/// A running worker. Its token, where it wants one, is read from the environment variable IOTML_TOKEN.
#[derive(Debug, Args)]
pub(super) struct Far {
    /// Where it listens: its [http] listen
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9464")]
    pub(super) url: String,
}

/// A pipeline of a running worker.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Name of the pipeline
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) far: Far,
}

#[derive(Debug, Subcommand)]
pub(super) enum PluginsAction {
    /// List all plug-ins
    List,
    /// Describe the configuration of one plug-in, with defaults
    Describe {
        /// The type, such as `kafka`, or stage and type, such as `sink/kafka`
        #[arg(value_name = "TYPE")]
        name: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum GraphFormat {
    /// For a terminal
    Text,
    /// For Markdown and https://mermaid.live
    Mermaid,
}

impl GraphFormat {
    pub(super) fn draw(self, config: &Config) -> String {
        match self {
            GraphFormat::Text => graph::text(config),
            GraphFormat::Mermaid => graph::mermaid(config),
        }
    }
}

/// The command line with the subcommands of plug-ins.
pub(super) fn command(registry: &Registry) -> clap::Command {
    let mut command = Arguments::command();
    for plugged in &registry.commands {
        let own = plugged.arguments(clap::Command::new(plugged.name()));
        // Last, because a flattened group of arguments that is documented says what the whole is about.
        command = command.subcommand(own.about(plugged.about()).long_about(None));
    }
    command
}
