//! The thread that watches announcements and brings what is announced into force, beside the stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use iotml_core::arrow::datatypes::Field;
use iotml_core::model::{Announcement, Digest, Known, ModelSet, ModelState, Plan, Rollout, Watch};
use iotml_core::pipeline::Delivery as Guarantee;
use tokio::runtime::Builder;

use super::check::{Running, Surroundings};
use super::fetch::Places;
use super::follower::Shared;
use super::refused::Refused;
use super::sample::{MAX_SAMPLE_ROWS, Sample};
use super::seat::{Delivery, Seat};
use super::version::{Id, Version};
use crate::manifest::Kind;
use crate::model::{Candidate, Model};
use crate::work::Work;

/// The pauses between two tries of what may pass.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Loader {
    shared: Arc<Shared>,
    watch: Watch,
    places: Places,
    /// The versions that passed; each opens the ones of the tasks.
    loaded: Vec<Loaded>,
    force: Option<Force>,
    /// What was refused for good, of the versions that are still announced.
    refused: HashMap<Id, Refused>,
    /// What is to be said of versions that are announced and not used, by version.
    said: BTreeMap<String, String>,
    /// What was said in the turn before, so that it is reported once.
    said_before: BTreeMap<String, String>,
    sample: Option<Arc<Sample>>,
    generation: u64,
    /// Of every seat, by its address, the generation it is known to have put into force and the versions reported as ready.
    seats: Vec<(Arc<Seat>, u64, Vec<Id>)>,
    retry: Option<Instant>,
    pause: Duration,
}

struct Loaded {
    id: Id,
    spare: Model,
}

/// What is in force, or will be as soon as each task comes to its next batch.
struct Force {
    wanted: Vec<Id>,
    has_shadow: bool,
    plan: Plan,
    running: Running,
    /// Its versions, for people.
    says: String,
}

/// A version that is wanted.
struct Wanted {
    id: Id,
    /// `None` for the model of the configuration.
    announced: Option<Announcement>,
    rollout: Rollout,
}

