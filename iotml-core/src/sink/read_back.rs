//! Reading again what a sink has written.

use std::sync::Arc;

use crate::batch::RawBatch;
use crate::error::BoxError;

/// Messages in batches, none of them empty; nothing comes after an error. Asking for the next may block.
pub type Stretch = Box<dyn Iterator<Item = Result<Arc<RawBatch>, BoxError>>>;

/// Reads again what a sink has written, beside the pipeline: to compare what models said, to look at what became of rows.
///
/// # Contract
/// 1. It changes nothing at the far side, and belongs to no group there.
/// 2. What is read of one lane is in the order in which it was written.
/// 3. A stretch ends: with what was written when it was opened.
/// 4. Its memory does not grow with what is read.
pub trait ReadBack {
    /// Opens what was written with times from `from` on and before `to`, in milliseconds since the Unix epoch; without one, from the oldest
    /// on, or to the newest. Messages next to it that are older or younger may come along.
    ///
    /// # Errors
    /// What keeps it from being read, and what to do.
    fn open(&self, from: Option<i64>, to: Option<i64>) -> Result<Stretch, BoxError>;
}
