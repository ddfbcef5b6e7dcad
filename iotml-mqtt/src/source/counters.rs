//! What a source counts.

#[cfg(feature = "paho")]
use iotml_core::metrics::Gauge;
use iotml_core::metrics::{Counter, Metrics};

/// Counters of one source.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) received: Counter,
    pub(super) acked: Counter,
    pub(super) redelivered: Counter,
    pub(super) reconnects: Counter,
    pub(super) lost_sessions: Counter,
    pub(super) dropped: Counter,
    #[cfg(feature = "paho")]
    metrics: Metrics,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str| metrics.counter(&format!("iotml_source_mqtt_{name}"), help, &[]);
        Self {
            received: counter("messages", "Messages received, without redeliveries of what is in flight."),
            acked: counter("acknowledged_messages", "Messages acknowledged to the broker."),
            redelivered: counter("redelivered_messages", "Messages that came again on a resumed session."),
            reconnects: counter("reconnects", "Connections lost after they stood."),
            lost_sessions: counter("lost_sessions", "Sessions that the broker no longer had after a reconnect."),
            dropped: counter("dropped_messages", "Messages of QoS 0 dropped because max_qos0_rows were waiting."),
            #[cfg(feature = "paho")]
            metrics: metrics.clone(),
        }
    }

    /// What shows the spool of a connection.
    #[cfg(feature = "paho")]
    pub(super) fn spool(&self, connection: usize) -> SpoolGauges {
        let connection = connection.to_string();
        let gauge = |name: &str, help: &str| {
            self.metrics.gauge(&format!("iotml_source_mqtt_spool_{name}"), help, &[("connection", &connection)])
        };
        SpoolGauges {
            n_bytes: gauge("bytes", "Bytes of the spool on disk."),
            n_messages: gauge("messages", "Messages in the spool that are not yet durable behind the pipeline."),
            oldest: gauge(
                "oldest_timestamp_seconds",
                "When the oldest of them was received, in seconds since the Unix epoch; 0 where there is none.",
            ),
        }
    }
}

/// What shows the spool of a connection.
#[cfg(feature = "paho")]
#[derive(Clone, Debug)]
pub(super) struct SpoolGauges {
    pub(super) n_bytes: Gauge,
    pub(super) n_messages: Gauge,
    pub(super) oldest: Gauge,
}
