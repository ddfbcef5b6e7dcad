//! All that is in force of one model.

use std::mem::discriminant;

use serde::{Deserialize, Serialize};

use super::{Announcement, Availability, Plan, Rollout};

/// The version of the form of [`ModelSet`].
pub const MODEL_SET_FORMAT: u32 = 1;

/// Versions that a set may hold.
const MAX_VERSIONS: usize = 64;

/// All that is in force of one model. It is announced as a whole, so that no worker ever sees half a change.
///
/// ```json
/// {"format": 1, "model": "cars", "versions": [
///   {"version": "3", "uri": "file:///models/cars-3.onnx", "sha256": "9f86..."},
///   {"version": "4", "inline": "CAgSB...", "sha256": "2c62...", "rollout": {"kind": "canary", "percent": 10}}
/// ]}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSet {
    /// The version of this form.
    pub format: u32,
    /// The model's name.
    pub model: String,
    /// Its versions.
    pub versions: Vec<Announcement>,
}

/// Why a set cannot be put into force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// It is not of the expected form.
    #[error("the announcement is not of the expected form: {0}")]
    Form(String),
    /// It comes from a newer iotml.
    #[error("the announcement is of format {0}, but only {MODEL_SET_FORMAT} is known here; update this worker")]
    Format(u32),
    /// A name that cannot be part of an address.
    #[error(
        "{what} {name:?} cannot be used: it must have 1 to 128 letters, digits, dots, hyphens or underscores, and begin \
         with a letter or digit"
    )]
    Name {
        /// `model` or `version`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A version stands in it twice.
    #[error("version {0:?} is announced twice in one set")]
    Twice(String),
    /// A rollout that means nothing.
    #[error("the rollout of version {version:?} cannot be used: {reason}")]
    Rollout {
        /// The version.
        version: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such version in it.
    #[error("there is no version {version:?} of model {model:?}; there are {known}")]
    UnknownVersion {
        /// The model.
        model: String,
        /// The version asked for.
        version: String,
        /// The versions there are.
        known: String,
    },
    /// No version was retired that could be gone back to.
    #[error(
        "no version of model {model:?} was retired after it scored all rows, so there is none to go back to; promote one by its name"
    )]
    NothingBefore {
        /// The model.
        model: String,
    },
    /// Somebody else was faster.
    #[error(
        "what is announced of version {version:?} of model {model:?} was changed by others meanwhile; nothing was done"
    )]
    Changed {
        /// The model.
        model: String,
        /// The version.
        version: String,
    },
    /// More versions than anybody compares.
    #[error("{0} versions are announced at once; at most {MAX_VERSIONS} can be")]
    TooMany(usize),
}

impl ModelSet {
    /// A set of one model without versions.
    pub fn new(model: impl Into<String>) -> Self {
        Self { format: MODEL_SET_FORMAT, model: model.into(), versions: Vec::new() }
    }

    /// The set in which `announcement` scores everything alone.
    pub fn single(model: impl Into<String>, announcement: Announcement) -> Self {
        Self { versions: vec![announcement], ..Self::new(model) }
    }

    /// Reads and checks a set.
    ///
    /// # Errors
    /// [`SetError`] if it cannot be put into force.
    pub fn from_json(json: &[u8]) -> Result<Self, SetError> {
        /// Looked at first, since a newer form may have other fields.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let form = |error: serde_json::Error| SetError::Form(error.to_string());
        let head: Head = serde_json::from_slice(json).map_err(form)?;
        if head.format != MODEL_SET_FORMAT {
            return Err(SetError::Format(head.format));
        }
        let set: Self = serde_json::from_slice(json).map_err(form)?;
        set.check()?;
        Ok(set)
    }

