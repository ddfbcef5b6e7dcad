//! The workers' configurations, as an operator would write them, with bounds small enough to be reached.

use std::fmt::Write;
use std::path::Path;

use cars::{FIELDS, is_int};

use crate::plan::Filter;
use crate::topics::Names;

/// Unacknowledged messages that the broker may send on one connection.
pub const RECEIVE_MAXIMUM: u64 = 200;
/// Rows of the scorer that may come again after it crashed: those in flight, and those done since its last commit.
pub const SCORER_WINDOW: u64 = MAX_IN_FLIGHT_ROWS + ROWS_A_COMMIT;

const MAX_IN_FLIGHT_ROWS: u64 = 2_000;
const COMMIT_INTERVAL: &str = "100ms";
/// More than the scorer does in that time on a machine that it shares with all the servers.
const ROWS_A_COMMIT: u64 = 2_000;

const MIB: u64 = 1 << 20;
const IN_FLIGHT_MIB: u64 = 8;
const BUFFER_MIB: u64 = 4;
const PREFETCH_MIB: u64 = 2;
const FETCH_QUEUE_MIB: u64 = 4;
const PRODUCER_QUEUE_MIB: u64 = 8;

/// What the configuration lets the bridge hold, beside what an idle one needs, in bytes.
pub const BRIDGE_BUFFERS: u64 = (IN_FLIGHT_MIB + BUFFER_MIB + PRODUCER_QUEUE_MIB) * MIB;
/// The same of a scorer, which has two producers.
pub const SCORER_BUFFERS: u64 = (IN_FLIGHT_MIB + PREFETCH_MIB + FETCH_QUEUE_MIB + 2 * PRODUCER_QUEUE_MIB) * MIB;

/// Name of the bridge's pipeline and instance.
const BRIDGE: &str = "bridge";

/// MQTT to Kafka, bytes as they are.
pub struct Bridge<'a> {
    /// `mqtt`, or the one that acknowledges early.
    pub source: &'a str,
    /// First level of its MQTT topics, and start of its client ids.
    pub run: &'a str,
    pub filter: Filter,
    /// Ports of the proxies.
    pub mqtt: u16,
    pub kafka: u16,
    pub names: &'a Names,
}

impl Bridge<'_> {
    pub fn toml(&self) -> String {
        let Self { source, run, filter, mqtt, kafka, names } = self;
        let group = match filter {
            Filter::Plain => String::new(),
            Filter::Shared => format!("group = \"{run}\"\nconnections = {}\n", filter.n_connections()),
        };
        format!(
            r#"[pipeline]
name = "{BRIDGE}"
instance = "{BRIDGE}"
max_in_flight_bytes = "{IN_FLIGHT_MIB}MiB"

[source]
type = "{source}"
server = "mqtt://127.0.0.1:{mqtt}"
client_id = "{run}"
keep_alive = "5s"
receive_maximum = {RECEIVE_MAXIMUM}
max_buffer_bytes = "{BUFFER_MIB}MiB"
{group}
[[source.topics]]
filter = "{run}/{{car}}"
key = "{{car}}"

[[route]]
name = "kafka"

{}
{AROUND}"#,
            kafka_sink("route.sink", &names.input, *kafka)
        )
    }
}

/// The client ids of a bridge's connections.
pub fn client_ids(run: &str, filter: Filter) -> Vec<String> {
    (0..filter.n_connections()).map(|number| format!("{run}-{BRIDGE}-0-{number}")).collect()
}

/// Kafka to Kafka: decode, score, predict, and dead letters for what cannot be decoded.
pub struct Scorer<'a> {
    /// Name of the instance.
    pub instance: &'a str,
    /// Name of the group.
    pub run: &'a str,
    pub model: &'a Path,
    /// Port of the proxy.
    pub kafka: u16,
    pub names: &'a Names,
}

impl Scorer<'_> {
    pub fn toml(&self) -> String {
        let Self { instance, run, model, kafka, names } = self;
        let mut columns = String::new();
        for (at, name) in FIELDS.iter().enumerate() {
            let kind = if is_int(at) { "int32" } else { "float32" };
            let _ = writeln!(columns, "    {{ name = \"{name}\", type = \"{kind}\", nullable = false }},");
        }
        format!(
            r#"[pipeline]
name = "scorer"
instance = "{instance}"
"errors.tolerance" = "all"
max_in_flight_rows = {MAX_IN_FLIGHT_ROWS}
max_in_flight_bytes = "{IN_FLIGHT_MIB}MiB"

[source]
type = "kafka"
topics = ["{}"]
max_batch_rows = 500
prefetch = "{PREFETCH_MIB}MiB"
commit_interval = "{COMMIT_INTERVAL}"

[source.kafka]
"bootstrap.servers" = "127.0.0.1:{kafka}"
"group.id" = "{run}"
"session.timeout.ms" = "6000"
"heartbeat.interval.ms" = "1000"
"queued.max.messages.kbytes" = "{}"
"reconnect.backoff.max.ms" = "1000"

[decode]
type = "json"
columns = [
{columns}]

[score]
type = "onnx"
model = "{}"

[[route]]
name = "predictions"

[route.encode]
type = "json"
columns = ["score", "anomaly", "model_version"]

{}
{}
{AROUND}"#,
            names.input,
            FETCH_QUEUE_MIB << 10,
            model.display(),
            kafka_sink("route.sink", &names.predictions, *kafka),
            kafka_sink("dead_letter", &names.dead_letters, *kafka),
        )
    }
}

fn kafka_sink(table: &str, topic: &str, kafka: u16) -> String {
    let queue = PRODUCER_QUEUE_MIB << 10;
    format!(
        r#"[{table}]
type = "kafka"
topic = "{topic}"

[{table}.kafka]
"bootstrap.servers" = "127.0.0.1:{kafka}"
"linger.ms" = "1"
"queue.buffering.max.kbytes" = "{queue}"
"reconnect.backoff.max.ms" = "1000"
"#
    )
}

const AROUND: &str = r#"[http]
listen = "127.0.0.1:0"

[log]
level = "info"
format = "json"
"#;
