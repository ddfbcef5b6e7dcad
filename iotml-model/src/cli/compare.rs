//! `model compare`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use iotml_core::cli::clap::{self, Args};
use iotml_core::plugin::Registry;
use iotml_core::plugin::config::Config;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::board::Opened;
use super::evidence::{Evidence, Sources, Times, acting_beside, load};
use super::{Failure, date_of};
use crate::comparison::{Report, Summary, Version};

#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The model
    #[arg(value_name = "NAME")]
    name: String,
    /// The version that acting versions are compared with; default: what scores all rows that no canary takes
    #[arg(long, value_name = "VERSION")]
    against: Option<String>,
    /// Write the report as JSON, too; - writes it to stdout, in the place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    sources: Sources,
}

pub(super) fn run(arguments: &Arguments, runtime: &Runtime, registry: &Arc<Registry>) -> Result<String, Failure> {
    let config = load(&arguments.sources, registry)?;
    // A pipeline whose model changes by restarts announces nothing, and can be compared all the same.
    let set = match Opened::of(&config, registry) {
        Ok(board) => board.announced_of(&arguments.name).ok(),
        Err(_) => None,
    };
    let usual = set.as_ref().and_then(|set| acting_beside(set, ""));
    let against = arguments.against.as_deref().or(usual);
    let times = (arguments.times.first(), arguments.times.to);
    let evidence = Evidence { config: &config, sources: &arguments.sources, registry, runtime };
    let report = evidence.compare(&arguments.name, times, set.as_ref(), against)?;
    let json = format!("{}\n", as_json(&arguments.name, &config, times, &report));
    match &arguments.json {
        Some(file) if file.as_os_str() == "-" => return Ok(json),
        Some(file) => {
            std::fs::write(file, json).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
        None => {}
    }
    Ok(table(&arguments.name, &report))
}

fn as_json(model: &str, config: &Config, (from, to): (Option<i64>, Option<i64>), report: &Report) -> Value {
    let mut whole = json!({
        "format": 1, "model": model, "pipeline": config.frame.pipeline.name, "from": from, "to": to,
    });
    if let (Some(whole), Ok(Value::Object(report))) = (whole.as_object_mut(), serde_json::to_value(report)) {
        whole.extend(report);
    }
    whole
}

/// The report for people.
pub(super) fn table(model: &str, report: &Report) -> String {
    let mut out = format!("{model}: {} predictions", report.counts.n_rows);
    let first = report.versions.iter().filter_map(|version| version.first).min();
    let last = report.versions.iter().filter_map(|version| version.last).max();
    if let (Some(first), Some(last)) = (first, last) {
        let _ = write!(out, ", {} to {}", date_of(first), date_of(last));
    }
    out.push('\n');
    let mut rows = vec![
        ["version", "rows", "anomalies", "failed", "score p50", "p90", "p99", "p99.9", "latency p50", "p99"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(report.versions.iter().map(cells));
    out.push_str(&aligned(&rows));
    for arm in &report.arms {
        let _ = writeln!(
            out,
            "{} against {}: KS {}, share of anomalies {} ({})",
            arm.version,
            arm.against,
            number(arm.ks),
            arm.anomaly_rate_difference.map_or_else(dash, |points| format!("{:+.3} points", 100.0 * points)),
            arm.anomaly_rate_ratio.map_or_else(dash, |ratio| format!("x{ratio:.2}")),
        );
    }
    for shadow in &report.shadows {
        let _ = writeln!(
            out,
            "shadow {} beside {}: {} rows, same verdict {} (anomalies of both {}, only {} {}, only {} {}), score {} on average, \
             correlation {}, KS {}",
            shadow.shadow,
            shadow.acting,
            shadow.n_pairs,
            percent(shadow.agreement),
            shadow.n_both,
            shadow.acting,
            shadow.n_only_acting,
            shadow.shadow,
            shadow.n_only_shadow,
            shadow.score_mean_difference.map_or_else(dash, |difference| format!("{difference:+.4}")),
            number(shadow.score_correlation),
            number(shadow.ks),
        );
    }
    for version in &report.versions {
        if let Some(truth) = &version.labelled {
            let _ = writeln!(
                out,
                "labels on {} of {}: precision {}, recall {}, F1 {}",
                truth.n,
                name(version),
                number(truth.precision),
                number(truth.recall),
                number(truth.f1)
            );
        }
    }
    out.push_str(&left_over(report));
    out
}

/// What is in none of the figures.
fn left_over(report: &Report) -> String {
    let (counts, unmatched) = (&report.counts, &report.unmatched);
    let of = [
        (counts.n_other_models, "rows of other models"),
        (counts.n_other_versions, "rows of further versions"),
        (counts.n_unreadable, "messages that are no predictions"),
        (unmatched.acting, "rows that the shadow said nothing of"),
        (unmatched.shadow, "rows of the shadow alone"),
        (unmatched.labels.without_row, "labels without a row"),
        (unmatched.labels.beyond_limit, "labels beyond --max-labels"),
    ];
    let told: Vec<String> = of.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if told.is_empty() { String::new() } else { format!("not counted in: {}\n", told.join(", ")) }
}

fn cells(version: &Version) -> Vec<String> {
    let score = |of: fn(&Summary) -> f64| version.score.as_ref().map_or_else(dash, |it| format!("{:.4}", of(it)));
    let latency =
        |of: fn(&Summary) -> f64| version.latency_ms.as_ref().map_or_else(dash, |it| format!("{:.0} ms", of(it)));
    vec![
        name(version),
        version.n_rows.to_string(),
        percent(version.anomaly_rate),
        version.n_failed.to_string(),
        score(|it| it.p50),
        score(|it| it.p90),
        score(|it| it.p99),
        score(|it| it.p999),
        latency(|it| it.p50),
        latency(|it| it.p99),
    ]
}

fn name(version: &Version) -> String {
    let rollout = if version.shadow { Some("shadow") } else { version.rollout.as_deref() };
    rollout.map_or_else(|| version.version.clone(), |rollout| format!("{} ({rollout})", version.version))
}

fn dash() -> String {
    "-".to_owned()
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{:.2} %", 100.0 * share))
}

fn number(number: Option<f64>) -> String {
    number.map_or_else(dash, |number| format!("{number:.3}"))
}

/// Cells in columns, all but the first to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let n_columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if at == 0 { write!(out, "{cell:<width$}") } else { write!(out, "  {cell:>width$}") };
        }
        out.push('\n');
    }
    out
}
