//! One change at a time, by a transaction that a later one fences off.

use std::time::Duration;

use iotml_core::sink::SinkError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::config::KafkaModelFeedConfig;
use super::error::ModelTopicError;

/// The right to change what is announced of a model, until somebody else takes it.
pub(super) struct Turn {
    producer: ThreadedProducer<DefaultProducerContext>,
    timeout: Duration,
}

impl Turn {
    /// Takes the right. What is read from now on is what counts for [`write`](Turn::write).
    pub(super) fn begin(config: &KafkaModelFeedConfig, model: &str) -> Result<Self, ModelTopicError> {
        let id = format!("iotml-models-{}-{model}", config.topic);
        let forced = [("transactional.id", id.as_str()), ("enable.idempotence", "true"), ("acks", "all")];
        let client = config.kafka.connection().client_config(&[("client.id", "iotml-models")], &forced, &[])?;
        let timeout = config.connect_timeout.0;
        let producer: ThreadedProducer<DefaultProducerContext> =
            client.create().map_err(|error| failed("no Kafka producer can be made", error))?;
        let begun = producer.init_transactions(timeout).and_then(|()| producer.begin_transaction());
        begun.map_err(|error| failed("the right to change models cannot be had", error))?;
        Ok(Turn { producer, timeout })
    }

    /// Writes, if nobody else has taken the right meanwhile.
    pub(super) fn write(&self, topic: &str, model: &str, value: &[u8]) -> Result<bool, ModelTopicError> {
        let sent = self.producer.send(BaseRecord::to(topic).key(model).payload(value)).map_err(|(error, _)| error);
        match sent.and_then(|()| self.producer.commit_transaction(self.timeout)) {
            Ok(()) => Ok(true),
            Err(error) if is_fenced(&error) => Ok(false),
            Err(error) => {
                let _ = self.producer.abort_transaction(self.timeout);
                Err(failed("the announcement cannot be written", error))
            }
        }
    }
}

fn is_fenced(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let is = |code| matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch);
    match error {
        KafkaError::Transaction(error) => is(error.code()),
        error => error.rdkafka_error_code().is_some_and(is),
    }
}

fn failed(what: &str, error: KafkaError) -> ModelTopicError {
    SinkError::fatal_from(format!("{what}: {error}"), error).into()
}
