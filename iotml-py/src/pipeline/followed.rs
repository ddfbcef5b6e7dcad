//! The announcements that the scorer of a pipeline follows.

use std::path::Path;
use std::sync::Arc;

use iotml_core::plugin::config::{Config, Secrets};
use iotml_model::{FollowConfig, OnnxScorerConfig};
use pyo3::prelude::*;

use super::{failure, plugins};
use crate::error::ConfigError;

/// What the pipeline in `text` follows, and what must not be told of it; `file` stands in messages. Raises `ConfigError` if the
/// document is wrong, or its scorer follows nothing.
pub fn followed(
    py: Python<'_>,
    text: &str,
    file: &str,
    plugins: Option<&Bound<'_, PyAny>>,
) -> PyResult<(FollowConfig, Secrets)> {
    let registry = Arc::new(plugins::registry(plugins)?);
    let parsed = py.detach(|| Config::parse(text, Path::new(file), &registry));
    let config = parsed.map_err(|mistakes| failure::of_mistakes(py, &mistakes))?;
    let follow = OnnxScorerConfig::of_pipeline(&config).and_then(|scorer| scorer.follow);
    let none =
        || ConfigError::new_err(format!("the scorer of {file} follows no announcements: it has no score.follow"));
    Ok((follow.ok_or_else(none)?, config.secrets().clone()))
}
