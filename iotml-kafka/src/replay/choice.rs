//! What becomes of each dead letter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use iotml_core::batch::{Batch, StageOutput};
use iotml_core::pipeline::header;
use iotml_core::preprocess::{PreprocessError, Preprocessor};

use super::filter::Filter;
use super::letter::Letter;
use crate::source::is_topic_name;

/// Says of each dead letter whether it is fed back.
#[derive(Debug)]
pub(super) struct Choice {
    pub filter: Filter,
    pub max_replays: u32,
    pub home: Home,
}

/// What a message needs to have a place to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// Nothing: all go to one topic.
    Fixed,
    /// It came from a topic that Kafka can have.
    Kafka,
    /// It came from a topic, of whatever system.
    Any,
}

/// What becomes of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is fed back.
    Back,
    /// It is not one of those that are meant.
    Other,
    /// It was fed back often enough.
    Worn,
    /// There is nowhere to feed it back to.
    Homeless,
    /// Only the beginning of its payload was kept.
    Cut,
}

impl Choice {
    pub fn fate(&self, letter: &Letter<'_>) -> Fate {
        if !self.filter.matches(letter) {
            return Fate::Other;
        }
        if letter.text(header::CUT).is_some() {
            return Fate::Cut;
        }
        if letter.replays() >= self.max_replays {
            return Fate::Worn;
        }
        let has_home = match (self.home, letter.origin()) {
            (Home::Fixed, _) | (Home::Any, Some(_)) => true,
            (Home::Kafka, Some(origin)) => is_topic_name(&origin),
            (Home::Kafka | Home::Any, None) => false,
        };
        if has_home { Fate::Back } else { Fate::Homeless }
    }
}

/// How many dead letters met which fate.
#[derive(Debug, Default)]
pub(super) struct Counts {
    back: AtomicU64,
    other: AtomicU64,
    worn: AtomicU64,
    homeless: AtomicU64,
    cut: AtomicU64,
}

impl Counts {
    pub fn count(&self, fate: Fate) {
        let count = match fate {
            Fate::Back => &self.back,
            Fate::Other => &self.other,
            Fate::Worn => &self.worn,
            Fate::Homeless => &self.homeless,
            Fate::Cut => &self.cut,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// What is told in the end, with how many were fed back, durably.
    pub fn told(&self, n_replayed: u64) -> Told {
        let counts = [&self.back, &self.other, &self.worn, &self.homeless, &self.cut];
        let [back, other, n_worn, n_homeless, n_cut] = counts.map(|count| count.load(Ordering::Relaxed));
        let n_matched = back + n_worn + n_homeless + n_cut;
        Told { n_read: n_matched + other, n_matched, n_replayed, n_worn, n_homeless, n_cut }
    }

    /// How many are to be fed back.
    pub fn n_back(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }
}

/// The counts of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    n_read: u64,
    n_matched: u64,
    n_replayed: u64,
    n_worn: u64,
    n_homeless: u64,
    n_cut: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { n_read, n_matched, n_replayed, n_worn, n_homeless, n_cut } = self;
        write!(
            f,
            "read {n_read}, matched {n_matched}, replayed {n_replayed}, left out by --max-replays {n_worn}, \
             without a topic to go back to {n_homeless}, cut short when received {n_cut}"
        )
    }
}

/// Lets those pass that are fed back.
pub(super) struct Chooser {
    pub choice: Arc<Choice>,
    pub counts: Arc<Counts>,
}

impl Preprocessor for Chooser {
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        let fate = |row| self.choice.fate(&Letter::of(batch.raw(), batch.origin(row)));
        let fates: Vec<Fate> = (0..batch.len()).map(fate).collect();
        fates.iter().for_each(|fate| self.counts.count(*fate));
        let keep: Vec<bool> = fates.iter().map(|fate| *fate == Fate::Back).collect();
        let (batch, filtered) =
            batch.filter(&keep).map_err(|error| PreprocessError::fatal_from("rows cannot be taken", error))?;
        Ok(StageOutput { batch, rejected: Vec::new(), filtered })
    }
}
