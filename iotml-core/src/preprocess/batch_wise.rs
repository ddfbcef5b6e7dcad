//! A closure over whole batches as a preprocessor.

use super::{PreprocessError, Preprocessor};
use crate::batch::{Batch, StageOutput};

/// Makes a preprocessor of a function from batch to batch, for logic that wants Arrow's kernels.
///
/// The function keeps the contract of [`Preprocessor`].
///
/// ```
/// use iotml_core::batch::StageOutput;
/// use iotml_core::preprocess::{PreprocessError, batch_wise};
///
/// let mut dated_only = batch_wise(|batch| {
///     let dated: Vec<bool> = (0..batch.len()).map(|row| batch.time(row).is_some()).collect();
///     let filtered = batch.filter(&dated);
///     let (batch, filtered) = filtered.map_err(|source| PreprocessError::fatal_from("rows do not fit", source))?;
///     Ok(StageOutput { batch, rejected: vec![], filtered })
/// });
/// # use iotml_core::preprocess::Preprocessor;
/// # let batch = iotml_core::batch::Batch::undecoded(Default::default());
/// # assert!(dated_only.apply(batch).is_ok());
/// ```
pub fn batch_wise<F>(apply: F) -> BatchWise<F>
where
    F: FnMut(Batch) -> Result<StageOutput, PreprocessError> + Send,
{
    BatchWise { apply }
}

/// See [`batch_wise`].
#[derive(Clone, Debug)]
pub struct BatchWise<F> {
    apply: F,
}

impl<F> Preprocessor for BatchWise<F>
where
    F: FnMut(Batch) -> Result<StageOutput, PreprocessError> + Send,
{
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
        (self.apply)(batch)
    }
}
