//! MQTT for iotml: a source that acknowledges late, a sink, and an embedded broker.
//!
//! - [`MqttSource`]: MQTT 5 with late PUBACK; the broker keeps a message until the pipeline has made it durable.
//! - `MqttSink` (feature `paho`): publishes alerts and commands to devices.
//! - `EmbeddedBroker` (feature `embedded`): a broker on loopback for demos and tests, with limits that drop nothing.
//!
//! No type of an MQTT client library stands in a public signature.

mod server;
mod template;
mod tls;

#[cfg(feature = "embedded")]
pub mod embedded;
pub mod source;

pub use source::{MqttSource, MqttSourceConfig};
pub use tls::TlsConfig;

use iotml_core::plugin::Registry;

/// Adds the plug-ins of this crate: the source `mqtt`, and with feature `paho` the sink `mqtt`.
pub fn register(registry: &mut Registry) {
    registry.source(
        "mqtt",
        "Receives from an MQTT broker; acknowledges only what is durable",
        |config: MqttSourceConfig, context| {
            MqttSource::for_tasks(config, context.n_tasks)
                .map(|source| Box::new(source) as Box<dyn iotml_core::source::Source>)
        },
    );
}
