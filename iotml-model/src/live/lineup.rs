//! The versions that one task scores with, and which rows each of them gets.

use std::sync::Arc;

use iotml_core::arrow::array::{Array, ArrayRef};
use iotml_core::arrow::compute::interleave;
use iotml_core::batch::{Batch, LaneInfo, StageOutput};
use iotml_core::metrics::Counter;
use iotml_core::model::Plan;
use iotml_core::plugin::HumanDuration;
use iotml_core::score::{ScoreError, shadow_field};
use iotml_core::state::{StateError, Stateful};

use super::memory;
use super::refused::Refused;
use super::sample::Sample;
use super::version::{Id, Verdict, Version};
use crate::columns::Appender;
use crate::feature::BadRow;
use crate::scorer::OnnxScorerConfig;
use crate::work::{Scores, append};

/// What a task is to score with from its next batch on.
pub(crate) struct Change {
    pub(crate) acting: Vec<Slot>,
    pub(crate) plan: Plan,
    pub(crate) shadow: Option<Slot>,
    pub(crate) generation: u64,
}

/// A version of a change.
pub(crate) enum Slot {
    /// One that the task has.
    Keep(Id),
    /// One that is new to it.
    New(Box<Version>),
}

impl Slot {
    pub(crate) fn id(&self) -> &Id {
        match self {
            Slot::Keep(id) => id,
            Slot::New(version) => &version.id,
        }
    }
}

/// The versions in force for one task.
#[derive(Default)]
pub(crate) struct Lineup {
    force: Option<Force>,
    lanes: Vec<LaneInfo>,
    trial: OnTrial,
    pub(crate) shadow_failures: Counter,
}

/// Whether versions in force are shown rows before they score them.
#[derive(Default)]
enum OnTrial {
    #[default]
    No,
    Yes,
    /// One did not bear them, and nothing is scored until there is a change.
    Failed(String),
}

struct Force {
    acting: Vec<Box<Version>>,
    plan: Plan,
    shadow: Option<Box<Version>>,
    appender: Appender,
    split: Split,
}

/// Which version scores which row of a batch; reused.
#[derive(Default)]
struct Split {
    /// The rows of each version.
    rows: Vec<Vec<u32>>,
    /// For every row, its version and its place among that one's rows.
    places: Vec<(usize, usize)>,
}

impl Split {
    /// Shares the rows of `batch` out, and gives the version that scores all of them, if one does.
    fn fill(&mut self, batch: &Batch, plan: &Plan, n_versions: usize) -> Option<usize> {
        self.rows.resize_with(n_versions, Vec::new);
        self.rows.iter_mut().for_each(Vec::clear);
        self.places.clear();
        for row in 0..batch.len() {
            let version = plan.version_of(batch.key(row));
            self.places.push((version, self.rows[version].len()));
            self.rows[version].push(row as u32);
        }
        self.rows.iter().position(|rows| rows.len() == batch.len())
    }
}

