//! Rows of the live stream, on which a new model shows what it makes of them before it scores any.

use iotml_core::arrow::array::RecordBatch;
use iotml_core::batch::Batch;

/// Enough to see a model's pace and its numbers, and little to keep.
pub(crate) const MAX_SAMPLE_ROWS: usize = 1024;

/// The first rows of a batch, copied, so that they hold on to nothing else.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) columns: RecordBatch,
    keys: Vec<Vec<u8>>,
}

impl Sample {
    /// Rows of `batch`; `None` if they cannot be copied, or there are none.
    pub(crate) fn of(batch: &Batch) -> Option<Self> {
        let rows: Vec<u32> = (0..batch.len().min(MAX_SAMPLE_ROWS) as u32).collect();
        let taken = batch.take(&rows).ok().filter(|taken| !taken.is_empty())?;
        let keys = (0..taken.len()).map(|row| taken.key(row).unwrap_or_default().to_vec()).collect();
        Some(Sample { columns: taken.columns().clone(), keys })
    }

    /// Whose rows they are.
    pub(crate) fn keys(&self) -> Vec<&[u8]> {
        self.keys.iter().map(Vec::as_slice).collect()
    }
}
