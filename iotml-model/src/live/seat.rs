//! Where one task finds what it is to score with: one atomic load a batch, and a lock only when there is news.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iotml_core::batch::Batch;
use iotml_core::metrics::{Counter, Histogram};
use iotml_core::pipeline::TaskContext;
use tokio::sync::Notify;

use super::lineup::{Change, Lineup, Slot};
use super::refused::Refused;
use super::sample::Sample;
use super::version::{Id, Version};

/// There is a change to be put into force.
const CHANGE: u8 = 1;
/// Rows of the next batch are wanted.
const SAMPLE: u8 = 2;

/// One task's place.
pub(crate) struct Seat {
    signal: AtomicU8,
    inner: Mutex<Inner>,
    /// Told when there is a first change.
    changed: Notify,
    /// Tells the loader that something is to be looked after.
    loader: Arc<Notify>,
    pub(crate) task: TaskContext,
    pub(crate) swaps: Counter,
    pub(crate) failures: Counter,
    pub(crate) load_seconds: Histogram,
}

#[derive(Default)]
struct Inner {
    pending: Option<Change>,
    /// The versions that the task has.
    applied: Vec<Id>,
    applied_generation: u64,
    /// Versions that the task let go, for the loader to free.
    spent: Vec<Box<Version>>,
    sample: Option<Sample>,
    /// Versions that did not bear the first rows.
    refused: Vec<(Id, Refused)>,
}

/// What became of a seat since it was looked at last.
pub(crate) struct Seen {
    pub(crate) generation: u64,
    pub(crate) spent: Vec<Box<Version>>,
    pub(crate) sample: Option<Sample>,
    pub(crate) refused: Vec<(Id, Refused)>,
}

impl Seat {
    pub(crate) fn new(task: &TaskContext, loader: Arc<Notify>) -> Self {
        let metrics = &task.metrics;
        Seat {
            signal: AtomicU8::new(SAMPLE),
            inner: Mutex::default(),
            changed: Notify::new(),
            loader,
            swaps: metrics.counter("iotml_score_swaps", "Changes of models put into force.", &[]),
            failures: metrics.counter("iotml_score_failed_swaps", "Announced models that were refused.", &[]),
            load_seconds: metrics.latency(
                "iotml_score_load_seconds",
                "From the announcement of models to their being ready for the next batch.",
                &[],
            ),
            task: task.clone(),
        }
    }

    /// Called by the task between batches, with the one that comes next, if there is one.
    pub(crate) fn attend(&self, lineup: &mut Lineup, batch: Option<&Batch>) {
        // Acquire pairs with the loader's Release; what was said is then read under the lock.
        let signal = self.signal.load(Ordering::Acquire);
        if signal == 0 || (signal == SAMPLE && batch.is_none()) {
            return;
        }
        let mut inner = self.lock();
        self.signal.fetch_and(!CHANGE, Ordering::AcqRel);
        if let Some(change) = inner.pending.take() {
            let shadow = change.shadow.iter().map(Slot::id);
            inner.applied = change.acting.iter().map(Slot::id).chain(shadow).cloned().collect();
            inner.applied_generation = change.generation;
            let old = lineup.apply(change);
            inner.spent.extend(old);
            self.swaps.inc();
        }
        if signal & SAMPLE != 0
            && let Some(batch) = batch
        {
            inner.sample = Sample::of(batch);
            self.signal.fetch_and(!SAMPLE, Ordering::AcqRel);
        }
        drop(inner);
        self.loader.notify_one();
    }

    /// Waits until there may be a change; only before the first batch.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Asks for rows of the next batch.
    pub(crate) fn want_sample(&self) {
        self.signal.fetch_or(SAMPLE, Ordering::AcqRel);
    }

    /// Of `wanted`, the versions that this task neither has nor is about to have.
    pub(crate) fn missing(&self, wanted: &[Id]) -> Vec<Id> {
        let inner = self.lock();
        wanted.iter().filter(|id| !inner.has(id)).cloned().collect()
    }

    /// Hands a change over: `shadow` is the last of `wanted` if `has_shadow`. `made` are the versions that were
    /// [`missing`](Self::missing). A change that the task has not put into force yet is replaced.
    pub(crate) fn deliver(&self, delivery: Delivery<'_>, mut made: Vec<Box<Version>>) {
        let Delivery { wanted, has_shadow, plan, generation } = delivery;
        let mut inner = self.lock();
        let pending = inner.pending.take();
        let pending = pending.into_iter().flat_map(|change| change.acting.into_iter().chain(change.shadow));
        let waiting = pending.filter_map(|slot| match slot {
            Slot::New(version) => Some(version),
            Slot::Keep(_) => None,
        });
        made.extend(waiting);
        let spent = std::mem::take(&mut inner.spent);
        made.extend(spent);
        let mut slots: Vec<Slot> = Vec::with_capacity(wanted.len());
        for id in wanted {
            if inner.applied.contains(id) {
                slots.push(Slot::Keep(id.clone()));
            } else if let Some(at) = made.iter().position(|version| version.id == *id) {
                slots.push(Slot::New(made.swap_remove(at)));
            }
        }
        inner.spent = made;
        let shadow = if has_shadow { slots.pop() } else { None };
        inner.pending = Some(Change { acting: slots, plan: plan.clone(), shadow, generation });
        // Under the lock, so that a task which has just read the change before does not clear this signal.
        self.signal.fetch_or(CHANGE, Ordering::AcqRel);
        drop(inner);
        self.changed.notify_one();
    }

    /// What is to be looked after.
    pub(crate) fn look(&self) -> Seen {
        let mut inner = self.lock();
        Seen {
            generation: inner.applied_generation,
            spent: std::mem::take(&mut inner.spent),
            sample: inner.sample.take(),
            refused: std::mem::take(&mut inner.refused),
        }
    }

    /// Tells the loader that a version of this task did not bear the first rows.
    pub(crate) fn refuse(&self, id: Id, refused: Refused) {
        self.lock().refused.push((id, refused));
        self.loader.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A task that panics in the middle is begun anew with another seat.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is handed over to every seat.
#[derive(Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) wanted: &'a [Id],
    pub(crate) has_shadow: bool,
    pub(crate) plan: &'a iotml_core::model::Plan,
    pub(crate) generation: u64,
}

impl Inner {
    fn has(&self, id: &Id) -> bool {
        let pending = self.pending.iter().flat_map(|change| change.acting.iter().chain(&change.shadow));
        let mut new = pending.filter_map(|slot| match slot {
            Slot::New(version) => Some(&version.id),
            Slot::Keep(_) => None,
        });
        self.applied.contains(id) || self.spent.iter().any(|version| version.id == *id) || new.any(|new| new == id)
    }
}
