//! Kind `next_event`: how far a row is from what the model expected after the rows of its key before it.

mod snapshot;
mod table;

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

    /// Takes over what `old` remembers of keys that are not known here, if its numbers mean the same.
    pub(crate) fn inherit(&mut self, old: &mut Windows) {
        if (old.fingerprint, old.shape) != (self.fingerprint, self.shape) {
            return;
        }
        self.partitions.inherit(&mut old.partitions, Table::inherit);
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
        let table = self.partitions.get(partition);
        Ok(table.map(|table| snapshot::write(table, self.shape, self.fingerprint)))
    }

    fn restore(&mut self, partition: &str, snapshot: &[u8]) -> Result<(), StateError> {
        let table = snapshot::read(snapshot, self.shape, self.fingerprint, self.max_keys)?;
        self.partitions.restore(partition, table, "a model with other features");
        Ok(())
    }

    fn forget(&mut self, partition: &str) {
        self.partitions.forget(partition);
    }
}
