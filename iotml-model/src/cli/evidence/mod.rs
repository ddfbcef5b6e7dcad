//! What a pipeline wrote of its predictions, read again and compared.
//!
//! The pipeline's own configuration says where that is and how it is encoded, so that a comparison needs no other.

mod labels;
mod read;

use std::path::PathBuf;
use std::sync::Arc;

use iotml_core::cli::clap::{self, Args};
use iotml_core::cli::time;
use iotml_core::clock::now_millis;
use iotml_core::error::BoxError;
use iotml_core::model::{ModelSet, Rollout};
use iotml_core::pipeline::header;
use iotml_core::plugin::config::{Config, PluginTable, RouteTable, Secrets};
use iotml_core::plugin::{BuildContext, HumanDuration, Registry};
use iotml_core::sink::Stretch;
use serde_json::Value;
use tokio::runtime::Runtime;

use self::labels::LabelTable;
use self::read::{Entry, Predictions};
use super::Failure;
use super::board::json_table;
use crate::comparison::{Comparison, Labels, Report, Row, Side};

/// Which rows are looked at.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rows, by their event time")]
pub(super) struct Times {
    /// Those of the last DURATION
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    pub since: Option<HumanDuration>,
    /// The oldest time: 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// The first time that is too young
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
}

impl Times {
    /// The first time that is asked for.
    pub fn first(&self) -> Option<i64> {
        let millis = |since: HumanDuration| i64::try_from(since.0.as_millis()).unwrap_or(i64::MAX);
        let since = self.since.map(|since| now_millis().saturating_sub(millis(since)));
        self.from.or(since)
    }
}

/// Where what is compared is.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What is read")]
pub(super) struct Sources {
    /// Configuration of the pipeline, whose routes say where its predictions are
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The route of the predictions; default: the first that is no shadow's
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// What is known of rows: a topic beside the predictions, or the table of a sink as JSON; its messages are JSON with `label`
    /// (true, false, 1 or 0), and `key` and `time` unless those of the message are the row's
    #[arg(long, value_name = "TOPIC")]
    labels: Option<String>,
    /// The field of the label
    #[arg(long, value_name = "NAME", default_value = "label")]
    label_field: String,
    /// Labels to keep in memory
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max_labels: usize,
    /// Rows of predictions and shadow that may wait for each other in memory
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max_waiting: usize,
}

/// A pipeline whose predictions can be read.
pub(super) struct Evidence<'a> {
    pub config: &'a Config,
    pub sources: &'a Sources,
    pub registry: &'a Registry,
    pub runtime: &'a Runtime,
}