impl Loader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let watch = shared.feed.watch(&shared.follow.name);
        let places = Places::open(&shared.config, &shared.follow);
        Loader {
            shared,
            watch,
            places,
            loaded: Vec::new(),
            force: None,
            refused: HashMap::new(),
            said: BTreeMap::new(),
            said_before: BTreeMap::new(),
            sample: None,
            generation: 0,
            seats: Vec::new(),
            retry: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Runs until nobody follows any more.
    pub(crate) fn run(mut self) {
        match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                runtime.block_on(self.follow());
                // A check that was left to itself must not hold up the end.
                runtime.shutdown_background();
            }
            Err(error) => self.shared.hold(&format!("no runtime can be made to load models: {error}")),
        }
    }

    async fn follow(&mut self) {
        while !self.shared.is_over() {
            let heard = Instant::now();
            let known = self.watch.known();
            self.look_after();
            self.retry = None;
            if known.is_complete {
                self.turn(&known, heard).await;
            } else {
                let name = &self.shared.follow.name;
                let why = known.trouble.as_deref().map_or(String::new(), |trouble| format!(": {trouble}"));
                self.shared.hold(&format!("waits until what is announced of model {name} has been read{why}"));
            }
            if self.retry.is_none() {
                self.pause = FIRST_PAUSE;
            }
            self.wait().await;
        }
    }

    /// Waits until there is something to be done about announcements.
    async fn wait(&mut self) {
        loop {
            let at = self.retry.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let n_seats = self.seats.len();
            let wake = self.shared.wake.clone();
            let is_told = tokio::select! {
                is_told = self.watch.changed() => Some(is_told),
                () = wake.notified() => None,
                () = tokio::time::sleep_until(at.into()) => return,
            };
            match is_told {
                Some(true) => return,
                Some(false) => {
                    self.shared.note("the feed of announcements has ended; what runs goes on");
                    wake.notified().await;
                }
                None => {}
            }
            let had_sample = self.sample.is_some();
            self.look_after();
            // A first row to look at may be what a retry waits for; a new seat may be one that must be told why it waits.
            let has_news = self.retry.is_some() && !had_sample && self.sample.is_some();
            if self.shared.is_over() || has_news || (self.force.is_none() && self.seats.len() != n_seats) {
                return;
            }
        }
    }

    /// Makes what is known now so, and shows how that went.
    async fn turn(&mut self, known: &Known, heard: Instant) {
        let mut before = std::mem::take(&mut self.said);
        self.said_before.append(&mut before);
        self.make_so(known, heard).await;
        self.said_before.clear();
        self.show();
    }

    async fn make_so(&mut self, known: &Known, heard: Instant) {
        self.seats.iter().for_each(|(seat, ..)| seat.want_sample());
        let name = self.shared.follow.name.clone();
        if let Some(trouble) = &known.trouble {
            self.refuse("", &Refused::for_good(trouble.clone()));
        }
        let set = known.set.as_deref().cloned().unwrap_or_else(|| ModelSet::new(&name));
        if let Err(error) = set.check() {
            self.refuse("", &Refused::for_good(error.to_string()));
            return self.fall_back(heard).await;
        }
        let wanted = self.wanted(&set);
        self.refused.retain(|id, _| wanted.iter().any(|wanted| wanted.id == *id));
        if wanted.iter().all(|wanted| !wanted.rollout.acts()) {
            if self.force.is_some() && known.set.is_some() && known.trouble.is_none() {
                let advice = "announce one that acts, or stop the pipeline";
                let cause = format!("no version of model {name} is announced as one whose scores count; {advice}");
                self.refuse("", &Refused::for_good(cause));
            }
            return self.fall_back(heard).await;
        }
        let mut good = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            match self.load(&wanted).await {
                Ok(()) => good.push(wanted),
                Err(refused) => {
                    if refused.may_pass {
                        self.try_again();
                    } else {
                        self.refused.insert(wanted.id.clone(), refused.clone());
                    }
                    self.refuse(&wanted.id.version, &refused);
                }
            }
        }
        // A canary or a shadow that fails is left out; without whom most rows go to, nothing changes.
        let scores_most = |wanted: &Wanted| matches!(wanted.rollout, Rollout::Full | Rollout::Weighted { .. });
        let needs_most = set.acting().any(|it| !matches!(it.rollout, Rollout::Canary { .. })) || self.is_pinned();
        let is_whole = if needs_most { good.iter().any(scores_most) } else { good.iter().any(|it| it.rollout.acts()) };
        let lost_full =
            set.acting().any(|it| it.rollout == Rollout::Full) && !good.iter().any(|it| it.rollout == Rollout::Full);
        if !is_whole || (lost_full && !self.is_pinned()) {
            return self.fall_back(heard).await;
        }
        self.bring_in(good, heard);
    }

    fn is_pinned(&self) -> bool {
        self.shared.follow.version.is_some()
    }

    /// The versions of a set that are wanted here, those first that score most rows, a shadow last.
    fn wanted(&self, set: &ModelSet) -> Vec<Wanted> {
        let of = |announced: &Announcement, rollout| Wanted {
            id: Id {
                version: announced.version.clone(),
                file: announced.sha256,
                manifest: announced.manifest.as_ref().map(|manifest| Digest::of(manifest.to_string().as_bytes())),
            },
            announced: Some(announced.clone()),
            rollout,
        };
        if let Some(version) = &self.shared.follow.version {
            let pinned = set.version(version).filter(|announced| announced.is_ready());
            return pinned.map(|announced| of(announced, Rollout::Full)).into_iter().collect();
        }
        let mut acting: Vec<Wanted> = set.acting().map(|announced| of(announced, announced.rollout)).collect();
        acting.sort_by_key(|wanted| matches!(wanted.rollout, Rollout::Canary { .. }));
        acting.extend(set.shadow().map(|announced| of(announced, Rollout::Shadow)));
        acting
    }

    /// Nothing that is announced can be put into force: what runs goes on, else the model of the configuration, else all wait.
    async fn fall_back(&mut self, heard: Instant) {
        let name = self.shared.follow.name.clone();
        if self.force.is_some() {
            return;
        }
        let Some(file) = self.shared.config.model.clone() else {
            let why = self.said.values().next();
            let why = why.map_or_else(|| "none is announced; publish one, or set `model`".to_owned(), Clone::clone);
            return self.shared.hold(&format!("waits for model {name}: {why}"));
        };
        let options = self.shared.config.open_options();
        let opened = tokio::task::spawn_blocking(move || {
            let candidate = Candidate::read(&file, &options)?;
            let digest = candidate.digest();
            Ok((candidate.open(&options)?, digest))
        });
        let opened = opened.await.unwrap_or_else(|_| {
            let source = std::io::Error::other("opening it broke off");
            Err(crate::ModelError::Read { path: std::path::PathBuf::new(), source })
        });
        match opened {
            Ok((spare, file)) => {
                let id = Id { version: spare.manifest.version.clone(), file, manifest: None };
                self.loaded.push(Loaded { id: id.clone(), spare });
                self.bring_in(vec![Wanted { id, announced: None, rollout: Rollout::Full }], heard);
            }
            Err(error) => {
                self.try_again();
                self.shared.hold(&format!("waits for model {name}: the one in the configuration is refused: {error}"));
            }
        }
    }

    /// Sees to it that a version is loaded.
    async fn load(&mut self, wanted: &Wanted) -> Result<(), Refused> {
        if let Some(refused) = self.refused.get(&wanted.id) {
            return Err(refused.clone());
        }
        let Some(announced) = &wanted.announced else { return Ok(()) };
        if self.loaded.iter().any(|loaded| loaded.id == wanted.id) {
            return Ok(());
        }
        if !self.said_before.contains_key(&wanted.id.version) {
            self.shared.report(&wanted.id.version, ModelState::Loading, None, None);
        }
        let limit = self.shared.follow.max_check_time.0;
        let fetched = tokio::time::timeout(limit, self.places.fetch(announced)).await;
        let late = || Refused::for_now(format!("{} did not come within {limit:?}", announced.place.describe()));
        let fetched = fetched.map_err(|_| late())??;
        self.look_after();
        let surroundings = self.surroundings();
        let (announced, acts) = (announced.clone(), wanted.rollout.acts());
        let mut check = tokio::task::spawn_blocking(move || surroundings.check(&announced, fetched, acts));
        let wake = self.shared.wake.clone();
        let checked = loop {
            tokio::select! {
                checked = &mut check => break checked,
                () = wake.notified() => self.look_after(),
            }
        };
        let spare = checked.unwrap_or_else(|_| Err(Refused::for_now("its checks broke off")))?;
        self.loaded.push(Loaded { id: wanted.id.clone(), spare });
        Ok(())
    }

    fn surroundings(&self) -> Surroundings {
        let is_exactly_once = |seat: &Arc<Seat>| seat.task.delivery == Guarantee::ExactlyOnce;
        Surroundings {
            config: self.shared.config.clone(),
            follow: self.shared.follow.clone(),
            sample: self.sample.clone(),
            running: self.force.as_ref().map(|force| force.running.clone()),
            is_exactly_once: self.seats.iter().any(|(seat, ..)| is_exactly_once(seat)),
        }
    }

    /// Hands versions that are loaded to all tasks.
    fn bring_in(&mut self, good: Vec<Wanted>, heard: Instant) {
        let ids: Vec<Id> = good.iter().map(|wanted| wanted.id.clone()).collect();
        let has_shadow = good.iter().any(|wanted| wanted.rollout == Rollout::Shadow);
        let plan = Plan::of(&good.iter().map(|wanted| wanted.rollout).collect::<Vec<_>>());
        let is_news = self.force.as_ref().is_none_or(|force| (&force.wanted, &force.plan) != (&ids, &plan));
        if !is_news {
            return;
        }
        let before = self.generation;
        self.generation += 1;
        let says: Vec<&str> = ids.iter().map(|id| id.version.as_str()).collect();
        let says = format!("version {}", says.join(", "));
        let running = match self.running(&ids[0]) {
            Ok(running) => running,
            Err(refused) => return self.refuse(&ids[0].version.clone(), &refused),
        };
        let old = self.force.replace(Force { wanted: ids, has_shadow, plan, running, says });
        let seats: Vec<Arc<Seat>> = self.seats.iter().map(|(seat, ..)| seat.clone()).collect();
        let served = seats.iter().try_for_each(|seat| self.serve(seat));
        if let Err(refused) = served {
            let version = self.force.as_ref().map(|force| force.wanted[0].version.clone()).unwrap_or_default();
            (self.force, self.generation) = (old, before);
            self.try_again();
            return self.refuse(&version, &refused);
        }
        let took = heard.elapsed().as_secs_f64();
        seats.iter().for_each(|seat| seat.load_seconds.observe(took));
        let force = self.force.as_ref();
        self.loaded.retain(|loaded| force.is_some_and(|force| force.wanted.contains(&loaded.id)));
    }

    fn running(&self, first: &Id) -> Result<Running, Refused> {
        let loaded = self.loaded.iter().find(|loaded| loaded.id == *first);
        let Model { manifest, signature, .. } =
            &loaded.ok_or_else(|| Refused::for_now("it was let go while it was being loaded"))?.spare;
        let work = Work::new(manifest, signature, &self.shared.config);
        let fields: Vec<Field> = work.map_err(|error| Refused::for_good(error.to_string()))?.fields().to_vec();
        let features = manifest.features.iter().filter(|feature| feature.constant.is_none());
        let features = features.map(|feature| feature.name.clone()).collect();
        Ok(Running { fields, remembers: manifest.kind == Kind::NextEvent, features })
    }

    /// Hands what is in force to one task, opening for it what it lacks.
    fn serve(&self, seat: &Seat) -> Result<(), Refused> {
        let Some(force) = &self.force else { return Ok(()) };
        let mut made = Vec::new();
        for id in seat.missing(&force.wanted) {
            let Some(loaded) = self.loaded.iter().find(|loaded| loaded.id == id) else { continue };
            let cannot = |error: crate::ModelError| Refused::for_now(format!("it cannot be opened once more: {error}"));
            let mut model = loaded.spare.another().map_err(cannot)?;
            // Buffers are made at the first run, which need not be one that rows wait for.
            let n_rows = self.sample.as_ref().map_or(MAX_SAMPLE_ROWS, |sample| sample.columns.num_rows());
            model.run(&vec![0.0; model.input_width() * n_rows]).map_err(cannot)?;
            let work = Work::new(&model.manifest, &model.signature, &self.shared.config);
            let mut work = work.map_err(|error| Refused::for_good(error.to_string()))?;
            work.register(&model, &seat.task.metrics);
            let watcher = self.shared.watcher.as_ref();
            work.watch(watcher.and_then(|watcher| watcher.observer(&model.manifest, &seat.task)));
            made.push(Box::new(Version::new(id, model, work)));
        }
        let Force { wanted, has_shadow, plan, .. } = force;
        let delivery = Delivery { wanted, has_shadow: *has_shadow, plan, generation: self.generation };
        // Before the task can be seen to go on, or it would for a moment run and say that it waits.
        seat.task.notices.clear(&self.shared.notice());
        seat.deliver(delivery, made);
        Ok(())
    }

    /// Looks after the tasks: serves new ones, reports what they put into force, frees what they let go, takes their samples.
    fn look_after(&mut self) {
        let seats = self.shared.seats();
        self.seats.retain(|(known, ..)| seats.iter().any(|seat| Arc::ptr_eq(seat, known)));
        for seat in &seats {
            if !self.seats.iter().any(|(known, ..)| Arc::ptr_eq(seat, known)) {
                if let Err(refused) = self.serve(seat) {
                    // It is a new one again at the next look.
                    seat.task.notices.hold(&self.shared.notice(), format!("waits for its model: {}", refused.cause));
                    self.try_again();
                    continue;
                }
                self.seats.push((seat.clone(), 0, Vec::new()));
            }
        }
        if self.seats.iter().any(|(_, generation, _)| *generation == 0) {
            self.show();
        }
        drop(seats);
        for (seat, generation, ready) in &mut self.seats {
            let seen = seat.look();
            if let Some(sample) = seen.sample {
                self.sample = Some(Arc::new(sample));
            }
            if seen.generation > *generation
                && seen.generation == self.generation
                && let Some(force) = &self.force
            {
                *generation = seen.generation;
                for id in force.wanted.iter().filter(|id| !ready.contains(id)) {
                    self.shared.report(&id.version, ModelState::Ready, None, Some(&seat.task));
                }
                ready.clone_from(&force.wanted);
            }
            let others: Vec<(String, String)> = self
                .loaded
                .iter()
                .map(|Loaded { spare, .. }| (spare.manifest.name.clone(), spare.manifest.version.clone()))
                .collect();
            for version in seen.spent {
                version.unregister(&seat.task.metrics, &others);
                let says = version.id.version.clone();
                drop(version);
                self.shared.report(&says, ModelState::Unloading, None, Some(&seat.task));
            }
        }
        // Nobody else holds on to a seat for longer than a look at it.
        self.seats.retain(|(seat, ..)| Arc::strong_count(seat) > 1);
    }

    /// Says once that a version is not used, and why.
    fn refuse(&mut self, version: &str, refused: &Refused) {
        let name = &self.shared.follow.name;
        let of = if version.is_empty() { format!("model {name}") } else { format!("model {name} {version}") };
        let goes_on = match &self.force {
            Some(force) => format!("{} goes on", force.says),
            None => "there is none before it to go on with".to_owned(),
        };
        let text = format!("{of} is UNAVAILABLE: {}", refused.cause);
        let is_said = self.said_before.get(version) == Some(&text);
        self.said.insert(version.to_owned(), text);
        if is_said {
            return;
        }
        let cause = format!("{}; {goes_on}", refused.cause);
        self.shared.report(version, ModelState::Unavailable, Some(&cause), None);
        self.seats.iter().for_each(|(seat, ..)| _ = seat.failures.inc());
    }

    /// Shows at `/readyz` what is announced and not used.
    fn show(&self) {
        let Some(force) = &self.force else { return };
        let mut texts: Vec<&str> = self.said.values().map(String::as_str).collect();
        let goes_on = format!("{} goes on", force.says);
        texts.push(&goes_on);
        if self.said.is_empty() { self.shared.clear() } else { self.shared.note(&texts.join("; ")) }
    }

    fn try_again(&mut self) {
        if self.retry.is_none() {
            self.retry = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}
