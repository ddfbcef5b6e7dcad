//! What a scorer remembers, by partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use iotml_core::batch::{Lane, LaneInfo};

/// One `T` for every partition, found by the lane that a row came on.
#[derive(Debug)]
pub(crate) struct Partitions<T> {
    known: BTreeMap<Arc<str>, T>,
    lanes: HashMap<Lane, Arc<str>>,
}

impl<T> Partitions<T> {
    pub(crate) fn new() -> Self {
        Self { known: BTreeMap::new(), lanes: HashMap::new() }
    }

    /// Uses that of a row's partition, made if it is new. Rows whose lane is nobody's have one in common.
    pub(crate) fn with<R>(
        &mut self,
        lane: Option<Lane>,
        make: impl FnOnce() -> T,
        work: impl FnOnce(&mut T) -> R,
    ) -> R {
        let partition = lane.and_then(|lane| self.lanes.get(&lane));
        let partition: &str = partition.map_or("", |partition| partition);
        // Looked up first, since a map's entry wants an owned key, and nearly always it is there.
        match self.known.get_mut(partition) {
            Some(known) => work(known),
            None => work(self.known.entry(Arc::from(partition)).or_insert_with(make)),
        }
    }

    /// That of a partition.
    pub(crate) fn get(&self, partition: &str) -> Option<&T> {
        self.known.get(partition)
    }

    /// That of every partition.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut T)> {
        self.known.iter_mut()
    }

    /// That of a partition, made if it is new.
    pub(crate) fn entry(&mut self, partition: &Arc<str>, make: impl FnOnce() -> T) -> &mut T {
        self.known.entry(partition.clone()).or_insert_with(make)
    }

    /// Forgets all partitions, not their lanes.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
    }

    /// For [`Stateful::assigned`](iotml_core::state::Stateful::assigned).
    pub(crate) fn assigned(&mut self, lanes: &[LaneInfo]) {
        for info in lanes {
            // The partition's former lane is gone for good.
            self.lanes.retain(|_, partition| *partition != info.partition);
            self.lanes.insert(info.lane, info.partition.clone());
        }
    }

    /// For [`Stateful::restore`](iotml_core::state::Stateful::restore): what a snapshot holds, `None` if it is `of` something
    /// else and so is dropped.
    pub(crate) fn restore(&mut self, partition: &str, remembered: Option<T>, of: &str) {
        match remembered {
            Some(remembered) => _ = self.known.insert(Arc::from(partition), remembered),
            None => {
                tracing::warn!(partition, "the snapshot is of {of} and is dropped");
                self.known.remove(partition);
            }
        }
    }

    /// For [`Stateful::forget`](iotml_core::state::Stateful::forget).
    pub(crate) fn forget(&mut self, partition: &str) {
        self.known.remove(partition);
        self.lanes.retain(|_, of| **of != *partition);
    }
}
