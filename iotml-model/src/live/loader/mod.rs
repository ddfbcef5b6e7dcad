//! The thread that watches announcements and brings what is announced into force, beside the stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use iotml_core::arrow::datatypes::Field;
use iotml_core::model::{Announcement, Digest, Known, ModelSet, ModelState, Plan, Rollout, Watch};
use tokio::runtime::Builder;

use super::check::Running;
use super::fetch::Places;
use super::follower::Shared;
use super::refused::Refused;
use super::sample::{MAX_SAMPLE_ROWS, Sample};
use super::seat::{Delivery, Seat};
use super::version::{Id, Trial, Version};
use crate::manifest::Kind;
use crate::model::{Candidate, Model};
use crate::work::Work;

mod load;

/// The pauses between two tries of what may pass.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

pub(crate) struct Loader {
    shared: Arc<Shared>,
    watch: Watch,
    places: Arc<Places>,
    /// The versions that passed; each opens the ones of the tasks.
    loaded: Vec<Loaded>,
    force: Option<Force>,
    /// What was refused for good, of the versions that are still announced.
    refused: HashMap<Id, Refused>,
    /// How often what a few tries decide was tried.
    tries: HashMap<Id, u32>,
    /// The version whose fetch was ended last for what was announced meanwhile.
    interrupted: Option<Id>,
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
    /// Whether it has been shown rows of the stream, which there may not have been yet.
    proof: Arc<AtomicBool>,
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

/// Something else has been announced meanwhile.
struct News;

impl Wanted {
    fn new(announced: &Announcement, rollout: Rollout) -> Self {
        let manifest = announced.manifest.as_ref();
        let id = Id {
            version: announced.version.clone(),
            file: announced.sha256,
            manifest: manifest.map(|manifest| Digest::of(manifest.to_string().as_bytes())),
        };
        Wanted { id, announced: Some(announced.clone()), rollout }
    }
}

impl Loader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let watch = shared.feed.watch(&shared.follow.name);
        let places = Arc::new(Places::open(&shared.config, &shared.follow));
        Loader {
            shared,
            watch,
            places,
            loaded: Vec::new(),
            force: None,
            refused: HashMap::new(),
            tries: HashMap::new(),
            interrupted: None,
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
            self.retry = None;
            self.look_after();
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
            let had_force = self.force.is_some();
            self.look_after();
            if had_force && self.force.is_none() {
                return;
            }
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
        if self.make_so(known, heard).await.is_err() {
            // What was left off is still so.
            let before = std::mem::take(&mut self.said_before);
            before.into_iter().for_each(|(version, text)| _ = self.said.entry(version).or_insert(text));
            self.retry = Some(Instant::now());
        }
        self.said_before.clear();
        self.show();
    }

    /// # Errors
    /// Something else has been announced meanwhile, and this is left off.
    async fn make_so(&mut self, known: &Known, heard: Instant) -> Result<(), News> {
        self.seats.iter().for_each(|(seat, ..)| seat.want_sample());
        let name = self.shared.follow.name.clone();
        if let Some(trouble) = &known.trouble {
            self.refuse("", &Refused::for_good(trouble.clone()));
        }
        let set = known.set.as_deref().cloned().unwrap_or_else(|| ModelSet::new(&name));
        if let Err(error) = set.check() {
            self.refuse("", &Refused::for_good(error.to_string()));
            return self.fall_back(None, heard).await;
        }
        let wanted = self.wanted(&set);
        let way_back = self.way_back(&set);
        let is_wanted = |id: &Id| wanted.iter().chain(&way_back).any(|wanted| wanted.id == *id);
        self.refused.retain(|id, _| is_wanted(id));
        self.tries.retain(|id, _| is_wanted(id));
        if wanted.iter().all(|wanted| !wanted.rollout.acts()) {
            if self.force.is_some() && known.set.is_some() && known.trouble.is_none() {
                let advice = "announce one that acts, or stop the pipeline";
                let cause = format!("no version of model {name} is announced as one whose scores count; {advice}");
                self.refuse("", &Refused::for_good(cause));
            }
            return self.fall_back(None, heard).await;
        }
        let shares: Vec<(String, Rollout)> = wanted.iter().map(|it| (it.id.version.clone(), it.rollout)).collect();
        let mut good: Vec<Wanted> = Vec::with_capacity(wanted.len());
        let mut may_pass = false;
        for wanted in wanted {
            if self.is_good(&wanted, good.first()).await? {
                good.push(wanted);
            } else {
                may_pass |= !self.refused.contains_key(&wanted.id);
            }
        }
        // A canary or a shadow that fails is left out; without whom most rows go to, nothing changes.
        let scores_most = |wanted: &Wanted| matches!(wanted.rollout, Rollout::Full | Rollout::Weighted { .. });
        let needs_most = set.acting().any(|it| !matches!(it.rollout, Rollout::Canary { .. })) || self.is_pinned();
        let is_whole = if needs_most { good.iter().any(scores_most) } else { good.iter().any(|it| it.rollout.acts()) };
        let lost_full =
            set.acting().any(|it| it.rollout == Rollout::Full) && !good.iter().any(|it| it.rollout == Rollout::Full);
        if !is_whole || (lost_full && !self.is_pinned()) {
            // What is only out of reach is worth waiting for: the way back leads to what was withdrawn, if it was.
            return self.fall_back(way_back.filter(|_| !may_pass), heard).await;
        }
        // Of all that are announced, so that workers which refuse different versions agree about the others' keys.
        let shares: Vec<(&str, Rollout)> = shares.iter().map(|(version, rollout)| (&**version, *rollout)).collect();
        let plan = Plan::of(&shares, |version| good.iter().position(|wanted| wanted.id.version == version));
        self.bring_in(good, plan, heard);
        Ok(())
    }

