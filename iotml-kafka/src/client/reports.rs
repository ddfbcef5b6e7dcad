//! What librdkafka reports besides results: errors of connections and log lines.

use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::refusal::is_alert;

/// Keeps the last connection error, so that a failed start can say why instead of "timed out".
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// Why a broker could not be reached.
    trouble: Option<String>,
    /// A refusal that no waiting will change: wrong password, wrong certificate.
    refusal: Option<String>,
}

impl Reports {
    /// For [`rdkafka::ClientContext::error`].
    pub fn error(&self, error: &KafkaError, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => last.refusal = Some(text.to_owned()),
            _ if is_alert(text) => last.refusal = Some(text.to_owned()),
            // "1/1 brokers are down" hides the reason that came just before it.
            Some(RDKafkaErrorCode::AllBrokersDown) if last.trouble.is_some() => {}
            _ => last.trouble = Some(text.to_owned()),
        }
        tracing::debug!(target: "librdkafka", "{error}: {text}");
    }

    /// For [`rdkafka::ClientContext::log`].
    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "librdkafka", "{facility}: {text}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", "{facility}: {text}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", "{facility}: {text}")
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", "{facility}: {text}"),
        }
    }

    /// A refusal that no waiting will change.
    pub fn refusal(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refusal.clone()
    }

    /// Why a broker could not be reached last.
    pub fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }
}
