//! Counts deliveries down, one count per write: a row costs no allocation of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::Notify;

use crate::client::Reports;

/// A row's ticket travels through librdkafka in the place of a pointer: slot above, row below.
const ROW_BITS: u32 = 32;
const _: () = assert!(usize::BITS == 64, "a ticket holds two numbers of 32 bits");

/// The rows of one write that are on their way.
#[derive(Debug, Default)]
pub(super) struct Pending {
    slot: usize,
    n_left: AtomicUsize,
    failed: Mutex<Vec<(u32, RDKafkaErrorCode)>>,
    done: Notify,
}

impl Pending {
    /// Waits until every row has been delivered or refused: those refused, in ascending order.
    pub async fn done(&self) -> Vec<(u32, RDKafkaErrorCode)> {
        while self.n_left.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
        let mut failed = std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner));
        failed.sort_unstable_by_key(|(row, _)| *row);
        failed
    }

    /// The ticket of `row`, which counts from now on.
    pub fn ticket(&self, row: u32) -> usize {
        self.n_left.fetch_add(1, Ordering::AcqRel);
        (self.slot << ROW_BITS) | row as usize
    }
}

/// All writes that are on their way, as librdkafka's callback sees them.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    slots: RwLock<Slots>,
    n_rows: AtomicUsize,
    /// Someone waits for a delivery, of whatever row.
    waited_for: AtomicBool,
    delivered: Notify,
    pub reports: Reports,
}

#[derive(Debug, Default)]
struct Slots {
    pending: Vec<Option<Arc<Pending>>>,
    free: Vec<usize>,
}

/// A write that is being handed to librdkafka; dropping it ends that, whether or not all rows were.
#[derive(Debug)]
pub(super) struct Enqueuing<'a> {
    deliveries: &'a Deliveries,
    pub pending: Arc<Pending>,
}

impl Deliveries {
    /// Opens the count for one write.
    pub fn enqueue(&self) -> Enqueuing<'_> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.free.pop().unwrap_or(slots.pending.len());
        // The one more is for the enqueuing itself, so that the count cannot reach zero before its end.
        let pending = Arc::new(Pending { slot, n_left: AtomicUsize::new(1), ..Pending::default() });
        if slot == slots.pending.len() {
            slots.pending.push(None);
        }
        slots.pending[slot] = Some(pending.clone());
        Enqueuing { deliveries: self, pending }
    }

    /// Takes note of a row that is given to librdkafka.
    pub fn enqueued(&self) {
        self.n_rows.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes back a row that librdkafka did not take.
    pub fn refused(&self) {
        self.n_rows.fetch_sub(1, Ordering::AcqRel);
    }

    /// Rows on their way.
    pub fn n_rows(&self) -> usize {
        self.n_rows.load(Ordering::Acquire)
    }

    /// To be called before the last look at what is waited for; then [`Deliveries::next`] misses nothing.
    pub fn watch(&self) {
        self.waited_for.store(true, Ordering::SeqCst);
    }

    /// Waits for a delivery since [`Deliveries::watch`]. One waiter at a time.
    pub async fn next(&self) {
        self.delivered.notified().await;
    }

    /// One count less for the write in `slot`.
    fn count_down(&self, slot: usize, failed: Option<(u32, RDKafkaErrorCode)>) {
        let last = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            let Some(pending) = slots.pending.get(slot).and_then(Option::as_ref) else {
                // Cannot happen: a slot is freed by its last count.
                tracing::error!("a delivery was reported twice");
                return;
            };
            if let Some(failed) = failed {
                pending.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
            }
            pending.n_left.fetch_sub(1, Ordering::AcqRel) == 1
        };
        if last {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(pending) = slots.pending[slot].take() {
                pending.done.notify_one();
            }
            slots.free.push(slot);
        }
    }

    fn reported(&self, ticket: usize, error: Option<RDKafkaErrorCode>) {
        let row = ticket as u32;
        self.count_down(ticket >> ROW_BITS, error.map(|code| (row, code)));
        self.n_rows.fetch_sub(1, Ordering::AcqRel);
        if self.waited_for.load(Ordering::SeqCst) && self.waited_for.swap(false, Ordering::SeqCst) {
            self.delivered.notify_one();
        }
    }
}

impl Enqueuing<'_> {
    /// Takes back the ticket of a row that librdkafka did not take.
    pub fn refused(&self) {
        self.pending.n_left.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Enqueuing<'_> {
    fn drop(&mut self) {
        self.deliveries.count_down(self.pending.slot, None);
    }
}

/// The context of the producer; an [`Arc`] of its own kind, because the trait is rdkafka's.
#[derive(Clone, Debug, Default)]
pub(super) struct SinkContext(pub Arc<Deliveries>);

impl ClientContext for SinkContext {
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.reports.error(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.reports.log(level, facility, text);
    }
}

impl ProducerContext for SinkContext {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let error = result.as_ref().err().map(|(error, _)| {
            // Every error of a delivery carries a code; without one it is taken to pass.
            error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
        });
        self.0.reported(ticket, error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_done_with_its_last_row_and_names_those_that_failed() {
        let deliveries = Deliveries::default();
        let enqueuing = deliveries.enqueue();
        let pending = enqueuing.pending.clone();
        let tickets = [2, 0, 1].map(|row| {
            deliveries.enqueued();
            pending.ticket(row)
        });
        deliveries.reported(tickets[0], Some(RDKafkaErrorCode::InvalidRecord));
        deliveries.reported(tickets[1], Some(RDKafkaErrorCode::Fatal));
        drop(enqueuing);
        assert_eq!((pending.n_left.load(Ordering::Relaxed), deliveries.n_rows()), (1, 1));
        deliveries.reported(tickets[2], None);
        let failed = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(pending.done());
        assert_eq!(failed, [(0, RDKafkaErrorCode::Fatal), (2, RDKafkaErrorCode::InvalidRecord)]);
        assert_eq!(deliveries.slots.read().unwrap().free, [0]);
    }

    #[test]
    fn a_write_cancelled_half_way_frees_its_slot_with_its_last_delivery() {
        let deliveries = Deliveries::default();
        let enqueuing = deliveries.enqueue();
        deliveries.enqueued();
        let ticket = enqueuing.pending.ticket(0);
        drop(enqueuing);
        assert!(deliveries.slots.read().unwrap().free.is_empty());
        deliveries.reported(ticket, None);
        assert_eq!(deliveries.slots.read().unwrap().free, [0]);
        assert_eq!(deliveries.enqueue().pending.slot, 0, "slots are used again");
    }
}
