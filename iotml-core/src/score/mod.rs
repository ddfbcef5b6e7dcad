//! Stage four: appends scores and verdicts.

mod rule;
mod shadow;
mod threshold;

pub use rule::{ThresholdScorer, ThresholdScorerConfig};
pub use shadow::shadow_field;
pub(crate) use shadow::split;
pub use threshold::{Limits, Threshold, ThresholdError, ThresholdMethod, quantile};

use async_trait::async_trait;

use crate::batch::{Batch, StageOutput};
use crate::pipeline::TaskContext;
use crate::state::Stateful;

crate::error::stage_error! {
    /// Why a scorer cannot score a batch at all. A bad row is rejected by itself.
    ScoreError
}

/// The columns a scorer appends. A consumer finds them by these names whatever model made them.
pub mod column {
    /// `Float32`, higher is more anomalous; null where the scorer has no opinion yet.
    pub const SCORE: &str = "score";
    /// `Float32`: the limit in force for the row.
    pub const THRESHOLD: &str = "threshold";
    /// `Boolean`: the verdict; null where the score is null.
    pub const ANOMALY: &str = "anomaly";
    /// `Utf8`: name of the model.
    pub const MODEL: &str = "model";
    /// `Utf8`: version of the model; every row names exactly one (invariant 8).
    pub const MODEL_VERSION: &str = "model_version";
    /// `FixedSizeList<Float32>`: squared error per feature, in the model's feature order, where asked for.
    pub const FEATURE_ERRORS: &str = "feature_errors";
}

/// Appends the columns of [`mod@column`]: after the preprocessors, before the encoder.
///
/// # Contract
/// 1. Appends columns and changes no others; rows keep their order.
/// 2. Scoring n rows at once equals scoring them one by one in order.
/// 3. A row whose features are missing or not finite is rejected, its neighbours are scored (invariant 7).
/// 4. One call uses one model version (invariant 8).
/// 5. Synchronous, without I/O, single-threaded: scale-out is by tasks.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use iotml_core::arrow::array::{Array, AsArray, Float32Array};
/// use iotml_core::arrow::datatypes::{DataType, Field, Float32Type};
/// use iotml_core::batch::{Batch, StageOutput};
/// use iotml_core::score::{ScoreError, Scorer, column};
///
/// /// The distance of `speed` from 25 m/s.
/// struct SpeedScorer;
///
/// impl Scorer for SpeedScorer {
///     fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError> {
///         let speed = batch.column("speed").and_then(|array| array.as_primitive_opt::<Float32Type>());
///         let speed = speed.ok_or_else(|| ScoreError::fatal("no float32 column \"speed\""))?;
///         let score = Arc::new(Float32Array::from_iter(speed.iter().map(|v| v.map(|v| (v - 25.0).abs()))));
///         let batch = batch.with_column(Field::new(column::SCORE, DataType::Float32, true), score);
///         Ok(StageOutput::all(batch.map_err(|source| ScoreError::fatal_from("columns do not fit", source))?))
///     }
/// }
/// ```
///
/// Checked by `iotml_core::testing::score`.
#[async_trait]
pub trait Scorer: Send {
    /// Loads the model. Called once, first.
    async fn open(&mut self, _task: &TaskContext) -> Result<(), ScoreError> {
        Ok(())
    }

    /// Scores one batch.
    fn score(&mut self, batch: Batch) -> Result<StageOutput, ScoreError>;

    /// The state to snapshot and restore, if there is any.
    fn state(&mut self) -> Option<&mut dyn Stateful> {
        None
    }
}
