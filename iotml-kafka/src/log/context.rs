//! Callbacks of the client: they only take notes.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::client::Reports;

#[derive(Default)]
pub(super) struct LogContext {
    pub reports: Reports,
}

impl ClientContext for LogContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.reports.log(level, facility, text);
    }
}

impl ConsumerContext for LogContext {}
