//! The document around the plug-ins' tables.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::settings::{HttpTable, LogTable};
use crate::pipeline::{Delivery, OnFailure, PipelineOptions, Tolerance};
use crate::plugin::{ByteSize, HumanDuration};

/// The configuration of one pipeline.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// Name, policies and bounds.
    pub pipeline: PipelineTable,
    /// Where messages come from.
    pub source: PluginTable,
    /// Bytes to columns; left out, bytes pass through undecoded.
    pub decode: Option<PluginTable>,
    /// Reshape rows, in this order. An optional `name` tells two of one type apart.
    #[serde(default)]
    pub preprocess: Vec<PluginTable>,
    /// Appends scores.
    pub score: Option<PluginTable>,
    /// Where rows go; at least one.
    #[schemars(length(min = 1))]
    pub route: Vec<RouteTable>,
    /// The sink of rows that fail for good.
    pub dead_letter: Option<PluginTable>,
    /// Where stateful stages keep their snapshots; left out, state is kept in memory only.
    pub state: Option<StateTable>,
    /// The endpoint of metrics, health and control; left out, there is none.
    pub http: Option<HttpTable>,
    /// What is logged, and how.
    pub log: Option<LogTable>,
}

/// Name, policies and bounds of a pipeline.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineTable {
    /// Labels metrics, dead letters and state.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Name of this instance of the worker, stable over restarts; default: the host's name.
    #[schemars(length(min = 1))]
    pub instance: Option<String>,
    /// Tasks, each with a thread and stages of its own.
    #[serde(rename = "tasks.max", default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub n_tasks: usize,
    /// `at_least_once`: after a failure rows may come again. `exactly_once`: what is written and how far was read are
    /// committed as one; from Kafka to the same Kafka cluster. Routes that are not required are outside this guarantee.
    #[serde(rename = "delivery.guarantee", default)]
    pub delivery: DeliveryWord,
    /// How often `exactly_once` commits; readers see rows that much later.
    #[serde(default = "defaults::transaction_interval")]
    pub transaction_interval: HumanDuration,
    /// `none`: a row that fails for good fails the task. `all`: it is dead-lettered, or skipped and counted.
    #[serde(rename = "errors.tolerance", default)]
    pub tolerance: ToleranceWord,
    /// How long one batch is tried again before the task fails; `forever` never gives up.
    #[serde(rename = "errors.retry.timeout", default)]
    pub retry_timeout: RetryTimeout,
    /// The longest pause between two tries.
    #[serde(rename = "errors.retry.delay.max", default = "defaults::retry_delay_max")]
    pub retry_delay_max: HumanDuration,
    /// How long a stop waits for what is in flight.
    #[serde(default = "defaults::drain_timeout")]
    pub drain_timeout: HumanDuration,
    /// Bytes received and not yet acknowledged, and those of the columns made of them, per task.
    #[serde(default = "defaults::max_in_flight_bytes")]
    pub max_in_flight_bytes: ByteSize,
    /// Rows received and not yet acknowledged, per task.
    #[serde(default = "defaults::max_in_flight_rows")]
    #[schemars(range(min = 1))]
    pub max_in_flight_rows: usize,
    /// Headers (MQTT: user properties and what the source adds) that a message may have; one with more is rejected.
    #[serde(default = "defaults::max_headers")]
    pub max_headers: usize,
    /// The pipeline is not ready while a row is in flight for longer.
    #[serde(default = "defaults::max_in_flight_age")]
    pub max_in_flight_age: HumanDuration,
    /// Batches that wait at most for a best-effort route, and of no more than `max_in_flight_bytes`; more are dropped and counted.
    #[serde(default = "defaults::best_effort_queue")]
    #[schemars(range(min = 1))]
    pub best_effort_queue: usize,
    /// How often in a row a task that failed is restarted by itself; default: 5 in a worker, 0 where a program embeds the
    /// pipeline. A row that `errors.tolerance` does not tolerate fails its task at once.
    pub restart_max: Option<u32>,
    /// The longest pause before a restart; pauses double from half a second.
    #[serde(default = "defaults::restart_backoff_max")]
    pub restart_backoff_max: HumanDuration,
    /// A task that ran for this long without failing has all its restarts again.
    #[serde(default = "defaults::restart_window")]
    pub restart_window: HumanDuration,
    /// When no task can go on any more: `exit` ends the pipeline, and the worker with it once none of its pipelines goes on;
    /// `stay` waits for a restart by hand.
    #[serde(default)]
    pub on_failure: OnFailureWord,
}

impl PipelineTable {
    /// The options of the pipeline, with `state` for its snapshots.
    pub fn options(&self, state: Option<&StateTable>) -> PipelineOptions {
        PipelineOptions {
            delivery: match self.delivery {
                DeliveryWord::AtLeastOnce => Delivery::AtLeastOnce,
                DeliveryWord::ExactlyOnce => Delivery::ExactlyOnce,
            },
            transaction_interval: self.transaction_interval.0,
            tolerance: match self.tolerance {
                ToleranceWord::None => Tolerance::None,
                ToleranceWord::All => Tolerance::All,
            },
            retry_timeout: self.retry_timeout.0,
            retry_delay_max: self.retry_delay_max.0,
            max_in_flight_bytes: self.max_in_flight_bytes.0,
            max_in_flight_rows: self.max_in_flight_rows,
            max_headers: self.max_headers,
            best_effort_queue: self.best_effort_queue,
            drain_timeout: self.drain_timeout.0,
            state_interval: state.map_or(defaults::state_interval(), |state| state.interval).0,
            max_in_flight_age: self.max_in_flight_age.0,
            restart_max: self.restart_max.unwrap_or(PipelineOptions::default().restart_max),
            restart_backoff_max: self.restart_backoff_max.0,
            restart_window: self.restart_window.0,
            on_failure: match self.on_failure {
                OnFailureWord::Exit => OnFailure::Exit,
                OnFailureWord::Stay => OnFailure::Stay,
            },
        }
    }
}

