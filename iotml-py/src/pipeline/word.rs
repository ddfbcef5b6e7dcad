//! Words that live as long as the process: names of plug-ins, and reasons to count by.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use iotml_core::error::Reason;

/// Reasons are labels of metrics, of which each costs memory until the process ends.
const MAX_REASONS: usize = 100;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
static REASONS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// `name` for ever. The same few names come back in every pipeline, so each is kept once.
pub fn for_ever(name: &str) -> &'static str {
    keep(&NAMES, name, usize::MAX).unwrap_or_default()
}

/// A plug-in's reason for a rejection; `other` once there were a hundred different ones.
pub fn reason(word: &str) -> Reason {
    Reason::Custom(keep(&REASONS, word, MAX_REASONS).unwrap_or("other"))
}

/// Whether `word` can be a label: snake case, at most 64 letters.
pub fn is_label(word: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    word.len() <= 64 && word.bytes().all(is_plain) && word.starts_with(|first: char| first.is_ascii_lowercase())
}

fn keep(kept: &Mutex<BTreeSet<&'static str>>, word: &str, limit: usize) -> Option<&'static str> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(word) {
        return Some(known);
    }
    if kept.len() >= limit {
        return None;
    }
    let word: &'static str = Box::leak(word.to_owned().into_boxed_str());
    kept.insert(word);
    Some(word)
}
