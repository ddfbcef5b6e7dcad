//! What one task counts of its batches.

use std::sync::Arc;

use iotml_core::arrow::array::RecordBatch;

use super::tally::Tally;
use super::watched::Watched;
use crate::evaluation::{Input, Keys};
use crate::feature::{Affine, Column, FeatureSpec};
use crate::row_scorer::Rows;

/// Rows per tile: small enough for the first-level cache, large enough that starting a pass for each edge costs nothing.
const TILE: usize = 512;

/// Counts the rows of one task for one version.
#[derive(Debug)]
pub(crate) struct Observer {
    watched: Arc<Watched>,
    batch: Tally,
    tile: Box<[f32]>,
    /// Batches until the next one that is looked at.
    skip: u32,
}

/// What became of the rows of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Verdicts {
    /// Rows that have a score.
    pub(crate) judged: u64,
    pub(crate) anomalies: u64,
}

impl Observer {
    pub(super) fn new(watched: Arc<Watched>) -> Self {
        let batch = watched.unseen();
        Observer { watched, batch, tile: vec![0.0; TILE].into(), skip: 0 }
    }

    /// Looks at a batch that `spec` has just scaled.
    pub(crate) fn observe(&mut self, spec: &FeatureSpec, input: &Input<'_, '_>, verdicts: Verdicts) {
        let Rows::Columns(columns) = input.rows else { return };
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.skip = self.watched.every() - 1;
        if columns.num_rows() == 0 {
            return;
        }
        self.count(spec, columns);
        self.batch.extent.rows = columns.num_rows() as u64;
        (self.batch.judged, self.batch.anomalies) = (verdicts.judged, verdicts.anomalies);
        if let Keys::Batch(batch) | Keys::Rows(batch, _) = &input.keys {
            self.batch.extent.note(batch.raw());
        }
        self.watched.take(&mut self.batch);
    }

    fn count(&mut self, spec: &FeatureSpec, columns: &RecordBatch) {
        let n_rows = columns.num_rows();
        for (feature, seen) in self.watched.features().iter().zip(&mut self.batch.features) {
            let Some(column) = spec.column(feature.at, columns) else { continue };
            for start in (0..n_rows).step_by(TILE) {
                let tile = &mut self.tile[..TILE.min(n_rows - start)];
                let is_clean = column.convert(start, Affine::NONE, tile);
                let n = if is_clean { tile.len() } else { keep_present(&column, start, tile) };
                feature.bins.count(&tile[..n], seen);
                seen.miss((tile.len() - n) as u64);
            }
        }
    }
}

/// Moves the values that are there and finite to the front, and says how many they are.
fn keep_present(column: &Column<'_>, start: usize, tile: &mut [f32]) -> usize {
    let mut n = 0;
    for offset in 0..tile.len() {
        if tile[offset].is_finite() && column.get(start + offset).is_some() {
            tile[n] = tile[offset];
            n += 1;
        }
    }
    n
}
