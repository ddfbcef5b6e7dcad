//! What the stages of one task share.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// One value of each type, made by whichever stage of a task asks first: how sinks that know nothing of each other come to
/// use the same producer.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>);

impl Shared {
    /// The value of type `T`.
    pub fn get<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        // Nothing can panic while it is locked but a default, before anything has changed.
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = values.entry(TypeId::of::<T>()).or_insert_with(|| Arc::<T>::default());
        // Always the type that the key says.
        value.clone().downcast().unwrap_or_default()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_value_is_made_once_for_all_who_ask() {
        let shared = Shared::default();
        shared.clone().get::<AtomicUsize>().store(7, Ordering::Relaxed);
        assert_eq!(shared.get::<AtomicUsize>().load(Ordering::Relaxed), 7);
        assert_eq!(Shared::default().get::<AtomicUsize>().load(Ordering::Relaxed), 0, "another task has its own");
    }
}
