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

    /// What stands for `row` on its way through librdkafka.
    pub fn ticket(&self, row: u32) -> usize {
        (self.slot << ROW_BITS) | row as usize
    }
}

/// All writes that are on their way, as librdkafka's callback sees them.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    slots: RwLock<Slots>,
    /// Sequentially consistent, as is `waited_for`: who waits writes the one and reads the other, who reports does it the other way
    /// round, and with less each could miss what the other wrote.
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
    /// Rows that librdkafka does not have yet.
    n_open: usize,
}

impl Deliveries {
    /// Opens the count for one write of `n_rows`. They all count from now on: one by one the two threads would fight for the
    /// counters at every row.
    pub fn enqueue(&self, n_rows: usize) -> Enqueuing<'_> {
        self.n_rows.fetch_add(n_rows, Ordering::SeqCst);
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.free.pop().unwrap_or(slots.pending.len());
        // The one more is for the enqueuing itself, so that the count cannot reach zero before its end.
        let pending = Arc::new(Pending { slot, n_left: AtomicUsize::new(n_rows + 1), ..Pending::default() });
        if slot == slots.pending.len() {
            slots.pending.push(None);
        }
        slots.pending[slot] = Some(pending.clone());
        Enqueuing { deliveries: self, pending, n_open: n_rows }
    }

    /// Rows on their way.
    pub fn n_rows(&self) -> usize {
        self.n_rows.load(Ordering::SeqCst)
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
        self.n_rows.fetch_sub(1, Ordering::SeqCst);
        if self.waited_for.load(Ordering::SeqCst) && self.waited_for.swap(false, Ordering::SeqCst) {
            self.delivered.notify_one();
        }
    }
}

impl Enqueuing<'_> {
    /// Librdkafka has one row more, and will report what became of it.
    pub fn handed_over(&mut self) {
        self.n_open -= 1;
    }
}

