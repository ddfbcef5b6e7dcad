//! What the Kafka source counts beside the pipeline's own counts.

use iotml_core::metrics::{Counter, Metrics};

#[derive(Clone, Debug)]
pub(super) struct SourceMetrics {
    metrics: Metrics,
    messages: Counter,
    bytes: Counter,
    pub commits: Counter,
    pub failed_commits: Counter,
    pub assigned: Counter,
    pub revoked: Counter,
    pub lost: Counter,
    pub gaps: Counter,
    pub missed: Counter,
}

impl SourceMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str| metrics.counter(&format!("iotml_source_kafka_{name}"), help, &[]);
        Self {
            messages: counter("fetched_messages", "Messages fetched from Kafka."),
            bytes: counter("fetched_bytes", "Bytes of keys and payloads fetched from Kafka."),
            commits: counter("commits", "Commits of offsets sent."),
            failed_commits: counter("failed_commits", "Commits of offsets that failed and are tried again."),
            assigned: counter("assigned_partitions", "Partitions taken over in rebalances."),
            revoked: counter("revoked_partitions", "Partitions handed back in rebalances."),
            lost: counter("lost_partitions", "Partitions lost without a chance to commit."),
            gaps: counter("offset_out_of_range", "Times the next offset to read was no longer there."),
            missed: counter("missed_messages", "Offsets jumped over because retention had removed their messages."),
            metrics: metrics.clone(),
        }
    }

    pub fn fetched(&self, n_rows: usize, n_bytes: usize) {
        self.messages.inc_by(n_rows as u64);
        self.bytes.inc_by(n_bytes as u64);
    }

    /// Messages of a partition that are not fetched yet.
    pub fn lag(&self, topic: &str, partition: i32, lag: i64) {
        let labels = [("topic", topic), ("partition", &partition.to_string())];
        let help = "Messages of the partition that are not fetched yet.";
        self.metrics.gauge("iotml_source_kafka_lag_messages", help, &labels).set(lag);
    }
}
