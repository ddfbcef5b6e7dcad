//! A worker whose MQTT source acknowledges what it has received instead of what is durable, as most bridges do.
//!
//! It breaks invariant 1 on purpose: the harness must find that it loses messages, or the harness would find nothing. It is
//! known as the source `mqtt_early_ack` to this program only.

use std::process::ExitCode;

use iotml_core::async_trait;
use iotml_core::batch::{Ack, Lane};
use iotml_core::cli;
use iotml_core::error::ConfigError;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::Registry;
use iotml_core::source::{Demand, Source, SourceError, SourceEvent};
use iotml_mqtt::{MqttSource, MqttSourceConfig};

fn main() -> ExitCode {
    let mut registry = Registry::with_core();
    iotml_kafka::register(&mut registry);
    registry.source(
        "mqtt_early_ack",
        "Loses messages: acknowledges what is not durable",
        |config: MqttSourceConfig, context| -> Result<Box<dyn Source>, ConfigError> {
            Ok(Box::new(EarlyAck(MqttSource::for_tasks(config, context.n_tasks)?)))
        },
    );
    cli::main(registry)
}

struct EarlyAck(MqttSource);

#[async_trait]
impl Source for EarlyAck {
    async fn open(&mut self, task: &TaskContext) -> Result<(), SourceError> {
        self.0.open(task).await
    }

    async fn poll(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        let event = self.0.poll(demand).await?;
        if let SourceEvent::Batch(batch) = &event {
            // Lanes have rows in the order of their numbers, so each of these covers the ones before it.
            let acks: Vec<Ack> =
                batch.positions().iter().map(|position| Ack { lane: position.lane, through: position.seq }).collect();
            self.0.ack(&acks)?;
        }
        Ok(event)
    }

    fn ack(&mut self, _: &[Ack]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn release(&mut self, lanes: &[Lane]) -> Result<(), SourceError> {
        self.0.release(lanes).await
    }

    async fn close(&mut self) -> Result<(), SourceError> {
        self.0.close().await
    }
}
