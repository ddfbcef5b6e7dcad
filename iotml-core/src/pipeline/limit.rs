//! Limits on what surrounds a message; the decoder has those on the message itself.

use arrow::error::ArrowError;

use crate::batch::{Batch, RawBatch, Rejected, StageOutput};
use crate::error::{Cause, Reason};

/// Rejects rows whose message in `raw` has more headers than `max`.
pub(super) fn limit_headers(raw: &RawBatch, batch: Batch, max: usize) -> Result<StageOutput, ArrowError> {
    let headers = raw.messages().headers();
    if headers.is_empty() {
        return Ok(StageOutput::all(batch));
    }
    let n_of = |row: usize| headers.n_of(batch.origin(row));
    let keep: Vec<bool> = (0..batch.len()).map(|row| n_of(row) <= max).collect();
    let over = (0..batch.len()).filter(|row| !keep[*row]);
    let rejected = over.map(|row| {
        let detail = format!("{} headers, and the limit `max_headers` is {max}", n_of(row));
        Rejected { row: row as u32, cause: Cause::new(Reason::Oversized, detail) }
    });
    let rejected = rejected.collect();
    Ok(StageOutput { batch: batch.filter(&keep)?.0, rejected, filtered: Vec::new() })
}
