//! The tables of the worker around the pipeline: endpoint and logs.

use std::borrow::Cow;
use std::net::SocketAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::plugin::Remark;
use crate::secret::Secret;

/// The endpoint of metrics, health and control.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTable {
    /// Address and port; port 0 picks a free one, which is logged. Other machines reach it only if told so here.
    #[serde(default = "listen")]
    pub listen: SocketAddrText,
    /// Whoever wants control sends `Authorization: Bearer` and this; at least 16 characters. Needed with `control` where other
    /// machines reach the address.
    pub token: Option<Secret>,
    /// Whether pipelines can be looked at and controlled by REST, as in Kafka Connect.
    #[serde(default = "control")]
    pub control: bool,
    /// Whether metrics and health want the token too.
    #[serde(default)]
    pub metrics_need_token: bool,
}

impl PartialEq for HttpTable {
    fn eq(&self, other: &Self) -> bool {
        let open = |table: &Self| (table.listen, table.control, table.metrics_need_token);
        let same_token = match (&self.token, &other.token) {
            (Some(one), Some(other)) => one.is(other.expose().as_bytes()),
            (one, other) => one.is_none() && other.is_none(),
        };
        open(self) == open(other) && same_token
    }
}

/// Mistakes of the endpoint that no schema can express. Works on a document that may have others.
pub(super) fn mistakes(document: &Value) -> Vec<Remark> {
    let Some(table) = document.get("http") else { return Vec::new() };
    let mut found = Vec::new();
    let is = |key: &str| table.get(key).and_then(Value::as_bool);
    let token = table.get("token").and_then(Value::as_str);
    let address = table.get("listen").and_then(Value::as_str).and_then(|text| text.parse::<SocketAddr>().ok());
    let is_open = address.is_some_and(|address| !address.ip().is_loopback());
    if is_open && token.is_none() && is("control") != Some(false) {
        let message = "other machines can reach this address, and with it pause or stop the pipeline: set token, or \
                       control = false for metrics and health alone";
        found.push(Remark::mistake("/http/listen", message));
    }
    if token.is_some_and(|token| token.chars().count() < MIN_TOKEN) {
        found.push(Remark::mistake(
            "/http/token",
            format!("must have at least {MIN_TOKEN} characters, so that nobody guesses it"),
        ));
    }
    if token.is_none() && is("metrics_need_token") == Some(true) {
        found.push(Remark::mistake("/http/metrics_need_token", "there is no token: set it"));
    }
    found
}

/// Characters of a token at least.
const MIN_TOKEN: usize = 16;

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

fn control() -> bool {
    true
}

fn level() -> String {
    "info".to_owned()
}