/// `delivery.guarantee`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum DeliveryWord {
    /// After a failure rows may come again.
    #[default]
    AtLeastOnce,
    /// What is written and how far was read are committed as one.
    ExactlyOnce,
}

/// `errors.tolerance`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ToleranceWord {
    /// A row that fails for good fails the task.
    #[default]
    None,
    /// It is dead-lettered, or skipped and counted where there is no dead-letter sink.
    All,
}

/// What happens when no task can go on any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnFailureWord {
    /// The pipeline ends with the error.
    #[default]
    Exit,
    /// It waits for a restart by hand.
    Stay,
}

/// `errors.retry.timeout`: a duration, or `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryTimeout(pub Option<Duration>);

impl Default for RetryTimeout {
    fn default() -> Self {
        Self(PipelineOptions::default().retry_timeout)
    }
}

impl<'de> Deserialize<'de> for RetryTimeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "forever" {
            return Ok(Self(None));
        }
        let duration: HumanDuration = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(Some(duration.0)))
    }
}

impl serde::Serialize for RetryTimeout {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(duration) => serializer.collect_str(&HumanDuration(duration)),
            None => serializer.serialize_str("forever"),
        }
    }
}

impl JsonSchema for RetryTimeout {
    fn schema_name() -> Cow<'static, str> {
        "RetryTimeout".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^([0-9]+ ?(ms|s|m|h|d)|forever)$",
            "examples": ["10s", "5m", "forever"],
        })
    }
}

/// One way out of the pipeline.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    /// Labels metrics.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Which rows take it: a boolean column (`anomaly`), or a comparison (`score > 0.5`); left out, all do.
    pub when: Option<String>,
    /// Whether acknowledgement waits for it. A best-effort route drops rows, counted, rather than hold one back.
    #[serde(default = "yes")]
    pub required: bool,
    /// It takes what a shadow model made of the rows, and nothing while there is none; no other route sees that.
    #[serde(default)]
    pub shadow: bool,
    /// Columns to bytes; left out, the received bytes are passed on.
    pub encode: Option<PluginTable>,
    /// Where it leads.
    pub sink: PluginTable,
}

/// Where stateful stages keep their snapshots.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateTable {
    /// A folder on this machine, made at the first snapshot.
    pub folder: PathBuf,
    /// How often a snapshot is made.
    #[serde(default = "defaults::state_interval")]
    pub interval: HumanDuration,
}

/// A plug-in's table: `type`, and the plug-in's own keys, which its own schema checks.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct PluginTable(pub Map<String, Value>);

impl PluginTable {
    /// The `type`.
    pub fn kind(&self) -> &str {
        self.0.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// The plug-in's own keys, as it is built from.
    pub fn settings(&self) -> Value {
        let mut settings = self.0.clone();
        settings.remove("type");
        Value::Object(settings)
    }
}

impl fmt::Debug for PluginTable {
    // Values may be secrets, and only the schema knows which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginTable").field("type", &self.kind()).finish_non_exhaustive()
    }
}

impl JsonSchema for PluginTable {
    fn schema_name() -> Cow<'static, str> {
        "PluginTable".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "object",
            "additionalProperties": true,
        })
    }
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

/// The pipeline's own defaults, so that they stand once.
mod defaults {
    use super::*;

    pub(super) fn transaction_interval() -> HumanDuration {
        HumanDuration(PipelineOptions::default().transaction_interval)
    }

    pub(super) fn retry_delay_max() -> HumanDuration {
        HumanDuration(PipelineOptions::default().retry_delay_max)
    }

    pub(super) fn drain_timeout() -> HumanDuration {
        HumanDuration(PipelineOptions::default().drain_timeout)
    }

    pub(super) fn max_in_flight_bytes() -> ByteSize {
        ByteSize(PipelineOptions::default().max_in_flight_bytes)
    }

    pub(super) fn max_in_flight_rows() -> usize {
        PipelineOptions::default().max_in_flight_rows
    }

    pub(super) fn max_in_flight_age() -> HumanDuration {
        HumanDuration(PipelineOptions::default().max_in_flight_age)
    }

    pub(super) fn restart_backoff_max() -> HumanDuration {
        HumanDuration(PipelineOptions::default().restart_backoff_max)
    }

    pub(super) fn restart_window() -> HumanDuration {
        HumanDuration(PipelineOptions::default().restart_window)
    }

    pub(super) fn max_headers() -> usize {
        PipelineOptions::default().max_headers
    }

    pub(super) fn best_effort_queue() -> usize {
        PipelineOptions::default().best_effort_queue
    }

    pub(super) fn state_interval() -> HumanDuration {
        HumanDuration(PipelineOptions::default().state_interval)
    }
}
