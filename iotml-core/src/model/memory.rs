//! A feed in this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Known, ModelDrift, ModelFeed, ModelSet, ModelStatus, Teller, Watch};

/// A feed in memory, for programs that announce models themselves, and for tests.
#[derive(Debug, Default)]
pub struct MemoryFeed {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: HashMap<String, Known>,
    tellers: HashMap<String, Teller>,
    is_held: bool,
    reports: Vec<ModelStatus>,
    drifts: Vec<ModelDrift>,
}

impl MemoryFeed {
    /// A feed in which nothing is announced yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A feed that has not been read to its end yet, until [`complete`](MemoryFeed::complete).
    pub fn held() -> Self {
        Self { state: Mutex::new(State { is_held: true, ..State::default() }) }
    }

    /// The feed has been read to its end.
    pub fn complete(&self) {
        let mut state = self.lock();
        state.is_held = false;
        let State { tellers, .. } = &*state;
        tellers.values().for_each(|teller| teller.tell(|known| known.is_complete = true));
    }

    /// Announces a set, which is not checked here.
    pub fn announce(&self, set: ModelSet) {
        let name = set.model.clone();
        self.tell(&name, |known| (known.set, known.trouble) = (Some(set.into()), None));
    }

    /// Shows that the newest announcement of `model` cannot be read.
    pub fn trouble(&self, model: &str, trouble: &str) {
        self.tell(model, |known| known.trouble = Some(trouble.to_owned()));
    }

    /// All reports so far, in the order they came.
    pub fn reports(&self) -> Vec<ModelStatus> {
        self.lock().reports.clone()
    }

    /// All reports of drift so far, in the order they came.
    pub fn drifts(&self) -> Vec<ModelDrift> {
        self.lock().drifts.clone()
    }

    fn tell(&self, model: &str, change: impl FnOnce(&mut Known)) {
        let mut state = self.lock();
        let is_complete = !state.is_held;
        let known = state.known.entry(model.to_owned()).or_default();
        change(known);
        known.is_complete = is_complete;
        let known = known.clone();
        if let Some(teller) = state.tellers.get(model) {
            teller.tell(|told| *told = known);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is kept is whole after every statement, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ModelFeed for MemoryFeed {
    fn watch(&self, model: &str) -> Watch {
        let mut state = self.lock();
        let known = state.known.get(model).cloned().unwrap_or_default();
        let known = Known { is_complete: !state.is_held, ..known };
        let teller = state.tellers.entry(model.to_owned()).or_insert_with(|| Watch::new().0);
        teller.tell(|told| *told = known);
        teller.watch()
    }

    fn report(&self, status: ModelStatus) {
        self.lock().reports.push(status);
    }

    fn drifted(&self, drift: ModelDrift) {
        self.lock().drifts.push(drift);
    }
}