    /// The set as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        // Cannot fail: every map key is a string and no value refuses to serialize.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Says what is wrong with it, if anything is.
    ///
    /// # Errors
    /// [`SetError`] naming the first mistake.
    pub fn check(&self) -> Result<(), SetError> {
        if self.format != MODEL_SET_FORMAT {
            return Err(SetError::Format(self.format));
        }
        check_name("model", &self.model)?;
        if self.versions.len() > MAX_VERSIONS {
            return Err(SetError::TooMany(self.versions.len()));
        }
        let mut shares = Shares::default();
        for (at, announced) in self.versions.iter().enumerate() {
            check_name("version", &announced.version)?;
            if self.versions[..at].iter().any(|other| other.version == announced.version) {
                return Err(SetError::Twice(announced.version.clone()));
            }
            if announced.is_ready() {
                shares.add(announced.rollout).map_err(|reason| announced.cannot_roll_out(reason))?;
            }
        }
        match self.acting().next() {
            Some(first) if !shares.are_whole() => {
                Err(first.cannot_roll_out("no version scores the rows that the canaries leave"))
            }
            _ => Ok(()),
        }
    }

    /// The versions whose scores are acted upon.
    pub fn acting(&self) -> impl Iterator<Item = &Announcement> {
        self.versions.iter().filter(|announced| announced.is_ready() && announced.rollout.acts())
    }

    /// The version that scores beside them.
    pub fn shadow(&self) -> Option<&Announcement> {
        self.versions.iter().find(|announced| announced.is_ready() && !announced.rollout.acts())
    }

    /// Which of [`acting`](Self::acting) scores which rows, by index; the set must be one that passes [`check`](Self::check).
    pub fn plan(&self) -> Plan {
        let acting: Vec<(&str, Rollout)> = self.acting().map(|it| (it.version.as_str(), it.rollout)).collect();
        Plan::of(&acting, |version| acting.iter().position(|(it, _)| *it == version))
    }

    /// The announcement of a version.
    pub fn version(&self, version: &str) -> Option<&Announcement> {
        self.versions.iter().find(|announced| announced.version == version)
    }

    /// Puts `new` into force. A version that scores all rows retires those that shared them, and a shadow the one before it;
    /// one with a weight makes what scored all rows the other arm, with the same weight. The same version announced before is
    /// replaced, and keeps its place among those of its kind, on which depends who scores what; any other comes last.
    pub fn announce(&mut self, new: Announcement) {
        let mut place = self.versions.iter().position(|old| old.version == new.version);
        if let Some(at) = place {
            let old = self.versions.remove(at);
            let is_same_kind = discriminant(&old.rollout) == discriminant(&new.rollout);
            place = place.filter(|_| old.is_ready() && new.is_ready() && is_same_kind);
        }
        let mut replaced = Vec::new();
        for old in self.versions.iter_mut().filter(|old| old.is_ready()) {
            match (new.rollout, old.rollout) {
                (Rollout::Full, Rollout::Full | Rollout::Weighted { .. }) | (Rollout::Shadow, Rollout::Shadow) => {
                    replaced.push(old.version.clone());
                }
                (Rollout::Weighted { .. }, Rollout::Full) => old.rollout = new.rollout,
                _ => {}
            }
        }
        let last = match place {
            Some(at) => {
                self.versions.insert(at, new);
                None
            }
            None => Some(new),
        };
        replaced.iter().for_each(|version| self.take_out(version));
        self.versions.extend(last);
    }

    /// Lets `version` score all rows, whatever it scored before: a canary that proved itself, or the one before this.
    ///
    /// # Errors
    /// [`SetError::UnknownVersion`].
    pub fn promote(&mut self, version: &str) -> Result<(), SetError> {
        let promoted = self.version(version).cloned().ok_or_else(|| self.unknown(version))?;
        self.announce(Announcement { state: Availability::Ready, rollout: Rollout::Full, ..promoted });
        Ok(())
    }

