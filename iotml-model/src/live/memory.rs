//! What the versions of a task remember of keys stays with whoever scores those keys (invariant 9).
//!
//! Each acting version remembers rows of the keys that it scores, and of no others: of one that it no longer scores it would
//! soon know only stale rows. A shadow scores all keys, and remembers all.

use iotml_core::model::Plan;
use iotml_core::state::StateError;

use super::version::{Id, Version};
use crate::next_event::{self, Chosen, Given, Windows};

/// Moves what is remembered to the versions that score each key from now on. `acted` are those that acted until now, whose rows
/// of a key are its newest; `gone` are the versions that have no part any more.
pub(super) fn hand_over(
    acted: &[Id],
    gone: &mut [Box<Version>],
    acting: &mut [Box<Version>],
    shadow: Option<&mut Version>,
    plan: &Plan,
) {
    let has_all = |index: usize| plan.is_single() && plan.version_of(None) == index;
    let mut given: Vec<(bool, Given)> = Vec::new();
    let mut give = |version: &mut Version, how: &dyn Fn(&mut Windows) -> Given| {
        let has_acted = acted.contains(&version.id);
        given.extend(version.work.evaluation.windows().map(|windows| (has_acted, how(windows))));
    };
    for (index, version) in acting.iter_mut().enumerate().filter(|(index, _)| !has_all(*index)) {
        give(version, &|windows| windows.give_up(|key| plan.version_of(Some(key)) == index));
    }
    gone.iter_mut().for_each(|version| give(version, &Windows::give_all));
    if let Some(shadow) = shadow.filter(|shadow| acted.contains(&shadow.id)) {
        give(shadow, &Windows::copy);
    }
    // Where there is no room for all, the newest rows come first.
    given.sort_by_key(|(has_acted, _)| !has_acted);
    for (has_acted, mut given) in given {
        for (index, version) in acting.iter_mut().enumerate() {
            if let Some(windows) = version.work.evaluation.windows() {
                let is_own = |key: &[u8]| plan.version_of(Some(key)) == index;
                // A shadow may have begun in the middle, so that it knows no more than whoever acted.
                windows.take_over(&mut given, if has_all(index) { None } else { Some(&is_own) }, has_acted);
            }
        }
    }
}

/// What is remembered of a partition: of each key by the version that scores it.
pub(super) fn snapshot(
    partition: &str,
    acting: &[Box<Version>],
    shadow: Option<&Version>,
    plan: &Plan,
) -> Option<Vec<u8>> {
    let owns: Vec<_> = (0..acting.len()).map(|index| move |key: &[u8]| plan.version_of(Some(key)) == index).collect();
    let mut models: Vec<(&Windows, &Chosen)> = Vec::new();
    for (version, owns) in acting.iter().zip(&owns) {
        models.extend(version.work.evaluation.windows_ref().map(|windows| (windows, owns as _)));
    }
    // One whose rows mean something else than those of all others needs its own; else theirs are its, too.
    let shadow = shadow.and_then(|shadow| shadow.work.evaluation.windows_ref());
    if let Some(shadow) = shadow.filter(|shadow| models.iter().all(|(windows, _)| !shadow.is_like(windows))) {
        models.push((shadow, &|_| true));
    }
    next_event::snapshot(partition, &models)
}

/// Gives each version what the snapshot says of the keys that it scores. Either all are restored or none.
pub(super) fn restore(
    partition: &str,
    snapshot: &[u8],
    acting: &mut [Box<Version>],
    shadow: Option<&mut Version>,
    plan: &Plan,
) -> Result<(), StateError> {
    let n_acting = acting.len();
    let versions = acting.iter_mut().map(|version| &mut **version).chain(shadow).enumerate();
    let mut read = Vec::new();
    for (index, version) in versions {
        if let Some(windows) = version.work.evaluation.windows() {
            let is_own = |key: &[u8]| index >= n_acting || plan.version_of(Some(key)) == index;
            let restored = windows.read(snapshot, is_own)?;
            read.push((windows, restored));
        }
    }
    read.into_iter().for_each(|(windows, restored)| windows.put_back(partition, restored));
    Ok(())
}
