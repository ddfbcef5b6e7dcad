//! `model status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use iotml_core::cli::clap::{self, Args};
use iotml_core::model::ModelStatus;
use iotml_core::plugin::Registry;
use serde_json::json;

use super::board::{Board, in_force};
use super::{Failure, Format, date_of};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Only this model
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How to show it; as JSON, one object a model
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    #[command(flatten)]
    board: Board,
}

pub(super) fn run(arguments: &Arguments, registry: &Arc<Registry>) -> Result<String, Failure> {
    let board = arguments.board.open(registry)?;
    let is_meant = |model: &str| arguments.name.as_deref().is_none_or(|name| name == model);
    let announced = board.announced()?;
    let reports = latest(board.reports()?);
    let mut out = String::new();
    for (model, set) in announced.iter().filter(|(model, _)| is_meant(model)) {
        let reports: Vec<&ModelStatus> = reports.iter().filter(|report| report.model == *model).collect();
        match (arguments.format, set) {
            (Format::Json, _) => {
                let (set, trouble) = (set.as_ref().ok(), set.as_ref().err().map(ToString::to_string));
                let line = json!({ "model": model, "announced": set, "trouble": trouble, "reports": reports });
                let _ = writeln!(out, "{line}");
            }
            (Format::Table, Ok(set)) => out.push_str(&in_force(set)),
            (Format::Table, Err(error)) => _ = writeln!(out, "announced of {model}:\n  {error}"),
        }
        if arguments.format == Format::Table {
            reports.iter().for_each(|report| line(&mut out, report));
        }
    }
    if out.is_empty() && arguments.format == Format::Table {
        out.push_str("nothing is announced\n");
    }
    Ok(out)
}

/// The last report of each task on each version.
fn latest(reports: Vec<ModelStatus>) -> Vec<ModelStatus> {
    let mut latest = BTreeMap::new();
    for report in reports {
        let of = |text: &str| text.to_owned();
        let key = (of(&report.model), of(&report.pipeline), of(&report.instance), report.task, of(&report.version));
        latest.insert(key, report);
    }
    latest.into_values().collect()
}

fn line(out: &mut String, report: &ModelStatus) {
    let ModelStatus { version, state, cause, pipeline, instance, task, time, .. } = report;
    let task = task.map_or_else(String::new, |task| format!(" task {task}"));
    let cause = cause.as_ref().map_or_else(String::new, |cause| format!(": {}", cause.escape_debug()));
    let time = date_of(*time);
    let _ = writeln!(out, "  {time}  {pipeline} {instance}{task}: {version} is {state}{cause}");
}
