//! An offset that is no longer there: detected, counted, and jumped over only by order (invariant 4).

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use iotml_core::source::SourceError;
use rdkafka::consumer::Consumer;

use super::config::OnGap;
use super::fetch::Fetcher;
use crate::client::watermarks;

/// How long to wait for the broker to say what is still there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reading a partition stopped because its next offset is not there.
#[derive(Debug)]
pub(super) struct Gap {
    pub topic: String,
    pub partition: i32,
    /// What librdkafka says.
    pub text: String,
}

/// A message did not have the offset that was next. Mostly compaction or a transaction marker.
#[derive(Debug)]
pub(super) struct Jump {
    pub topic: Arc<str>,
    pub partition: i32,
    pub wanted: i64,
    pub got: i64,
}

impl Fetcher {
    /// Under `auto.offset.reset = error`: ends the task.
    pub(super) fn gap(&mut self, gap: &Gap) {
        let Gap { topic, partition, text } = gap;
        let wanted = {
            let mut lanes = self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            match lanes.of_partition(topic, *partition) {
                Some(lane) if !lane.leaving => lane.next_offset,
                // Its next owner will meet the same gap.
                _ => return,
            }
        };
        self.metrics.gaps.inc();
        let (low, high) = match self.consumer.fetch_watermarks(topic, *partition, PATIENCE) {
            Ok(marks) => marks,
            Err(error) => {
                let message = format!("topic {topic:?} partition {partition} cannot be read on: {text}");
                return self.shared.handover.event(Err(SourceError::fatal_from(message, error)));
            }
        };
        let what = if wanted < low {
            let n = low - wanted.max(0);
            self.metrics.missed.inc_by(n.unsigned_abs());
            format!("{n} messages were removed before they were read")
        } else {
            "the topic has been shortened or created anew".to_owned()
        };
        let message = format!(
            "topic {topic:?} partition {partition}: offset {wanted} is out of range {low}..{high}, {what}; \
             to go on set \"auto.offset.reset\" to earliest or latest, or move the group {:?} by hand",
            self.settings.group
        );
        self.shared.handover.event(Err(SourceError::fatal(message)));
    }

    /// Under `auto.offset.reset = earliest` or `latest` librdkafka goes on by itself: what it left out is found by the
    /// first offset behind it.
    pub(super) fn jumped(&mut self, jump: &Jump) {
        if self.settings.on_gap == OnGap::Error {
            return;
        }
        let Jump { topic, partition, wanted, got } = jump;
        let Some((low, _)) = watermarks(&self.consumer, topic, *partition) else { return };
        let is_gap = match self.settings.on_gap {
            _ if got < wanted => true,
            OnGap::Latest => low > *wanted,
            _ => low > *wanted && *got >= low,
        };
        if !is_gap {
            return;
        }
        self.metrics.gaps.inc();
        let missed = (got - wanted).max(0);
        self.metrics.missed.inc_by(missed.unsigned_abs());
        tracing::warn!(
            "topic {topic:?} partition {partition}: offset {wanted} was out of range; {missed} offsets were jumped over, \
             going on at {got} as configured"
        );
    }
}
