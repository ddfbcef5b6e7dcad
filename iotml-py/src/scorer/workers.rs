//! One copy of a model for every thread that scores at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};
use std::thread::available_parallelism;

use iotml_model::{ModelError, RowScorer};

/// Copies of a model, made when threads meet; at most one for each processor, since more could not run at once.
pub struct Workers {
    /// Filled from the front.
    slots: Box<[OnceLock<Mutex<RowScorer>>]>,
    turn: AtomicUsize,
}

impl Workers {
    /// Begins with one copy.
    pub fn new(first: RowScorer) -> Self {
        let most = available_parallelism().map_or(1, usize::from);
        let slots = std::iter::once(OnceLock::from(Mutex::new(first)));
        let slots = slots.chain(std::iter::repeat_with(OnceLock::new)).take(most).collect();
        Workers { slots, turn: AtomicUsize::new(0) }
    }

    /// Does `work` with a copy that no other thread uses meanwhile. Not to be called with the GIL held, since it may wait.
    pub fn with<T>(&self, work: impl FnOnce(&mut RowScorer) -> T) -> Result<T, ModelError> {
        let mut n_open = 0;
        for worker in self.slots.iter().map_while(OnceLock::get) {
            match worker.try_lock() {
                Ok(mut worker) => return Ok(work(&mut worker)),
                // What a panic left in its buffers is overwritten by the next rows.
                Err(TryLockError::Poisoned(worker)) => return Ok(work(&mut worker.into_inner())),
                Err(TryLockError::WouldBlock) => n_open += 1,
            }
        }
        // All are at work, so wait for one, and leave one more behind for the next time.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % n_open.max(1);
        let Some(worker) = self.slots.get(turn).and_then(OnceLock::get) else {
            unreachable!("the first is always there")
        };
        let mut worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.slots.get(n_open)
            && slot.get().is_none()
        {
            // Another thread may have been quicker; then this copy is not needed.
            drop(slot.set(Mutex::new(worker.another()?)));
        }
        Ok(work(&mut worker))
    }
}