    fn is_pinned(&self) -> bool {
        self.shared.follow.version.is_some()
    }

    /// The versions of a set that are wanted here, those first that score most rows, a shadow last.
    fn wanted(&self, set: &ModelSet) -> Vec<Wanted> {
        if let Some(version) = &self.shared.follow.version {
            let pinned = set.version(version).filter(|announced| announced.is_ready());
            return pinned.map(|announced| Wanted::new(announced, Rollout::Full)).into_iter().collect();
        }
        let mut acting: Vec<Wanted> = set.acting().map(|announced| Wanted::new(announced, announced.rollout)).collect();
        acting.sort_by_key(|wanted| matches!(wanted.rollout, Rollout::Canary { .. }));
        acting.extend(set.shadow().map(|announced| Wanted::new(announced, Rollout::Shadow)));
        acting
    }

    /// The version before those that act. Workers that ran it go on with it where these cannot be used, and so does one that starts.
    fn way_back(&self, set: &ModelSet) -> Option<Wanted> {
        let way_back = set.way_back().filter(|_| !self.is_pinned())?;
        Some(Wanted::new(way_back, Rollout::Full))
    }

    /// Nothing that is announced can be put into force: what runs goes on, else what ran before it, else the model of the
    /// configuration, else all wait.
    async fn fall_back(&mut self, way_back: Option<Wanted>, heard: Instant) -> Result<(), News> {
        let name = self.shared.follow.name.clone();
        if self.force.is_some() {
            return Ok(());
        }
        if let Some(wanted) = way_back
            && self.is_good(&wanted, None).await?
        {
            self.bring_alone(wanted, heard);
            return Ok(());
        }
        let Some(file) = self.shared.config.model.clone() else {
            let why = self.said.values().next();
            let why = why.map_or_else(|| "none is announced; publish one, or set `model`".to_owned(), Clone::clone);
            self.shared.hold(&format!("waits for model {name}: {why}"));
            return Ok(());
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
                // Whoever names a file in the configuration is told by its first row, as with any scorer.
                let proof = Arc::new(AtomicBool::new(true));
                self.loaded.retain(|loaded| loaded.id != id);
                self.loaded.push(Loaded { id: id.clone(), spare, proof });
                self.bring_alone(Wanted { id, announced: None, rollout: Rollout::Full }, heard);
            }
            Err(error) => {
                self.try_again();
                self.shared.hold(&format!("waits for model {name}: the one in the configuration is refused: {error}"));
            }
        }
        Ok(())
    }

    /// Hands one version that is loaded to all tasks, for all rows.
    fn bring_alone(&mut self, wanted: Wanted, heard: Instant) {
        let plan = Plan::of(&[(&wanted.id.version, Rollout::Full)], |_| Some(0));
        self.bring_in(vec![wanted], plan, heard);
    }

    /// Hands versions that are loaded to all tasks.
    fn bring_in(&mut self, good: Vec<Wanted>, plan: Plan, heard: Instant) {
        let ids: Vec<Id> = good.iter().map(|wanted| wanted.id.clone()).collect();
        let has_shadow = good.iter().any(|wanted| wanted.rollout == Rollout::Shadow);
        let is_news = self.force.as_ref().is_none_or(|force| (&force.wanted, &force.plan) != (&ids, &plan));
        if !is_news {
            return;
        }
        // One of them may have failed before the first rows of a task meanwhile.
        if ids.iter().any(|id| !self.loaded.iter().any(|loaded| loaded.id == *id)) {
            return self.try_again();
        }
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
            self.force = old;
            // Tasks that were served already go back, or they would score by other versions than the rest.
            self.generation += 1;
            seats.iter().for_each(|seat| _ = self.serve(seat));
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
            made.push(Box::new(Version::new(id, model, work, Trial::unless(&loaded.proof))));
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
        let mut refused = Vec::new();
        for (seat, generation, ready) in &mut self.seats {
            let seen = seat.look();
            refused.extend(seen.refused);
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
        for (id, refused) in refused {
            let is_shadow = self.force.as_ref().is_some_and(|it| it.has_shadow && it.wanted.last() == Some(&id));
            if is_shadow {
                // The next turn leaves it out.
                self.retry = Some(Instant::now());
            } else {
                // What never scored a row is none to go on with.
                self.force.take_if(|force| force.wanted.contains(&id));
            }
            self.seats.iter_mut().for_each(|(.., ready)| ready.retain(|ready| *ready != id));
            self.loaded.retain(|loaded| loaded.id != id);
            self.refused.insert(id, refused);
        }
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
