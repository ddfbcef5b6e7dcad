//! What librdkafka reports besides results: errors of connections and log lines.

use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::refusal::is_alert;

/// How long librdkafka is left to find its way back by itself: while it tries, it says more often than this that all brokers are down, as
/// long as `reconnect.backoff.max.ms` is its default.
pub(crate) const ALONE: Duration = Duration::from_secs(15);

/// Keeps the last connection error, so that a failed start can say why instead of "timed out".
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// Why a broker could not be reached.
    trouble: Option<String>,
    /// A refusal that no waiting will change: wrong password, wrong certificate.
    refusal: Option<String>,
    /// When it was said last that all brokers are down, if nothing was done about it yet.
    lost: Option<Instant>,
}

impl Reports {
    /// For [`rdkafka::ClientContext::error`].
    pub fn error(&self, error: &KafkaError, text: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            last.lost = Some(Instant::now());
        }
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

    /// Tells a client that has lost all brokers, and was left alone for a while, where to begin anew. To be called now and then.
    ///
    /// A cluster that comes back says for a moment that it has no brokers; librdkafka then forgets all it knew, and may forget to
    /// begin anew, too, and never connect again (its issue 5301). What it still knows is left as it is. It remembers each time that it is
    /// told, so it is told once an outage, and not while it still tries.
    pub fn revive<C: ClientContext>(&self, client: &Client<C>, servers: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lost) = last.lost.take_if(|lost| lost.elapsed() >= ALONE) else { return };
        drop(last);
        tracing::debug!(target: "librdkafka", "all brokers were lost {:?} ago: {servers} may be tried anew", lost.elapsed());
        if let Ok(servers) = CString::new(servers) {
            // SAFETY: the client is alive, and copies the text.
            unsafe { rdkafka_sys::rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) };
        }
    }

    /// Why a broker could not be reached last.
    pub fn trouble(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer};

    use super::*;
    use crate::embedded::EmbeddedKafka;

    fn lost(reports: &Reports) -> Option<Instant> {
        reports.0.lock().unwrap().lost
    }

    #[test]
    fn who_has_lost_all_brokers_is_told_where_to_begin_anew_once_and_not_at_once() {
        let cluster = EmbeddedKafka::start(1).unwrap();
        let reports = Reports::default();
        // Nobody is there, as for a client that has forgotten where its brokers are.
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", "127.0.0.1:1").create().unwrap();
        reports.error(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let told = lost(&reports).unwrap();
        reports.revive(consumer.client(), &cluster.bootstrap_servers());
        assert_eq!(lost(&reports), Some(told), "it is left alone for a while");
        reports.0.lock().unwrap().lost = told.checked_sub(ALONE);
        reports.error(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let told = lost(&reports).unwrap();
        reports.revive(consumer.client(), &cluster.bootstrap_servers());
        assert_eq!(lost(&reports), Some(told), "it still tries");
        reports.0.lock().unwrap().lost = told.checked_sub(ALONE);
        reports.revive(consumer.client(), &cluster.bootstrap_servers());
        assert_eq!(lost(&reports), None);
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(30)).unwrap();
        assert_eq!(metadata.brokers().len(), 1);
    }
}
