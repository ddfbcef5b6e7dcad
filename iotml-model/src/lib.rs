//! ONNX models as scorers.
//!
//! A model is an ONNX file and a [`manifest`]. To become a [`Model`] it passes, in this order:
//!
//! 1. [`precheck`]: the file is read in safe Rust and refused if its size, operators or shapes are not acceptable;
//! 2. an engine: ONNX Runtime, found at run time, or tract;
//! 3. its golden rows, on the engine that will serve it.
//!
//! [`OnnxScorer`] puts a model into a pipeline, a [`Follower`] those that are announced while it runs; [`register`] makes both known to a
//! worker as `type = "onnx"`. A [`Watcher`] compares live rows with those of training. [`RowScorer`] scores
//! rows that come from anywhere else.
//!
//! A model that came without a manifest is given one in code:
//!
//! ```no_run
//! use iotml_model::manifest::Scale;
//! use iotml_model::{GoldenRule, Kind, Manifest, ManifestSource, Model, OpenOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manifest = Manifest::builder(Kind::Reconstruction, "pumps")
//!     .version("2")
//!     .feature("pressure", Some(Scale::Range { min: 0.0, max: 12.0 }))
//!     .feature("flow", Some(Scale::Standard { mean: 3.1, std: 0.4 }))
//!     .fixed_threshold(0.08)
//!     .build()?;
//! let options = OpenOptions {
//!     manifest: ManifestSource::Given(Box::new(manifest)),
//!     golden: GoldenRule::None,
//!     ..OpenOptions::default()
//! };
//! let mut model = Model::open("pumps.onnx".as_ref(), &options)?;
//! let reconstruction = model.run(&[-0.5, 0.25])?;
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod classifier;
#[cfg(feature = "cli")]
mod cli;
mod columns;
#[cfg(feature = "cli")]
mod comparison;
mod engine;
mod error;
mod evaluation;
pub mod feature;
mod golden;
pub mod kmeans;
mod live;
pub mod manifest;
mod model;
mod next_event;
mod partitions;
pub mod precheck;
mod reconstruction;
mod row_scorer;
mod score;
mod scorer;
mod series;
mod snapshot;
#[cfg(feature = "store")]
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verdict;
pub mod watch;
mod work;

pub use engine::{EngineChoice, prefer_library_in};
pub use error::{EngineError, ModelError};
pub use evaluation::{EvaluationError, Wants};
pub use kmeans::{KMeansScorer, KMeansScorerConfig};
pub use live::{FeedTable, FollowConfig, Follower, LiveScorer};
pub use manifest::{Kind, Manifest, ManifestSource};
pub use model::{GoldenRule, Model, OpenOptions};
pub use row_scorer::{RowScorer, Rows, Scored};
pub use scorer::{OnnxScorer, OnnxScorerConfig, column};
pub use watch::{WatchConfig, Watcher};

use iotml_core::plugin::Registry;
use iotml_core::score::Scorer;

/// Adds the scorers `onnx` and `kmeans`, and with the feature `cli` the subcommand `model`.
pub fn register(registry: &mut Registry) {
    live::register(registry);
    registry.scorer(
        "kmeans",
        "scores rows by their distance to centres that it learns from them as they come",
        |config: KMeansScorerConfig, _| Ok(Box::new(KMeansScorer::new(config)?) as Box<dyn Scorer>),
    );
    #[cfg(feature = "cli")]
    registry.command(cli::ModelCommand);
}
