//! Stage three: rows to rows: filter, map, rename, rekey.

mod select;

mod clamp;
mod impute;
mod scale;
mod standardise;

mod filter;
mod rekey;
mod rename;

mod batch_wise;
mod row_wise;

mod cells;
mod key_template;
mod lookup;
mod numbers;
mod row;
mod zone;

pub use batch_wise::{BatchWise, batch_wise};
pub use cells::CellValue;
pub use clamp::{Clamp, ClampConfig, ClampLimits};
pub use filter::{Filter, FilterAction, FilterConfig};
pub use impute::{Constant, Impute, ImputeConfig};
pub use rekey::{MAX_KEY_BYTES, MissingKey, Rekey, RekeyConfig};
pub use rename::{Rename, RenameConfig};
pub use row::Row;
pub use row_wise::{Outcome, RowWise, row_wise};
pub use scale::{Scale, ScaleColumn, ScaleConfig};
pub use select::{Select, SelectConfig};
pub use standardise::{Distribution, Standardise, StandardiseConfig};

pub(crate) use lookup::unknown_column;
pub(crate) use numbers::{doubles, not_numeric};

use async_trait::async_trait;

use crate::batch::{Batch, StageOutput};
use crate::pipeline::TaskContext;
use crate::state::Stateful;

crate::error::stage_error! {
    /// Why a preprocessor cannot process a batch at all. A bad row is rejected by itself.
    PreprocessError
}

/// Reshapes rows: between decoder and scorer, any number in a chain.
///
/// # Contract
/// 1. Says for every input row what became of it, in the sense of [`StageOutput`]: kept, rejected or filtered.
/// 2. May reorder and multiply rows, but rows of one key keep their order (invariant 11).
/// 3. Synchronous, without I/O; keeps no row from one call to the next.
/// 4. A column that is missing for good is `Fatal` and names the columns there are; a value that is wrong rejects its row.
///
/// # Example
/// ```
/// use iotml_core::batch::{Batch, StageOutput};
/// use iotml_core::preprocess::{PreprocessError, Preprocessor};
///
/// /// Lets only rows with a key pass.
/// struct Keyed;
///
/// impl Preprocessor for Keyed {
///     fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError> {
///         let keyed: Vec<bool> = (0..batch.len()).map(|row| batch.key(row).is_some()).collect();
///         let (batch, filtered) =
///             batch.filter(&keyed).map_err(|source| PreprocessError::fatal_from("rows cannot be taken", source))?;
///         Ok(StageOutput { batch, rejected: vec![], filtered })
///     }
/// }
/// ```
///
/// Checked by `iotml_core::testing::preprocess`.
#[async_trait]
pub trait Preprocessor: Send {
    /// Called once, first.
    async fn open(&mut self, _task: &TaskContext) -> Result<(), PreprocessError> {
        Ok(())
    }

    /// Processes one batch.
    fn apply(&mut self, batch: Batch) -> Result<StageOutput, PreprocessError>;

    /// The state to snapshot and restore, if there is any.
    fn state(&mut self) -> Option<&mut dyn Stateful> {
        None
    }
}