impl Evidence<'_> {
    /// Compares what is written with times from `from` on and before `to`, as of now. Rows that could not be scored are counted
    /// for the version that `set` gives their keys to.
    pub fn compare(
        &self,
        model: &str,
        (from, to): (Option<i64>, Option<i64>),
        set: Option<&ModelSet>,
        against: Option<&str>,
    ) -> Result<Report, Failure> {
        let (acting_route, shadow_route) = self.routes()?;
        let prefix = self.prefix();
        let mut acting = Predictions::open(self, acting_route, &prefix, (from, to))?;
        let shadow = shadow_route.map(|route| Predictions::open(self, route, &prefix, (from, to)));
        let mut shadow = shadow.transpose()?;
        let mut comparison = Comparison::new(self.labels(&acting_route.sink, from)?, self.sources.max_waiting);
        let is_meant = |entry: &Entry<'_>| entry.model.is_none_or(|name| name == model);
        let is_paired = match &mut shadow {
            Some(shadow) => shadow.has_any().map_err(|error| self.told(&error))?,
            None => false,
        };
        loop {
            // In step with each other, so that little waits: topics with as many partitions hold a key's rows in the same one.
            let (side, predictions) = match &mut shadow {
                Some(shadow)
                    if is_paired && !shadow.is_done() && (acting.is_done() || shadow.place() < acting.place()) =>
                {
                    (Side::Shadow, shadow)
                }
                _ if !acting.is_done() => (Side::Acting, &mut acting),
                _ => break,
            };
            let read = predictions.next(|entry| {
                let row = match (entry, side) {
                    (None, _) => return comparison.counts().n_unreadable += 1,
                    // Where it fails a shadow says nothing, not even its name.
                    (Some(Entry { version: None, .. }), Side::Shadow) => {
                        return comparison.counts().n_shadow_failures += 1;
                    }
                    (Some(entry), _) if !is_meant(&entry) => return comparison.counts().n_other_models += 1,
                    (Some(Entry { version: None, .. }), Side::Acting) => return comparison.counts().n_unreadable += 1,
                    (Some(Entry { row, version: Some(version), .. }), _) => Row { version, ..row },
                };
                comparison.add(side, row, is_paired);
            });
            read.map_err(|error| self.told(&error))?;
        }
        if let Some(set) = set {
            self.failures(set, (from, to), &mut comparison)?;
        }
        let mut report = comparison.finish(against);
        for version in &mut report.versions {
            let announced = set.and_then(|set| set.version(&version.version));
            version.rollout =
                announced.map(|it| if it.is_ready() { it.rollout.as_str() } else { "retired" }.to_owned());
        }
        Ok(report)
    }

    /// The routes of the predictions and of the shadow.
    fn routes(&self) -> Result<(&RouteTable, Option<&RouteTable>), Failure> {
        let (routes, file) = (&self.config.frame.route, self.config.file.display());
        let named = self.sources.route.as_ref();
        let fits = |route: &&RouteTable| match named {
            Some(name) => route.name == *name,
            None => !route.shadow,
        };
        let missing = || match named {
            Some(name) => format!("{file} has no route {name:?}"),
            None => format!("{file} has no route but a shadow's"),
        };
        Ok((routes.iter().find(fits).ok_or_else(missing)?, routes.iter().find(|route| route.shadow)))
    }

    /// What stands before the names of the scorer's columns.
    fn prefix(&self) -> String {
        let score = self.config.frame.score.as_ref();
        let prefix = score.and_then(|table| table.0.get("prefix")).and_then(Value::as_str);
        prefix.unwrap_or_default().to_owned()
    }

    fn labels(&self, predictions: &PluginTable, from: Option<i64>) -> Result<Labels, Failure> {
        let mut labels = Labels::new(self.sources.max_labels);
        let Some(place) = &self.sources.labels else { return Ok(labels) };
        let (table, secrets) = match place.trim_start().starts_with('{') {
            true => json_table("--labels", place)?,
            false => {
                let mut table = predictions.0.clone();
                table.insert("topic".to_owned(), place.as_str().into());
                table.remove("create_topics");
                (table, Secrets::default())
            }
        };
        let scrub = |failure: Failure| secrets.scrub(&failure).into_owned();
        // A label may come long after its row.
        let stretch = self.stretch(&PluginTable(table), (from, None)).map_err(scrub)?;
        let reader = LabelTable { field: &self.sources.label_field };
        reader.read(stretch, &mut labels).map_err(|error| scrub(self.told(&error)))?;
        Ok(labels)
    }

    /// Counts the dead letters of the scorer.
    fn failures(
        &self,
        set: &ModelSet,
        times: (Option<i64>, Option<i64>),
        comparison: &mut Comparison,
    ) -> Result<(), Failure> {
        let Some(table) = &self.config.frame.dead_letter else { return Ok(()) };
        if !self.registry.read_backs.contains_key(table.kind()) {
            return Ok(());
        }
        let acting: Vec<&str> = set.acting().map(|announced| announced.version.as_str()).collect();
        let plan = set.plan();
        for batch in self.stretch(table, times)? {
            let batch = batch.map_err(|error| self.told(&error))?;
            let headers = batch.messages().headers();
            for row in 0..batch.len() {
                let says = |name, text: &str| {
                    headers
                        .last(row, name)
                        .and_then(|header| header.value)
                        .is_some_and(|value| value == text.as_bytes())
                };
                let is_ours = says(header::STAGE, "score") && says(header::CONNECTOR, &self.config.frame.pipeline.name);
                if is_ours && is_within(batch.messages().time(row), times) {
                    let version = acting.get(plan.version_of(batch.messages().key(row)));
                    version.into_iter().for_each(|version| comparison.add_failure(version));
                }
            }
        }
        Ok(())
    }

    /// What the sink of a table has written.
    fn stretch(&self, table: &PluginTable, (from, to): (Option<i64>, Option<i64>)) -> Result<Stretch, Failure> {
        let kind = table.kind();
        let read_back = self.registry.read_backs.get(kind).ok_or_else(|| {
            let known: Vec<&str> = self.registry.read_backs.keys().copied().collect();
            format!("what a sink of type {kind:?} has written cannot be read again; known here: {}", known.join(", "))
        })?;
        let read_back = read_back.build(table.settings(), &self.context());
        let read_back = read_back.map_err(|error| self.config.secrets().scrub(&error.to_string()).into_owned())?;
        read_back.open(from, to).map_err(|error| self.told(&error))
    }

    fn context(&self) -> BuildContext {
        BuildContext { pipeline: self.config.frame.pipeline.name.as_str().into(), task: 0, n_tasks: 1 }
    }

    fn told(&self, error: &BoxError) -> Failure {
        self.config.secrets().scrub(&iotml_core::error::report(error.as_ref())).into_owned()
    }
}

/// Whether a row is one of those that are looked at; one without a time always is.
fn is_within(time: Option<i64>, (from, to): (Option<i64>, Option<i64>)) -> bool {
    time.is_none_or(|time| from.is_none_or(|from| time >= from) && to.is_none_or(|to| time < to))
}

/// Loads the configuration of a pipeline.
pub(super) fn load(sources: &Sources, registry: &Arc<Registry>) -> Result<Config, Failure> {
    Config::load(&sources.config, registry).map_err(|mistakes| mistakes.to_string())
}

/// The version that others are compared with: what scores what nobody else does, or else the heaviest weight.
pub(super) fn acting_beside<'a>(set: &'a ModelSet, version: &str) -> Option<&'a str> {
    let weight = |rollout| match rollout {
        Rollout::Full => f64::INFINITY,
        Rollout::Weighted { weight } => weight,
        Rollout::Canary { .. } | Rollout::Shadow => -1.0,
    };
    let others = set.acting().filter(|announced| announced.version != version);
    // Of equals the one that was announced first.
    let mut best: Option<(f64, &str)> = None;
    for (weight, name) in others.map(|announced| (weight(announced.rollout), announced.version.as_str())) {
        if best.is_none_or(|(most, _)| weight > most) {
            best = Some((weight, name));
        }
    }
    best.map(|(_, name)| name)
}
