//! Properties of librdkafka, passed through by their own names, except those that would weaken a guarantee.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use iotml_core::error::ConfigError;
use iotml_core::schemars::{self, JsonSchema, Schema, SchemaGenerator};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Deserializer};

/// Properties of librdkafka in a table of their own, with flat dotted keys: `"bootstrap.servers" = "localhost:9092"`.
///
/// Values are strings, numbers or booleans. It prints without its secrets (invariant 10).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaProperties(BTreeMap<String, String>);

impl KafkaProperties {
    /// Properties with the one that is always needed: `host:port`, several separated by commas.
    pub fn new(bootstrap_servers: &str) -> Self {
        Self::default().set("bootstrap.servers", bootstrap_servers)
    }

    /// The same with one property set or replaced.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.into(), value.to_string());
        self
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Only what says how to reach the cluster, which holds for a client of any kind.
    pub(crate) fn connection(&self) -> Self {
        let says_how = |name: &str| CONNECTION.iter().any(|start| name.starts_with(start));
        Self(
            self.0
                .iter()
                .filter(|(name, _)| says_how(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        )
    }

    /// The values that must not be seen.
    #[cfg(feature = "cli")]
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.as_str())
    }

    /// The brokers to begin with.
    pub(crate) fn servers(&self) -> Option<&str> {
        self.get("bootstrap.servers").or_else(|| self.get("metadata.broker.list"))
    }

    /// A client configuration: `defaults`, then these properties, then `forced`. Errors name every property that
    /// `rules` refuse, and every one that librdkafka does not know.
    pub(crate) fn client_config(
        &self,
        defaults: &[(&str, &str)],
        forced: &[(&str, &str)],
        rules: &[Rule],
    ) -> Result<ClientConfig, ConfigError> {
        let mut wrong: Vec<String> = Vec::new();
        if self.servers().is_none_or(|servers| servers.trim().is_empty()) {
            wrong.push("\"bootstrap.servers\" is missing: name at least one broker as host:port".into());
        }
        for (name, value) in &self.0 {
            let Some(rule) = rules.iter().find(|rule| rule.name == canonical(name)) else { continue };
            if !rule.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(value.trim())) {
                wrong.push(format!("{name:?} cannot be set to {value:?}: {}", rule.reason));
            }
        }
        for (name, value) in &self.0 {
            // One by one, because librdkafka stops at the first property that it does not like.
            if let Err(error) = ClientConfig::new().set(name, value).create_native_config() {
                wrong.push(refused(name, &error));
            }
        }
        if !wrong.is_empty() {
            return Err(ConfigError::new(wrong.join("; ")));
        }
        let mut config = ClientConfig::new();
        // One name for each property, since librdkafka would apply two in no certain order.
        let own = self.0.iter().map(|(name, value)| (canonical(name), value.as_str()));
        for (name, value) in defaults.iter().copied().chain(own).chain(forced.iter().copied()) {
            config.set(name, value);
        }
        if self.needs_authorities() {
            config.set("ssl.ca.location", "probe");
        }
        // Some properties only clash with each other.
        config.create_native_config().map_err(|error| ConfigError::with("the Kafka properties do not fit", error))?;
        Ok(config)
    }

    /// Whether librdkafka must look for the machine's certificate authorities: an OpenSSL that was linked in does not know where
    /// they lie, but for the variables that name them.
    fn needs_authorities(&self) -> bool {
        let is_named = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        cfg!(feature = "vendored")
            && self.get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"))
            && !self.0.keys().any(|name| name.starts_with("ssl.ca."))
            && !is_named("SSL_CERT_FILE")
            && !is_named("SSL_CERT_DIR")
    }
}

/// Second names of properties, and the ones we use.
const ALIASES: [(&str, &str); 10] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("auto.commit.enable", "enable.auto.commit"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("compression.codec", "compression.type"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("sasl.mechanisms", "sasl.mechanism"),
];

fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name)
}

/// A property that is not free to choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The property.
    pub name: &'static str,
    /// Values that are harmless; empty refuses it altogether.
    pub allowed: &'static [&'static str],
    /// Why, and what to do instead.
    pub reason: &'static str,
}

fn refused(name: &str, error: &KafkaError) -> String {
    match error {
        // The value is left out: it may be a secret.
        KafkaError::ClientConfig(_, text, _, _) => format!("{name:?} is not accepted by librdkafka: {text}"),
        other => format!("{name:?} is not accepted by librdkafka: {other}"),
    }
}

/// Words in the name of a property whose value must not be seen.
const SECRET_WORDS: [&str; 5] = ["password", "secret", "ssl.key.pem", "token", "jaas"];

fn is_secret(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// How the names of properties begin that say how to reach a cluster.
const CONNECTION: [&str; 12] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "security.",
    "ssl.",
    "sasl.",
    "enable.ssl.",
    "enable.sasl.",
    "https.",
    "socket.",
    "broker.",
    "client.",
    "reconnect.",
];

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, value)| (name, if is_secret(name) { "***" } else { value.as_str() }));
        f.debug_map().entries(shown).finish()
    }
}

impl<'de> Deserialize<'de> for KafkaProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let scalar = |(name, value): (String, serde_json::Value)| match value {
            serde_json::Value::String(text) => Ok((name, text)),
            serde_json::Value::Number(number) => Ok((name, number.to_string())),
            serde_json::Value::Bool(flag) => Ok((name, flag.to_string())),
            _ => Err(serde::de::Error::custom(format!(
                "{name:?} must be a string, a number or a boolean; write dotted names in quotes"
            ))),
        };
        values.into_iter().map(scalar).collect::<Result<_, _>>().map(Self)
    }
}

impl JsonSchema for KafkaProperties {
    fn schema_name() -> Cow<'static, str> {
        "KafkaProperties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "Properties of librdkafka by their own names, in quotes.",
            "required": ["bootstrap.servers"],
            "properties": {
                "bootstrap.servers": { "type": "string", "description": "Brokers as host:port, separated by commas." }
            },
            "additionalProperties": { "type": ["string", "number", "boolean"] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[Rule] = &[Rule { name: "acks", allowed: &["all"], reason: "a row must be durable" }];

    #[test]
    fn every_mistake_is_named_at_once() {
        let text = r#"{"acks": 1, "linger.mss": 5, "socket.keepalive.enable": true}"#;
        let properties: KafkaProperties = serde_json::from_str(text).unwrap();
        let error = properties.client_config(&[], &[], RULES).unwrap_err().to_string();
        for part in ["bootstrap.servers", "\"acks\" cannot be set to \"1\": a row must be durable", "linger.mss"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!error.contains("keepalive"), "{error}");
    }

    #[test]
    fn own_properties_stand_between_defaults_and_forced_ones() {
        let properties = KafkaProperties::new("localhost:1").set("linger.ms", 7).set("acks", "All");
        let defaults = [("linger.ms", "5"), ("batch.size", "1000")];
        let config = properties.client_config(&defaults, &[("acks", "all")], RULES).unwrap();
        let got = ["linger.ms", "batch.size", "acks"].map(|name| config.get(name));
        assert_eq!(got, [Some("7"), Some("1000"), Some("all")]);
    }

    #[test]
    fn inv_10_secrets_are_neither_printed_nor_part_of_an_error() {
        let properties = KafkaProperties::new("localhost:1").set("sasl.password", "hunter2");
        assert!(!format!("{properties:?}").contains("hunter2"));
        let error = properties.set("sasl.passwords", "hunter2").client_config(&[], &[], &[]).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
