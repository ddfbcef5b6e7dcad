//! What all tasks of a pipeline share.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use iotml_core::error::ConfigError;
use iotml_core::model::ModelFeed;
use iotml_core::pipeline::TaskContext;

use super::config::WatchConfig;
use super::observer::Observer;
use super::watched::{Shown, Watched};
use crate::manifest::Manifest;

/// Compares the live rows of every version with its training rows, for all tasks of a pipeline in this process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Watcher(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    config: Arc<WatchConfig>,
    feed: Option<Arc<dyn ModelFeed>>,
    known: Mutex<Known>,
    shown: Arc<Shown>,
}

#[derive(Debug, Default)]
struct Known {
    /// There as long as a task scores with them.
    watched: Vec<Weak<Watched>>,
    /// The version of which it was said last that it cannot be watched.
    unwatched: Option<String>,
}

impl Watcher {
    /// A watcher that reports by `feed`; without one, to the log and in metrics only.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key whose value cannot be right.
    pub fn new(config: WatchConfig, feed: Option<Arc<dyn ModelFeed>>) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Watcher(Arc::new(Shared { config: Arc::new(config), feed, known: Mutex::default(), shown: Arc::default() })))
    }

    /// What counts the rows that a task scores with a version; `None`, and said in the log, if its manifest has no distribution.
    pub(crate) fn observer(&self, manifest: &Manifest, task: &TaskContext) -> Option<Observer> {
        // What is kept is whole after every statement.
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { watched, unwatched } = &mut *known;
        watched.retain(|watched| watched.strong_count() > 0);
        if let Some(same) = watched.iter().filter_map(Weak::upgrade).find(|watched| watched.is(manifest)) {
            return Some(Observer::new(same));
        }
        let Shared { config, feed, shown, .. } = &*self.0;
        let Some(new) = Watched::new(manifest, config.clone(), feed.clone(), shown.clone(), task) else {
            if unwatched.as_ref() != Some(&manifest.version) {
                let (model, version) = (&manifest.name, &manifest.version);
                tracing::warn!(model, version, "{NO_DISTRIBUTION}");
                *unwatched = Some(manifest.version.clone());
            }
            return None;
        };
        let new = Arc::new(new);
        watched.push(Arc::downgrade(&new));
        Some(Observer::new(new))
    }
}

/// Why a model cannot be watched, and what to do.
pub(crate) const NO_DISTRIBUTION: &str = "its manifest has no distribution of the training rows, so live rows cannot be compared with them; export it again with this iotml, and with its training rows";
