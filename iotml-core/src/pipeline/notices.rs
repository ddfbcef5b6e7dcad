//! What stages want those to know who ask how a pipeline is doing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the stages of one task say of themselves; cheap to clone, and all clones are the same list.
///
/// It is seen in [`Health::detail`](super::Health), and so at `/readyz`. Each thing is said under a name, and said once: what
/// is said later under the same name takes its place.
#[derive(Clone, Debug, Default)]
pub struct Notices(Arc<Mutex<BTreeMap<String, Notice>>>);

#[derive(Debug)]
struct Notice {
    text: String,
    /// The task is not ready as long as this stands.
    holds: bool,
}

impl Notices {
    /// The task is not ready, and this is what it waits for.
    pub fn hold(&self, name: &str, text: impl Into<String>) {
        self.lock().insert(name.to_owned(), Notice { text: text.into(), holds: true });
    }

    /// The task goes on, but somebody should know this.
    pub fn note(&self, name: &str, text: impl Into<String>) {
        self.lock().insert(name.to_owned(), Notice { text: text.into(), holds: false });
    }

    /// It is over.
    pub fn clear(&self, name: &str) {
        self.lock().remove(name);
    }

    pub(super) fn clear_all(&self) {
        self.lock().clear();
    }

    /// Whether the task waits for something.
    pub(super) fn hold_back(&self) -> bool {
        self.lock().values().any(|notice| notice.holds)
    }

    /// What is said at present; what holds the task back comes first.
    pub(super) fn texts(&self) -> Vec<String> {
        let notices = self.lock();
        let of = |holds: bool| notices.values().filter(move |notice| notice.holds == holds);
        of(true).chain(of(false)).map(|notice| notice.text.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Notice>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
