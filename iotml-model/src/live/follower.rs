//! What the tasks that follow the same announcements share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use iotml_core::error::ConfigError;
use iotml_core::model::ModelFeed;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::HumanDuration;
use iotml_core::score::ScoreError;
use tokio::sync::Notify;

use super::config::FollowConfig;
use super::loader::Loader;
use super::scorer::LiveScorer;
use super::seat::Seat;
use crate::model::Candidate;
use crate::scorer::OnnxScorerConfig;
use crate::watch::Watcher;

/// Follows the announcements of one model for all tasks of a pipeline; cheap to clone.
///
/// Its thread starts when the first of its scorers is opened, and ends with the last clone.
#[derive(Clone)]
pub struct Follower(pub(super) Arc<Handle>);

pub(super) struct Handle {
    shared: Arc<Shared>,
    /// Whether the fallback model keeps state, which is asked before anything is opened.
    remembers: bool,
}

/// What the loader and the scorers share.
pub(crate) struct Shared {
    pub(crate) config: Arc<OnnxScorerConfig>,
    pub(crate) follow: Arc<FollowConfig>,
    pub(crate) feed: Arc<dyn ModelFeed>,
    /// Compares rows with those of training, if that is wanted.
    pub(crate) watcher: Option<Watcher>,
    /// Tells the loader that there is something to look after.
    pub(crate) wake: Arc<Notify>,
    seats: Mutex<Vec<Weak<Seat>>>,
    is_started: Mutex<bool>,
    is_over: AtomicBool,
}

impl Follower {
    /// Follows what `feed` announces, as `config.follow` says. `config.model`, if there is one, scores until a model is
    /// announced.
    ///
    /// # Errors
    /// [`ConfigError`] if there is nothing to follow, or the model in the configuration cannot be used.
    pub fn new(config: OnnxScorerConfig, feed: Arc<dyn ModelFeed>) -> Result<Self, ConfigError> {
        config.check()?;
        let Some(follow) = config.follow.clone() else {
            return Err(ConfigError::new("says nothing of what to follow").of_key("follow"));
        };
        let mut remembers = false;
        if let Some(file) = &config.model {
            let candidate = Candidate::read(file, &config.open_options()).map_err(|error| config.blame(error))?;
            remembers = candidate.manifest.kind == crate::Kind::NextEvent;
        }
        let watcher = config.watch.clone().map(|watch| Watcher::new(watch, Some(feed.clone()))).transpose()?;
        let shared = Shared {
            watcher,
            config: Arc::new(config),
            follow: Arc::new(follow),
            feed,
            wake: Arc::default(),
            seats: Mutex::default(),
            is_started: Mutex::new(false),
            is_over: AtomicBool::new(false),
        };
        Ok(Follower(Arc::new(Handle { shared: Arc::new(shared), remembers })))
    }

    /// A scorer for one task.
    pub fn scorer(&self) -> LiveScorer {
        LiveScorer::new(self.clone())
    }

    /// Whether what is configured keeps state.
    pub(crate) fn remembers(&self) -> bool {
        self.0.remembers
    }

    /// The configuration, and how long a model may take over the first rows of a batch.
    pub(crate) fn limits(&self) -> (&OnnxScorerConfig, HumanDuration) {
        let shared = &self.0.shared;
        (&shared.config, shared.follow.max_batch_time)
    }

    /// A place for a task, at which it is served from now on.
    pub(crate) fn sit(&self, task: &TaskContext) -> Result<Arc<Seat>, ScoreError> {
        let shared = &self.0.shared;
        let seat = Arc::new(Seat::new(task, shared.wake.clone()));
        lock(&shared.seats).push(Arc::downgrade(&seat));
        let mut is_started = lock(&shared.is_started);
        if !*is_started {
            let loader = Loader::new(shared.clone());
            let name = format!("model-{}", shared.follow.name);
            let spawned = thread::Builder::new().name(name).spawn(move || loader.run());
            spawned.map_err(|error| ScoreError::retryable_from("no thread can be started for models", error))?;
            *is_started = true;
        }
        shared.wake.notify_one();
        Ok(seat)
    }
}

impl Shared {
    /// The places of all tasks there are.
    pub(crate) fn seats(&self) -> Vec<Arc<Seat>> {
        let mut seats = lock(&self.seats);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.iter().filter_map(Weak::upgrade).collect()
    }

    /// Nobody is left to load anything for.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.shared.wake.notify_one();
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("follow", &self.0.shared.follow).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
