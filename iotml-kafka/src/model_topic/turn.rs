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
        let is_sent = sent.is_ok();
        match sent.and_then(|()| self.producer.commit_transaction(self.timeout)) {
            Ok(()) => Ok(true),
            Err(error) if is_fenced(&error) => Ok(false),
            Err(error) => {
                let aborted = self.producer.abort_transaction(self.timeout);
                let source = sink_error("the announcement cannot be written", error);
                // A commit that was asked for and not answered cannot be taken back.
                match is_sent && aborted.is_err() {
                    true => Err(ModelTopicError::Unknown { model: model.to_owned(), source }),
                    false => Err(source.into()),
                }
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
    sink_error(what, error).into()
}

fn sink_error(what: &str, error: KafkaError) -> SinkError {
    SinkError::fatal_from(format!("{what}: {error}"), error)
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use super::*;
    use crate::embedded::{EmbeddedKafka, Failure, Request};

    #[test]
    fn a_commit_that_is_not_answered_may_be_in_force() {
        let cluster = EmbeddedKafka::start(1).unwrap();
        cluster.create_topic("models", 1).unwrap();
        let config = KafkaModelFeedConfig::new(&cluster.bootstrap_servers());
        let begin = || {
            let turn = Turn::begin(&config, "cars").unwrap();
            Turn { timeout: Duration::from_secs(2), ..turn }
        };
        assert!(begin().write("models", "cars", b"1").unwrap());

        // The coordinator knows no answer yet, however often it is asked.
        let turn = begin();
        cluster.fail_next(Request::EndTransaction, &[Failure::CoordinatorLoading; 1000]).unwrap();
        let error = turn.write("models", "cars", b"2").unwrap_err();
        assert!(matches!(&error, ModelTopicError::Unknown { model, .. } if model == "cars"), "{error}");
        let text = error.to_string();
        assert!(text.contains("it is not known whether this change of model \"cars\" is in force"), "{text}");
        assert!(text.contains("look up what is announced"), "{text}");
        cluster.fail_no_more(Request::EndTransaction).unwrap();

        // The message itself was not taken, so that there is nothing to commit.
        let turn = begin();
        cluster.down().unwrap();
        let error = turn.write("models", "cars", b"3").unwrap_err();
        assert!(matches!(error, ModelTopicError::Write(_)), "{error}");
    }
}