impl Drop for Enqueuing<'_> {
    fn drop(&mut self) {
        self.pending.n_left.fetch_sub(self.n_open, Ordering::AcqRel);
        self.deliveries.n_rows.fetch_sub(self.n_open, Ordering::SeqCst);
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
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_write_is_done_with_its_last_row_and_names_those_that_failed() {
        let deliveries = Deliveries::default();
        let mut enqueuing = deliveries.enqueue(3);
        let pending = enqueuing.pending.clone();
        let tickets = [2, 0, 1].map(|row| {
            enqueuing.handed_over();
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
        let mut enqueuing = deliveries.enqueue(5);
        let ticket = enqueuing.pending.ticket(0);
        enqueuing.handed_over();
        drop(enqueuing);
        assert_eq!(deliveries.n_rows(), 1, "the four that were not handed over do not count");
        assert!(deliveries.slots.read().unwrap().free.is_empty());
        deliveries.reported(ticket, None);
        assert_eq!(deliveries.slots.read().unwrap().free, [0]);
        assert_eq!(deliveries.enqueue(0).pending.slot, 0, "slots are used again");
    }

    /// What happens to a write, in this order but for reports, which may come any time after their row was handed over.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Step {
        Enqueue,
        HandOver(u32),
        EndOfEnqueuing,
        Reported(u32),
    }

    /// Two writes that share the slots: their steps in order, and those of their rows that are reported.
    const WRITES: [(&[Step], u32); 2] = [
        (&[Step::Enqueue, Step::HandOver(0), Step::HandOver(1), Step::EndOfEnqueuing], 2),
        // Its second row is never handed over.
        (&[Step::Enqueue, Step::HandOver(0), Step::EndOfEnqueuing], 1),
    ];

    /// Calls `each` with every order in which the steps of all writes can happen.
    fn interleavings(order: &mut Vec<(usize, Step)>, each: &mut impl FnMut(&[(usize, Step)])) {
        let happened = |order: &[(usize, Step)], write, step| order.contains(&(write, step));
        let mut is_complete = true;
        for (write, (steps, n_rows)) in WRITES.into_iter().enumerate() {
            let next = steps.iter().find(|step| !happened(order, write, **step)).copied();
            let reports = (0..n_rows).map(Step::Reported);
            let may_come = |step: &Step| {
                matches!(step, Step::Reported(row) if happened(order, write, Step::HandOver(*row)))
                    && !happened(order, write, *step)
            };
            let possible: Vec<Step> = next.into_iter().chain(reports.filter(may_come)).collect();
            for step in possible {
                is_complete = false;
                order.push((write, step));
                interleavings(order, each);
                order.pop();
            }
        }
        if is_complete {
            each(order);
        }
    }

    #[test]
    fn inv_1_a_write_is_done_with_its_last_report_and_not_before_in_every_interleaving() {
        let mut n_orders = 0;
        interleavings(&mut Vec::new(), &mut |order| {
            n_orders += 1;
            let deliveries = Deliveries::default();
            let mut enqueuing: [Option<Enqueuing<'_>>; 2] = [None, None];
            let mut pending: [Option<Arc<Pending>>; 2] = [None, None];
            for (at, (write, step)) in order.iter().enumerate() {
                match step {
                    Step::Enqueue => {
                        let begun = deliveries.enqueue(2);
                        pending[*write] = Some(begun.pending.clone());
                        enqueuing[*write] = Some(begun);
                    }
                    Step::HandOver(_) => enqueuing[*write].as_mut().unwrap().handed_over(),
                    Step::EndOfEnqueuing => enqueuing[*write] = None,
                    Step::Reported(row) => {
                        let ticket = pending[*write].as_ref().unwrap().ticket(*row);
                        deliveries.reported(ticket, (*row == 1).then_some(RDKafkaErrorCode::Fatal));
                    }
                }
                for (write, (steps, n_rows)) in WRITES.into_iter().enumerate() {
                    let n_wanted = steps.len() + n_rows as usize;
                    let is_over = order[..=at].iter().filter(|(of, _)| *of == write).count() == n_wanted;
                    let is_done =
                        pending[write].as_ref().is_some_and(|pending| pending.n_left.load(Ordering::SeqCst) == 0);
                    assert_eq!(is_done, is_over, "write {write} behind step {at} of {order:?}");
                }
            }
            assert_eq!(deliveries.n_rows(), 0);
            let slots = deliveries.slots.read().unwrap();
            assert_eq!(slots.free.len(), slots.pending.len(), "every slot is free: {order:?}");
            let failed = pending.map(|pending| pending.unwrap().done().now_or_never().expect("nothing to wait for"));
            assert_eq!(failed, [vec![(1, RDKafkaErrorCode::Fatal)], vec![]]);
        });
        assert!(n_orders > 1_000, "{n_orders}");
    }

    #[test]
    fn nobody_who_waits_for_deliveries_is_forgotten() {
        let deliveries = Arc::new(Deliveries::default());
        let (hand_over, tickets) = std::sync::mpsc::channel::<usize>();
        let reporter = deliveries.clone();
        let reporter =
            std::thread::spawn(move || tickets.into_iter().for_each(|ticket| reporter.reported(ticket, None)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for round in 0..20_000 {
                let mut enqueuing = deliveries.enqueue(2);
                for row in 0..2 {
                    hand_over.send(enqueuing.pending.ticket(row)).unwrap();
                    enqueuing.handed_over();
                }
                drop(enqueuing);
                let emptied = async {
                    while deliveries.n_rows() > 0 {
                        deliveries.watch();
                        if deliveries.n_rows() > 0 {
                            deliveries.next().await;
                        }
                    }
                };
                let emptied = tokio::time::timeout(std::time::Duration::from_secs(20), emptied).await;
                emptied.unwrap_or_else(|_| panic!("round {round}: a report woke nobody"));
            }
        });
        drop(hand_over);
        reporter.join().unwrap();
    }
}
