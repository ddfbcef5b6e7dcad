//! What `replay` takes.

use std::path::PathBuf;

use iotml_core::cli::clap::{self, Args, ValueEnum};

use super::filter::Filter;

#[derive(Args, Clone, Debug)]
pub(super) struct Arguments {
    /// Configuration of the pipeline: [dead_letter] says where its dead letters are, [source] where they go back to
    #[arg(value_name = "CONFIG", required_unless_present = "brokers")]
    pub config: Option<PathBuf>,
    /// Instead of CONFIG: brokers of Kafka, separated by commas
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "config", requires = "topic")]
    pub brokers: Option<String>,
    /// A property of librdkafka beside --brokers; for passwords use CONFIG, because others see the arguments of a process
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", requires = "brokers", value_parser = property)]
    pub properties: Vec<(String, String)>,
    /// Topic of the dead letters; with CONFIG only needed where [dead_letter] makes it from a template
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub look: Look,
}

/// How dead letters are fed back.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Feeding back")]
pub(super) struct How {
    /// A topic of Kafka, beside the dead letters, instead of where each message came from
    #[arg(long, value_name = "TOPIC")]
    pub to: Option<String>,
    /// Leave out messages that were fed back as often as this already
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub max_replays: u32,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// The consumer group that keeps how far the topic is done; default: one for each topic and set of conditions
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Begin at the oldest dead letter again, whatever the group has done
    #[arg(long)]
    pub from_beginning: bool,
    /// Go on with what comes later instead of ending
    #[arg(long)]
    pub follow: bool,
}

/// Looking without feeding back.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Looking")]
pub(super) struct Look {
    /// Show the dead letters of the whole topic, and feed nothing back
    #[arg(long, conflicts_with_all = ["dry_run", "follow"])]
    pub list: bool,
    /// How to show them
    #[arg(long, value_enum, default_value = "table", requires = "list")]
    pub format: Format,
    /// Count what would be fed back from where the group is, and feed nothing back
    #[arg(long, conflicts_with = "follow")]
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people, one line each
    Table,
    /// One JSON object a line
    Json,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like security.protocol=SSL")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}
