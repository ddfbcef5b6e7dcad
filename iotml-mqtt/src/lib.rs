//! MQTT for iotml: a source that acknowledges late, a sink, and an embedded broker.
//!
//! - [`MqttSource`]: MQTT 5 with late PUBACK; the broker keeps a message until the pipeline has made it durable.
//! - [`MqttSink`]: publishes alerts and commands to devices.
//! - `EmbeddedBroker` (feature `embedded`): a broker on loopback for demos and tests, with limits that drop nothing.
//!
//! No type of an MQTT client library stands in a public signature.

#![forbid(unsafe_code)]

mod connection;
mod order;
mod server;
mod template;
mod thread;
mod tls;
mod trouble;

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod sink;
pub mod source;
#[cfg(feature = "testing")]
pub mod testing;

pub use connection::ConnectionConfig;
pub use sink::{MqttSink, MqttSinkConfig};
pub use source::{MqttSource, MqttSourceConfig};
pub use tls::TlsConfig;

use iotml_core::error::ConfigError;
use iotml_core::plugin::Registry;
use iotml_core::source::Source;

/// Adds the plug-ins of this crate: the source `mqtt`, the sink `mqtt`, and the warning about order behind a group.
pub fn register(registry: &mut Registry) {
    registry.source(
        "mqtt",
        "Receives from an MQTT broker; acknowledges only what is durable",
        |config: MqttSourceConfig, context| -> Result<Box<dyn Source>, ConfigError> {
            Ok(Box::new(MqttSource::for_tasks(config, context.n_tasks)?))
        },
    );
    registry.sink(
        "mqtt",
        "Publishes to an MQTT broker, such as alerts and commands to devices",
        |config: MqttSinkConfig, _| -> Result<std::sync::Arc<dyn iotml_core::sink::Sink>, ConfigError> {
            Ok(std::sync::Arc::new(MqttSink::new(config)?))
        },
    );
    registry.way_back(
        "mqtt",
        "Publishes to the broker that is received from",
        |config: MqttSourceConfig, _| -> Result<std::sync::Arc<dyn iotml_core::sink::Sink>, ConfigError> {
            Ok(std::sync::Arc::new(MqttSink::new(MqttSinkConfig::back(&config))?))
        },
    );
    registry.check(order::remarks);
}

#[cfg(test)]
mod tests {
    use iotml_core::plugin::BuildContext;

    use super::*;

    #[test]
    fn plugins_are_built_from_their_configuration() {
        let mut registry = Registry::default();
        register(&mut registry);
        let context = BuildContext { pipeline: "p".into(), task: 0, n_tasks: 2 };
        let config = serde_json::json!({ "server": "mqtt://localhost", "topics": [{ "filter": "a/#" }] });
        let error = registry.sources["mqtt"].build(config.clone(), &context).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("group")), "two tasks need a group");
        let context = BuildContext { n_tasks: 1, ..context };
        assert!(registry.sources["mqtt"].build(config, &context).is_ok());
    }
}
