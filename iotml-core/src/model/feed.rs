//! Where a scorer hears of models.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{Announcer, ModelDrift, ModelSet, ModelStatus};
use crate::error::ConfigError;
use crate::plugin::{BuildContext, Plugin, PluginConfig};

/// Tells scorers which models are announced, and takes their reports.
///
/// # Contract
/// 1. [`watch`](ModelFeed::watch), [`report`](ModelFeed::report) and [`drifted`](ModelFeed::drifted) return at once; the feed has a
///    thread of its own where it needs one, from the first call on.
/// 2. A watch is complete once everything that had been announced when it began has been read.
/// 3. Only the newest set counts: a watch may pass over others that came before it.
/// 4. Trouble is shown, and does not end a watch: the feed goes on trying.
pub trait ModelFeed: Debug + Send + Sync {
    /// Begins to watch one model.
    fn watch(&self, model: &str) -> Watch;

    /// Takes a report. What cannot be sent is dropped, and logged.
    fn report(&self, status: ModelStatus);

    /// Takes the report that rows have drifted. What cannot be sent is dropped, and logged.
    fn drifted(&self, drift: ModelDrift);
}

/// What a feed knows of one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Everything that had been announced when the watch began has been read.
    pub is_complete: bool,
    /// What is in force; `None` where nothing was announced.
    pub set: Option<Arc<ModelSet>>,
    /// Why the newest announcement cannot be read, or the feed not be reached; what to do.
    pub trouble: Option<String>,
}

/// What a feed knows of one model, and every change of it.
#[derive(Clone, Debug)]
pub struct Watch(watch::Receiver<Known>);

/// The feed's half of a [`Watch`].
#[derive(Debug)]
pub struct Teller(watch::Sender<Known>);

impl Watch {
    /// A watch, and what tells it.
    pub fn new() -> (Teller, Self) {
        let (sender, receiver) = watch::channel(Known::default());
        (Teller(sender), Self(receiver))
    }

    /// What is known now; [`changed`](Watch::changed) waits for something newer than this.
    pub fn known(&mut self) -> Known {
        self.0.borrow_and_update().clone()
    }

    /// Waits until something else is known; false once the feed is gone.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Teller {
    /// Tells, if it is news.
    pub fn tell(&self, change: impl FnOnce(&mut Known)) {
        self.0.send_if_modified(|known| {
            let before = known.clone();
            change(known);
            *known != before
        });
    }

    /// Another watch of the same.
    pub fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }

    /// Whether nobody watches any more.
    pub fn is_alone(&self) -> bool {
        self.0.is_closed()
    }
}

/// The kinds of feeds a worker knows, by `type`; a scorer that follows one finds it here, whoever registered first.
#[derive(Clone, Default)]
pub struct ModelFeeds(Arc<RwLock<Kinds>>);

#[derive(Default)]
struct Kinds {
    feeds: Kind<Arc<dyn ModelFeed>>,
    announcers: Kind<Arc<dyn Announcer>>,
}

type Kind<S> = BTreeMap<&'static str, Plugin<S>>;

impl ModelFeeds {
    /// Adds a kind of feed.
    ///
    /// Panics if the name is taken, which is a defect of the program.
    pub fn add<C: PluginConfig>(
        &self,
        name: &'static str,
        about: &'static str,
        build: impl Fn(C, &BuildContext) -> Result<Arc<dyn ModelFeed>, ConfigError> + Send + Sync + 'static,
    ) {
        let taken = self.write().feeds.insert(name, Plugin::new(about, build));
        assert!(taken.is_none(), "a feed of type {name:?} is registered twice");
    }

    /// Adds the other side of a kind of feed, configured by the same table.
    ///
    /// Panics if the name is taken, which is a defect of the program.
    pub fn add_announcer<C: PluginConfig>(
        &self,
        name: &'static str,
        build: impl Fn(C, &BuildContext) -> Result<Arc<dyn Announcer>, ConfigError> + Send + Sync + 'static,
    ) {
        let taken = self.write().announcers.insert(name, Plugin::new("announces models", build));
        assert!(taken.is_none(), "an announcer of type {name:?} is registered twice");
    }

    /// Builds the feed of a table with a `type`; opens nothing.
    ///
    /// # Errors
    /// [`ConfigError`] if there is no such feed, or its configuration does not fit.
    pub fn build(&self, table: &Map<String, Value>, context: &BuildContext) -> Result<Arc<dyn ModelFeed>, ConfigError> {
        build(&self.read().feeds, table, context)
    }

    /// Builds the other side of the feed of a table; opens nothing.
    ///
    /// # Errors
    /// [`ConfigError`] if nothing can be announced on such a feed, or its configuration does not fit.
    pub fn build_announcer(
        &self,
        table: &Map<String, Value>,
        context: &BuildContext,
    ) -> Result<Arc<dyn Announcer>, ConfigError> {
        build(&self.read().announcers, table, context)
    }

    /// The JSON Schema of every kind of feed, by `type` and without it.
    pub fn schemas(&self, generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        self.read().feeds.iter().map(|(name, plugin)| (*name, plugin.schema(generator))).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Kinds> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kinds> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build<S: 'static>(known: &Kind<S>, table: &Map<String, Value>, context: &BuildContext) -> Result<S, ConfigError> {
    let names =
        || if known.is_empty() { "none".to_owned() } else { known.keys().copied().collect::<Vec<_>>().join(", ") };
    let mut own = table.clone();
    let kind = own.remove("type");
    let Some(kind) = kind.as_ref().and_then(Value::as_str) else {
        return Err(ConfigError::new(format!("`type` of the feed is missing; known here: {}", names())));
    };
    let plugin = known.get(kind);
    let plugin = plugin.ok_or_else(|| ConfigError::new(format!("unknown feed {kind:?}; known here: {}", names())))?;
    plugin.build(Value::Object(own), context)
}
