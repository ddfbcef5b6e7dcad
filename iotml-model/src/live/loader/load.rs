//! Loading one version: fetched and checked beside the stream, while the tasks are looked after.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use iotml_core::model::{Announcement, ModelState};
use iotml_core::pipeline::Delivery as Guarantee;

use super::super::check::Surroundings;
use super::super::fetch::Fetched;
use super::super::refused::{Outlook, Refused};
use super::super::seat::Seat;
use super::super::version::Id;
use super::{Loaded, Loader, News, Wanted};

/// How often a model is tried that a busy machine or odd rows may have failed.
const MAX_TRIES: u32 = 3;

/// How long a fetch may take before later announcements end it.
const FETCH_PATIENCE: Duration = Duration::from_secs(2);

/// Why a version is not loaded.
enum Halt {
    Refused(Refused),
    News,
}

impl Loader {
    /// Loads a version, or says why it cannot be used. `first` is the one that it is to score beside.
    pub(super) async fn is_good(&mut self, wanted: &Wanted, first: Option<&Wanted>) -> Result<bool, News> {
        let refused = match self.load(wanted, first).await {
            Ok(()) => {
                self.tries.remove(&wanted.id);
                return Ok(true);
            }
            Err(Halt::News) => return Err(News),
            Err(Halt::Refused(refused)) => refused,
        };
        if self.may_pass(&wanted.id, &refused) {
            self.try_again();
        } else {
            self.refused.insert(wanted.id.clone(), refused.clone());
        }
        self.refuse(&wanted.id.version, &refused);
        Ok(false)
    }

    /// Whether another try is worth it.
    fn may_pass(&mut self, id: &Id, refused: &Refused) -> bool {
        match refused.outlook {
            Outlook::Never => false,
            Outlook::Later => true,
            Outlook::AFewTries => {
                let n_tries = self.tries.entry(id.clone()).or_default();
                *n_tries += 1;
                *n_tries < MAX_TRIES
            }
        }
    }

    /// Sees to it that a version is loaded.
    async fn load(&mut self, wanted: &Wanted, first: Option<&Wanted>) -> Result<(), Halt> {
        if let Some(refused) = self.refused.get(&wanted.id) {
            return Err(Halt::Refused(refused.clone()));
        }
        let Some(announced) = &wanted.announced else { return Ok(()) };
        if self.loaded.iter().any(|loaded| loaded.id == wanted.id) {
            return Ok(());
        }
        if !self.said_before.contains_key(&wanted.id.version) {
            self.shared.report(&wanted.id.version, ModelState::Loading, None, None);
        }
        let fetched = self.fetch(&wanted.id, announced).await?;
        self.interrupted = None;
        self.look_after();
        let surroundings = self.surroundings(first);
        let proof = Arc::new(AtomicBool::new(surroundings.sample.is_some()));
        let (announced, acts) = (announced.clone(), wanted.rollout.acts());
        let mut check = tokio::task::spawn_blocking(move || surroundings.check(&announced, fetched, acts));
        let wake = self.shared.wake.clone();
        let checked = loop {
            tokio::select! {
                checked = &mut check => break checked,
                () = wake.notified() => self.look_after(),
            }
        };
        let checked = checked.unwrap_or_else(|_| Err(Refused::for_now("its checks broke off")));
        let spare = checked.map_err(Halt::Refused)?;
        self.loaded.push(Loaded { id: wanted.id.clone(), spare, proof });
        Ok(())
    }

    /// Gets the file, and looks after the tasks meanwhile: a store that hangs must keep nobody from what is there already.
    async fn fetch(&mut self, id: &Id, announced: &Announcement) -> Result<Fetched, Halt> {
        let limit = self.shared.follow.max_check_time.0;
        let (places, wake) = (self.places.clone(), self.shared.wake.clone());
        // Once, or one that takes long would never come while others are announced.
        let may_end = self.interrupted.as_ref() != Some(id);
        let begun = Instant::now();
        let mut fetch = std::pin::pin!(tokio::time::timeout(limit, places.fetch(announced)));
        let mut is_late = std::pin::pin!(tokio::time::sleep(FETCH_PATIENCE));
        let fetched = loop {
            tokio::select! {
                fetched = &mut fetch => break fetched,
                () = wake.notified() => self.look_after(),
                () = &mut is_late, if begun.elapsed() < FETCH_PATIENCE => {}
                true = self.watch.changed(), if may_end && begun.elapsed() >= FETCH_PATIENCE => {
                    self.interrupted = Some(id.clone());
                    return Err(Halt::News);
                }
            }
        };
        let late = |_| Refused::for_now(format!("{} did not come within {limit:?}", announced.place.describe()));
        fetched.map_err(late).and_then(|fetched| fetched).map_err(Halt::Refused)
    }

    /// What a version is checked against; where nothing is in force, against the `first` of those that are to be.
    fn surroundings(&self, first: Option<&Wanted>) -> Surroundings {
        let is_exactly_once = |seat: &Arc<Seat>| seat.task.delivery == Guarantee::ExactlyOnce;
        let running = self.force.as_ref().map(|force| force.running.clone());
        let running = running.or_else(|| first.and_then(|first| self.running(&first.id).ok()));
        Surroundings {
            config: self.shared.config.clone(),
            follow: self.shared.follow.clone(),
            sample: self.sample.clone(),
            running,
            is_exactly_once: self.seats.iter().any(|(seat, ..)| is_exactly_once(seat)),
        }
    }
}