impl Lineup {
    /// Whether there is a model at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.force.is_none()
    }

    /// Puts a change into force, and gives back the versions that have no part in it.
    pub(crate) fn apply(&mut self, change: Change) -> Vec<Box<Version>> {
        let mut old: Vec<Box<Version>> = Vec::new();
        let mut acted: Vec<Id> = Vec::new();
        if let Some(Force { acting, shadow, .. }) = self.force.take() {
            acted.extend(acting.iter().map(|version| version.id.clone()));
            old.extend(acting.into_iter().chain(shadow));
        }
        let Change { acting, plan, shadow, .. } = change;
        let mut pick = |slot: Slot| match slot {
            Slot::New(version) => Some(version),
            Slot::Keep(id) => old.iter().position(|old| old.id == id).map(|at| old.swap_remove(at)),
        };
        // A change keeps only what the task has: whoever made it saw to that.
        let mut acting: Vec<Box<Version>> = acting.into_iter().filter_map(&mut pick).collect();
        let mut shadow = shadow.and_then(&mut pick);
        for version in acting.iter_mut().chain(&mut shadow) {
            if let Some(windows) = version.work.evaluation.windows() {
                windows.assigned(&self.lanes);
            }
        }
        memory::hand_over(&acted, &mut old, &mut acting, shadow.as_deref_mut(), &plan);
        acting.iter().chain(&shadow).for_each(|version| version.work.serves());
        let is_on_trial = acting.iter().chain(&shadow).any(|version| version.trial.is_some());
        self.trial = if is_on_trial { OnTrial::Yes } else { OnTrial::No };
        let fields = acting.first().map(|first| first.work.fields().to_vec()).unwrap_or_default();
        let shadows = shadow.iter().flat_map(|shadow| shadow.work.fields()).map(shadow_field);
        let appender = Appender::new(fields.into_iter().chain(shadows).collect());
        self.force = Some(Force { acting, plan, shadow, appender, split: Split::default() });
        old
    }

    /// Shows the batch to the versions that were loaded before there were rows to look at, and tells `refuse` of one that does not
    /// bear it.
    ///
    /// # Errors
    /// Nothing can be scored now; the batch may come again.
    pub(crate) fn prove(
        &mut self,
        batch: &Batch,
        config: &OnnxScorerConfig,
        limit: HumanDuration,
        mut refuse: impl FnMut(Id, Refused),
    ) -> Result<(), ScoreError> {
        match &self.trial {
            OnTrial::No => return Ok(()),
            OnTrial::Failed(cause) => return Err(ScoreError::retryable(cause.as_str())),
            OnTrial::Yes => {}
        }
        let Some(sample) = Sample::of(batch) else { return Ok(()) };
        let mut is_on_trial = false;
        let mut halt = None;
        let force = self.force.iter_mut();
        let versions = force.flat_map(|Force { acting, shadow, .. }| {
            acting.iter_mut().map(|version| (version, true)).chain(shadow.iter_mut().map(|version| (version, false)))
        });
        for (version, acts) in versions {
            let verdict = version.prove(&sample, config, limit);
            let (name, says) = version.says();
            let cause = |refused: &Refused| {
                format!("model {name} {says} cannot score the first rows, which wait: {}", refused.cause)
            };
            match verdict {
                Verdict::Goes => is_on_trial |= version.trial.is_some(),
                // Nobody acts upon what a shadow says, and no row waits for one.
                Verdict::Again(_) if !acts => is_on_trial = true,
                Verdict::Fails(refused) if !acts => {
                    refuse(version.id.clone(), refused);
                    version.trial = None;
                }
                Verdict::Again(refused) => {
                    halt = Some((OnTrial::Yes, cause(&refused)));
                    break;
                }
                Verdict::Fails(refused) => {
                    let cause = cause(&refused);
                    refuse(version.id.clone(), refused);
                    halt = Some((OnTrial::Failed(cause.clone()), cause));
                    break;
                }
            }
        }
        if let Some((trial, cause)) = halt {
            self.trial = trial;
            return Err(ScoreError::retryable(cause));
        }
        self.trial = if is_on_trial { OnTrial::Yes } else { OnTrial::No };
        Ok(())
    }

    /// Scores a batch; every row by the one version that its key belongs to (invariant 8).
    pub(crate) fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
        let Some(force) = &mut self.force else { return Err(ScoreError::fatal("the scorer has no model")) };
        let Force { acting, plan, shadow, appender, split } = force;
        let single = match plan.is_single() {
            true => Some(plan.version_of(None)),
            false => split.fill(&batch, plan, acting.len()),
        };
        let (mut arrays, bad) = match single.and_then(|version| acting.get_mut(version)) {
            Some(version) => {
                let Scores { arrays, bad, .. } = version.score(&batch)?;
                (arrays, bad)
            }
            None => score_apart(&batch, acting, split)?,
        };
        if let Some(shadow) = shadow {
            let (beside, went_well) = shadow.shadow(&batch);
            if !went_well {
                self.shadow_failures.inc();
            }
            arrays.extend(beside);
        }
        append(batch, appender, arrays, bad)
    }

    fn versions(&mut self) -> impl Iterator<Item = &mut Box<Version>> {
        self.force.iter_mut().flat_map(|force| force.acting.iter_mut().chain(&mut force.shadow))
    }

    /// The task has ended, and nothing is in service for it.
    pub(crate) fn leave(&mut self) {
        self.versions().for_each(|version| version.work.has_served());
    }

    /// What the first version remembers of keys, if it does.
    pub(crate) fn remembers(&mut self) -> bool {
        self.versions().next().is_some_and(|first| first.work.evaluation.windows().is_some())
    }
}

/// Lets each version score its rows, and puts the results together in the order of the rows.
fn score_apart(
    batch: &Batch,
    acting: &mut [Box<Version>],
    split: &Split,
) -> Result<(Vec<ArrayRef>, Vec<BadRow>), ScoreError> {
    let mut parts: Vec<Vec<ArrayRef>> = Vec::with_capacity(acting.len());
    let mut slots = vec![0; acting.len()];
    let mut bad = Vec::new();
    for (index, (version, rows)) in acting.iter_mut().zip(&split.rows).enumerate() {
        if rows.is_empty() {
            continue;
        }
        let scores = version.score_rows(batch, rows)?;
        bad.extend(scores.bad.into_iter().map(|bad| BadRow { row: rows[bad.row] as usize, ..bad }));
        slots[index] = parts.len();
        parts.push(scores.arrays);
    }
    bad.sort_by_key(|bad| bad.row);
    let places: Vec<(usize, usize)> = split.places.iter().map(|(version, at)| (slots[*version], *at)).collect();
    let n_columns = parts.first().map_or(0, Vec::len);
    let column = |at: usize| {
        let arrays: Vec<&dyn Array> = parts.iter().map(|arrays| arrays[at].as_ref()).collect();
        interleave(&arrays, &places)
    };
    let columns = (0..n_columns).map(column).collect::<Result<Vec<_>, _>>();
    let columns = columns.map_err(|source| ScoreError::fatal_from("scores cannot be put together", source))?;
    Ok((columns, bad))
}

impl Stateful for Lineup {
    fn assigned(&mut self, lanes: &[LaneInfo]) {
        for info in lanes {
            self.lanes.retain(|known| known.partition != info.partition);
            self.lanes.push(LaneInfo { lane: info.lane, partition: Arc::clone(&info.partition) });
        }
        self.versions().filter_map(|version| version.work.evaluation.windows()).for_each(|it| it.assigned(lanes));
    }

    fn snapshot(&self, partition: &str) -> Result<Option<Vec<u8>>, StateError> {
        let Some(Force { acting, plan, shadow, .. }) = &self.force else { return Ok(None) };
        Ok(memory::snapshot(partition, acting, shadow.as_deref(), plan))
    }

    fn restore(&mut self, partition: &str, snapshot: &[u8]) -> Result<(), StateError> {
        let Some(Force { acting, plan, shadow, .. }) = &mut self.force else { return Ok(()) };
        memory::restore(partition, snapshot, acting, shadow.as_deref_mut(), plan)
    }

    fn forget(&mut self, partition: &str) {
        self.lanes.retain(|info| *info.partition != *partition);
        self.versions().filter_map(|version| version.work.evaluation.windows()).for_each(|it| it.forget(partition));
    }
}
