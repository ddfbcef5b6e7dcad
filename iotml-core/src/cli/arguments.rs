//! What the command line takes.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

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
    /// Run pipelines until they end or SIGINT or SIGTERM asks them to drain and stop
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
        let own = clap::Command::new(plugged.name()).about(plugged.about());
        command = command.subcommand(plugged.arguments(own));
    }
    command
}
