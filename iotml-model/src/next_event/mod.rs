//! Kind `next_event`: how far a row is from what the model expected after the rows of its key before it.

mod snapshot;
mod table;

use std::sync::Arc;

use iotml_core::batch::LaneInfo;
use iotml_core::error::{Cause, Reason};
use iotml_core::state::{StateError, Stateful};

use crate::engine::Engine;
use crate::evaluation::{EvaluationError, Input, Keys, Pass, Wants};
use crate::feature::{BadRow, FeatureSpec};
use crate::manifest::Manifest;
use crate::partitions::Partitions;
use crate::precheck::Signature;
use crate::reconstruction::{mean_squared_error, squared_error};
use table::Table;

/// The last rows of every key, by partition, scaled as the model sees them.
///
/// Memory is bounded: a partition keeps at most `max_keys` keys and drops those not seen for the longest time. The next row
/// of a dropped key has no score, like a key's first.
#[derive(Debug)]
pub(crate) struct Windows {
    shape: WindowShape,
    fingerprint: u64,
    max_keys: usize,
    partitions: Partitions<Table>,
    rows: Vec<f32>,
    asked: Vec<f32>,
    asked_rows: Vec<usize>,
}

/// Says of a key whether it is one of those that are meant.
pub(crate) type Chosen<'a> = dyn Fn(&[u8]) -> bool + 'a;

/// What was remembered of keys, on its way to whoever scores them.
pub(crate) struct Given {
    meaning: (u64, WindowShape),
    tables: Vec<(Arc<str>, Table)>,
}

/// What a snapshot says of a partition.
pub(crate) struct Restored(Table);

/// What several models remember of a partition, each of the keys that are its own; `None` if none remembers anything.
pub(crate) fn snapshot(partition: &str, models: &[(&Windows, &Chosen)]) -> Option<Vec<u8>> {
    let mut parts = Vec::new();
    for (at, (first, _)) in models.iter().enumerate() {
        if models[..at].iter().any(|(before, _)| before.is_like(first)) {
            continue;
        }
        let alike = models[at..].iter().filter(|(windows, _)| windows.is_like(first));
        let tables = alike.filter_map(|(windows, is_own)| Some((windows.partitions.get(partition)?, is_own)));
        let (mut old, mut young, mut is_known) = (Vec::new(), Vec::new(), false);
        for (table, is_own) in tables {
            let [its_old, its_young] = table.generations();
            old.extend(its_old.filter(|(key, _)| is_own(key)));
            young.extend(its_young.filter(|(key, _)| is_own(key)));
            is_known = true;
        }
        if is_known {
            old.append(&mut young);
            parts.push(snapshot::write(&old, first.shape, first.fingerprint));
        }
    }
    snapshot::join(parts)
}

/// How many rows a window has, and how many numbers a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WindowShape {
    look_back: usize,
    n_features: usize,
}

impl WindowShape {
    fn len(self) -> usize {
        self.look_back * self.n_features
    }
}

impl Windows {
    pub(crate) fn new(manifest: &Manifest, signature: &Signature, max_keys: usize) -> Self {
        Windows {
            shape: WindowShape { look_back: signature.look_back.unwrap_or(1), n_features: signature.n_features },
            fingerprint: fingerprint(manifest),
            max_keys,
            partitions: Partitions::new(),
            rows: Vec::new(),
            asked: Vec::new(),
            asked_rows: Vec::new(),
        }
    }

    /// Gives away what is remembered of the keys that do not stay.
    pub(crate) fn give_up(&mut self, stays: impl Fn(&[u8]) -> bool) -> Given {
        self.give(|table| table.give_up(&stays))
    }

    /// Gives away all that is remembered.
    pub(crate) fn give_all(&mut self) -> Given {
        let max_keys = self.max_keys;
        self.give(|table| std::mem::replace(table, Table::new(max_keys)))
    }

    /// Gives all that is remembered, and remembers it, too.
    pub(crate) fn copy(&mut self) -> Given {
        self.give(|table| table.clone())
    }

    fn give(&mut self, how: impl Fn(&mut Table) -> Table) -> Given {
        let tables = self.partitions.iter_mut().map(|(partition, table)| (partition.clone(), how(table))).collect();
        Given { meaning: self.meaning(), tables }
    }

    /// Takes over what is given of the keys that are wanted, or of all; nothing if its numbers mean something else. Of a key that
    /// is known here, the given rows count if they replace others.
    pub(crate) fn take_over(&mut self, given: &mut Given, is_wanted: Option<&Chosen>, replaces: bool) {
        if given.meaning != self.meaning() {
            return;
        }
        for (partition, table) in &mut given.tables {
            let known = self.partitions.entry(partition, || Table::new(self.max_keys));
            match is_wanted {
                // However many keys there are, it takes no time.
                None if known.len() == 0 => std::mem::swap(known, table),
                None => known.take_over(table, |_| true, replaces),
                Some(is_wanted) => known.take_over(table, is_wanted, replaces),
            }
        }
    }

    /// Whether its numbers mean the same.
    pub(crate) fn is_like(&self, other: &Windows) -> bool {
        self.meaning() == other.meaning()
    }

