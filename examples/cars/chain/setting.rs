//! The chain as an operator would configure it: one TOML document a pipeline.

use std::fmt::Write;
use std::path::Path;

use super::N_PARTITIONS;
use crate::avro::{CARDATA_V1, CARDATA_V2};

/// Names, addresses and choices that the configurations share.
#[derive(Clone, Debug)]
pub struct Setting<'a> {
    /// MQTT broker, `host:port`.
    pub mqtt: &'a str,
    /// Kafka, `host:port`.
    pub kafka: &'a str,
    /// Appended to topics, groups, client ids and the first level of MQTT topics, so that runs on shared servers do not meet.
    pub run: &'a str,
    /// Whether Kafka is the in-memory cluster: it creates no topics, and answers a fetch only when its wait is over.
    pub is_embedded: bool,
    /// QoS of the bridge's subscription.
    pub qos: u8,
    /// Whether records carry `failure_occurred` (version 2 of the schema) or only the 18 sensors (version 1).
    pub has_failure: bool,
    /// The ONNX model.
    pub model: &'a Path,
    /// More keys of the `[score]` table, one `key = value` a line.
    pub score_options: &'a str,
    /// `[[preprocess]]` tables between decoder and scorer.
    pub preprocess: &'a str,
}

impl Setting<'_> {
    /// Topic of car records in Avro.
    pub fn sensor_data(&self) -> String {
        format!("sensor-data{}", self.run)
    }

    /// Topic of predictions in JSON.
    pub fn predictions(&self) -> String {
        format!("model-predictions{}", self.run)
    }

    /// Topic of what neither pipeline could process.
    pub fn dead_letters(&self) -> String {
        format!("dead-letters{}", self.run)
    }

    /// The MQTT topic that a car publishes to.
    pub fn car_topic(&self, car: &str) -> String {
        format!("vehicles{}/sensor/data/{car}", self.run)
    }

    /// MQTT to Kafka: JSON in, Avro out, nothing acknowledged before Kafka has it.
    pub fn bridge(&self) -> String {
        let id = format!("bridge{}", self.run);
        let (mqtt, qos, schema, columns) = (self.mqtt, self.qos, self.schema(), self.json_columns());
        let filter = self.car_topic("{car}");
        let sink = self.kafka_sink("route.sink", &self.sensor_data());
        let dead_letters = self.kafka_sink("dead_letter", &self.dead_letters());
        format!(
            r#"[pipeline]
name = "{id}"
instance = "demo"
"errors.tolerance" = "all"

[source]
type = "mqtt"
server = "mqtt://{mqtt}"
group = "{id}"
connections = 2

[[source.topics]]
filter = "{filter}"
key = "{{car}}"
qos = {qos}

[decode]
type = "json"
columns = [
{columns}]

[[route]]
name = "kafka"

[route.encode]
type = "avro"
schema = '''{schema}'''

{sink}
{dead_letters}"#
        )
    }

    /// Kafka to Kafka: decode, score, predict; alerts back to the cars on a route that holds nothing back.
    pub fn scoring(&self) -> String {
        let id = format!("scoring{}", self.run);
        let Setting { mqtt, kafka, preprocess, score_options, run, .. } = self;
        let (schema, model, input) = (self.schema(), self.model.display(), self.sensor_data());
        let failure = if self.has_failure { "\"failure_occurred\", " } else { "" };
        let sink = self.kafka_sink("route.sink", &self.predictions());
        let dead_letters = self.kafka_sink("dead_letter", &self.dead_letters());
        let fetch = self.fetch();
        format!(
            r#"[pipeline]
name = "{id}"
instance = "demo"
"errors.tolerance" = "all"

[source]
type = "kafka"
topics = ["{input}"]

[source.kafka]
"bootstrap.servers" = "{kafka}"
"group.id" = "{id}"
{fetch}
[decode]
type = "avro"
schema = '''{schema}'''

{preprocess}
[score]
type = "onnx"
model = "{model}"
{score_options}
[[route]]
name = "predictions"

[route.encode]
type = "json"
columns = [{failure}"score", "threshold", "anomaly", "model", "model_version"]

{sink}
[[route]]
name = "alerts"
when = "anomaly"
required = false

[route.encode]
type = "json"
columns = ["score", "threshold", "model", "model_version"]

[route.sink]
type = "mqtt"
server = "mqtt://{mqtt}"
topic = "vehicles{run}/{{key}}/alerts"

{dead_letters}"#
        )
    }

    /// Everything that comes out, back into the process, to the sink `watch` that [`Chain::start`](super::Chain::start)
    /// registers.
    pub fn watching(&self) -> String {
        let (id, kafka) = (format!("watching{}", self.run), self.kafka);
        let (predictions, dead_letters, fetch) = (self.predictions(), self.dead_letters(), self.fetch());
        format!(
            r#"[pipeline]
name = "{id}"

[source]
type = "kafka"
topics = ["{predictions}", "{dead_letters}"]

[source.kafka]
"bootstrap.servers" = "{kafka}"
"group.id" = "{id}"
{fetch}
[decode]
type = "raw"

[[route]]
name = "watch"

[route.sink]
type = "watch"
"#
        )
    }

    fn kafka_sink(&self, table: &str, topic: &str) -> String {
        let kafka = self.kafka;
        let mut text = format!("[{table}]\ntype = \"kafka\"\ntopic = \"{topic}\"\n");
        if !self.is_embedded {
            let _ = writeln!(text, "create_topics = {{ partitions = {N_PARTITIONS}, replication = 1 }}");
        }
        let _ = writeln!(text, "\n[{table}.kafka]\n\"bootstrap.servers\" = \"{kafka}\"");
        text
    }

    /// More properties of a consumer.
    fn fetch(&self) -> &'static str {
        if self.is_embedded { "\"fetch.wait.max.ms\" = \"10\"\n" } else { "" }
    }

    fn schema(&self) -> &'static str {
        if self.has_failure { CARDATA_V2 } else { CARDATA_V1 }
    }

    /// The columns of a car's JSON, with the types of the Avro schema; none may be missing.
    fn json_columns(&self) -> String {
        let mut table = String::new();
        let mut column = |name: &str, kind: &str| {
            let _ = writeln!(table, "    {{ name = \"{name}\", type = \"{kind}\", nullable = false }},");
        };
        for (at, name) in crate::FIELDS.iter().enumerate() {
            column(name, if crate::is_int(at) { "int32" } else { "float32" });
        }
        if self.has_failure {
            column("failure_occurred", "utf8");
        }
        table
    }
}
