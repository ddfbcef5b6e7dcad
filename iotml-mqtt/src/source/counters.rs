//! What a source counts.

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
        }
    }
}