    /// Lets the version that was retired last score all rows again, and retires those that did. A canary or a shadow that was
    /// retired has not proved itself, and is none to go back to.
    ///
    /// # Errors
    /// [`SetError::NothingBefore`].
    pub fn roll_back(&mut self) -> Result<(), SetError> {
        let nothing = || SetError::NothingBefore { model: self.model.clone() };
        let version = self.way_back().ok_or_else(nothing)?.version.clone();
        self.promote(&version)
    }

    /// The version to go back to: the one retired last of those that scored, alone or with others, what no canary takes.
    pub fn way_back(&self) -> Option<&Announcement> {
        self.versions.iter().rev().find(|announced| !announced.is_ready() && announced.is_way_back())
    }

    /// Takes `version` out of service.
    ///
    /// # Errors
    /// [`SetError::UnknownVersion`].
    pub fn retire(&mut self, version: &str) -> Result<(), SetError> {
        if self.version(version).is_none() {
            return Err(self.unknown(version));
        }
        self.take_out(version);
        Ok(())
    }

    /// Retires a version, and forgets the one that was retired before: one is enough to go back to, and one that has not proved
    /// itself to be seen.
    fn take_out(&mut self, version: &str) {
        let is_it = |announced: &Announcement| announced.version == version;
        let Some(at) = self.versions.iter().position(is_it) else { return };
        let retired = Announcement { state: Availability::Unavailable, ..self.versions.remove(at) };
        self.versions.retain(|other| other.is_ready() || other.is_way_back() != retired.is_way_back());
        self.versions.push(retired);
    }

    fn unknown(&self, version: &str) -> SetError {
        let known: Vec<&str> = self.versions.iter().map(|announced| announced.version.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        SetError::UnknownVersion { model: self.model.clone(), version: version.to_owned(), known }
    }
}

impl Announcement {
    /// Whether it scores, or scored, what no canary takes, alone or with others.
    fn is_way_back(&self) -> bool {
        matches!(self.rollout, Rollout::Full | Rollout::Weighted { .. })
    }

    fn cannot_roll_out(&self, reason: &str) -> SetError {
        SetError::Rollout { version: self.version.clone(), reason: reason.to_owned() }
    }
}

/// What the versions looked at so far score.
#[derive(Default)]
struct Shares {
    n_full: usize,
    n_weighted: usize,
    n_shadows: usize,
    canary_percents: f64,
}

impl Shares {
    fn add(&mut self, rollout: Rollout) -> Result<(), &'static str> {
        match rollout {
            Rollout::Full => self.n_full += 1,
            Rollout::Canary { percent } if percent > 0.0 && percent <= 100.0 => self.canary_percents += percent,
            Rollout::Canary { .. } => return Err("its share must be above 0 and at most 100 percent"),
            Rollout::Weighted { weight } if weight > 0.0 && weight <= 1e9 => self.n_weighted += 1,
            Rollout::Weighted { .. } => return Err("its weight must be above 0"),
            Rollout::Shadow => self.n_shadows += 1,
        }
        match self {
            Shares { n_full: 2.., .. } => Err("another version already scores all rows"),
            Shares { n_full: 1, n_weighted: 1.., .. } => {
                Err("a version that scores all rows and one with a weight exclude each other")
            }
            Shares { n_shadows: 2.., .. } => Err("another version is the shadow already"),
            Shares { canary_percents, .. } if *canary_percents > 100.0 => {
                Err("the canaries' shares add up to more than 100 percent")
            }
            _ => Ok(()),
        }
    }

    /// Whether every row has a version, if any has.
    fn are_whole(&self) -> bool {
        self.n_full + self.n_weighted > 0 || self.canary_percents == 0.0 || self.canary_percents >= 100.0
    }
}

/// A name becomes part of addresses, topics' keys and labels.
fn check_name(what: &'static str, name: &str) -> Result<(), SetError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if begins_well && name.len() <= 128 && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(SetError::Name { what, name: name.chars().take(130).collect() })
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