    /// Reads what a snapshot says of the keys that are wanted; `None` if it is of models with other features.
    pub(crate) fn read(
        &self,
        snapshot: &[u8],
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Result<Option<Restored>, StateError> {
        let table = snapshot::read(snapshot, self.shape, self.fingerprint, self.max_keys, is_wanted)?;
        Ok(table.map(Restored))
    }

    /// Remembers of a partition what was read, and nothing else.
    pub(crate) fn put_back(&mut self, partition: &str, restored: Option<Restored>) {
        let table = restored.map(|Restored(table)| table);
        self.partitions.restore(partition, table, "a model with other features");
    }

    fn meaning(&self) -> (u64, WindowShape) {
        (self.fingerprint, self.shape)
    }

    /// Forgets all keys.
    pub(crate) fn clear(&mut self) {
        self.partitions.clear();
    }

    /// Scores all rows in one call of the model: what it is asked depends on the rows that came, never on its answers.
    pub(crate) fn score(
        &mut self,
        input: &Input<'_, '_>,
        spec: &mut FeatureSpec,
        engine: &mut dyn Engine,
        wants: Wants,
        pass: &mut Pass,
    ) -> Result<(), EvaluationError> {
        let n_features = self.shape.n_features;
        let n_rows = input.rows.len();
        self.rows.resize(n_rows * n_features, 0.0);
        pass.bad = spec.fill_from(input.rows, &mut self.rows)?;
        self.ask(n_rows, &input.keys, pass);
        pass.scores.resize(n_rows, 0.0);
        pass.is_known.resize(n_rows, false);
        if wants.errors {
            pass.errors.resize(n_rows * n_features, 0.0);
        }
        if wants.output {
            pass.output.resize(n_rows * n_features, 0.0);
        }
        if self.asked_rows.is_empty() {
            return Ok(());
        }
        engine.input(self.asked_rows.len())?.copy_from_slice(&self.asked);
        let (_, output) = engine.run()?;
        let output_width = output.len() / self.asked_rows.len();
        for (row, output) in self.asked_rows.iter().zip(output.chunks_exact(output_width)) {
            // Of a predicted sequence the last step is the next row.
            let expected = &output[output_width - n_features..];
            let at = row * n_features..(row + 1) * n_features;
            let seen = &self.rows[at.clone()];
            pass.scores[*row] = mean_squared_error(seen, expected);
            pass.is_known[*row] = true;
            if wants.errors {
                let errors = seen.iter().zip(expected).map(|(seen, expected)| squared_error(*seen, *expected));
                pass.errors[at.clone()].iter_mut().zip(errors).for_each(|(slot, error)| *slot = error);
            }
            if wants.output {
                pass.output[at].copy_from_slice(expected);
            }
        }
        Ok(())
    }

    /// Walks the rows in order: notes the full window before each, then puts the row into its key's window.
    fn ask(&mut self, n_rows: usize, keys: &Keys<'_>, pass: &mut Pass) {
        self.asked.clear();
        self.asked_rows.clear();
        let mut unscorable = std::mem::take(&mut pass.bad).into_iter().peekable();
        for row in 0..n_rows {
            if let Some(bad) = unscorable.next_if(|bad| bad.row == row) {
                pass.bad.push(bad);
                continue;
            }
            let Some(key) = keys.key(row) else {
                let cause = Cause::new(Reason::Missing, "row has no key, which a next_event model needs");
                pass.bad.push(BadRow { row, cause });
                continue;
            };
            let new = || Table::new(self.max_keys);
            self.partitions.with(keys.lane(row), new, |table| {
                let window = table.window(key);
                if window.len() == self.shape.len() {
                    self.asked.extend_from_slice(window);
                    self.asked_rows.push(row);
                }
                let n_features = self.shape.n_features;
                push(window, &self.rows[row * n_features..(row + 1) * n_features], self.shape);
            });
        }
    }
}

fn push(window: &mut Vec<f32>, row: &[f32], shape: WindowShape) {
    if window.len() == shape.len() {
        window.copy_within(row.len().., 0);
        window.truncate(shape.len() - row.len());
    }
    window.extend_from_slice(row);
}

/// Names what a window's numbers mean, so that a snapshot of another model's windows is not taken for this one's.
pub(crate) fn fingerprint(manifest: &Manifest) -> u64 {
    // FNV-1a, since it must stay the same from one build to the next. Serializing features cannot fail.
    let features = serde_json::to_vec(&manifest.features).unwrap_or_default();
    features.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

impl Stateful for Windows {
    fn assigned(&mut self, lanes: &[LaneInfo]) {
        self.partitions.assigned(lanes);
    }

    fn snapshot(&self, partition: &str) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self::snapshot(partition, &[(self, &|_| true)]))
    }

    fn restore(&mut self, partition: &str, snapshot: &[u8]) -> Result<(), StateError> {
        let restored = self.read(snapshot, |_| true)?;
        self.put_back(partition, restored);
        Ok(())
    }

    fn forget(&mut self, partition: &str) {
        self.partitions.forget(partition);
    }
}
