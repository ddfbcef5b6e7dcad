//! The tables of the worker around the pipeline: endpoint and logs.

use std::borrow::Cow;
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

/// The endpoint of metrics and health.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTable {
    /// Address and port; port 0 picks a free one, which is logged. Other machines reach it only if told so here.
    #[serde(default = "listen")]
    pub listen: SocketAddrText,
}

/// An address with its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketAddrText(pub SocketAddr);

impl<'de> Deserialize<'de> for SocketAddrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |_| serde::de::Error::custom(format!("{text:?} is no address; write it like 127.0.0.1:9464"));
        text.parse().map(Self).map_err(wrong)
    }
}

impl serde::Serialize for SocketAddrText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for SocketAddrText {
    fn schema_name() -> Cow<'static, str> {
        "SocketAddr".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^([0-9.]+|\[[0-9a-fA-F:.]+\]):[0-9]+$",
            "examples": ["127.0.0.1:9464"],
        })
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogTable {
    /// A level, or levels by module (`info,iotml_kafka=debug`); the environment's `RUST_LOG` overrides it.
    #[serde(default = "level")]
    pub level: String,
    /// `text` for people, `json` for machines.
    #[serde(default)]
    pub format: LogFormat,
}

impl Default for LogTable {
    fn default() -> Self {
        Self { level: level(), format: LogFormat::default() }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn listen() -> SocketAddrText {
    SocketAddrText(SocketAddr::from(([127, 0, 0, 1], 9464)))
}

fn level() -> String {
    "info".to_owned()
}
