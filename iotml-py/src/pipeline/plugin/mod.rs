//! Stages written in Python, registered under a `type` like any other plug-in.
//!
//! | file | what |
//! | --- | --- |
//! | `stage.rs` | an instance, made by the user's factory for one task |
//! | `preprocessor.rs`, `scorer.rs`, `sink.rs` | core's stage traits over it |
//! | `state.rs` | what it remembers from batch to batch |
//! | `batch.rs` | the rows as the plug-in sees them |
//! | `answer.rs`, `columns.rs`, `imported.rs` | what it gives back |
//! | `exception.rs`, `parts.rs` | what it raises, and the search for the row at fault |

mod answer;
mod batch;
mod columns;
mod exception;
mod imported;
mod parts;
mod preprocessor;
mod scorer;
mod sink;
mod stage;
mod state;
mod task;

pub use batch::PyBatch;
pub use exception::Raised;
pub use task::Task;

use std::sync::Arc;

use iotml_core::plugin::{Plugin, Registry};
use iotml_core::schemars::Schema;
use pyo3::prelude::*;
use serde_json::Value;

use self::preprocessor::PythonPreprocessor;
use self::scorer::PythonScorer;
use self::sink::PythonSink;
use self::stage::Definition;
use super::word;
use crate::error::ConfigError;

/// Adds what was registered with an `iotml.Plugins`: stage, type, description, JSON Schema, factory.
///
/// Raises `ConfigError` where a type is taken, for instance by one of iotml's own.
pub fn register(registry: &mut Registry, plugins: &Bound<'_, PyAny>) -> PyResult<()> {
    for registered in plugins.getattr("registered")?.try_iter()? {
        let (stage, name, about, schema, make): (String, String, String, String, Py<PyAny>) = registered?.extract()?;
        let wrong = |what: String| ConfigError::new_err(format!("plug-in {name:?}: {what}"));
        let schema: Value = serde_json::from_str(&schema).map_err(|error| wrong(error.to_string()))?;
        let schema = Schema::try_from(schema).map_err(|error| wrong(format!("its config_schema: {error}")))?;
        let (name, about) = (word::for_ever(&name), word::for_ever(&about));
        let definition = |method| Arc::new(Definition { name, method, make });
        let is_taken = match stage.as_str() {
            "preprocess" => {
                let definition = definition("apply");
                let plugin = Plugin::with_schema(about, schema, move |config, _| {
                    Ok(Box::new(PythonPreprocessor::new(&definition, &config)?) as _)
                });
                registry.preprocessors.insert(name, plugin).is_some()
            }
            "score" => {
                let definition = definition("score");
                let plugin = Plugin::with_schema(about, schema, move |config, _| {
                    Ok(Box::new(PythonScorer::new(&definition, &config)?) as _)
                });
                registry.scorers.insert(name, plugin).is_some()
            }
            "sink" => {
                let definition = definition("write");
                let plugin = Plugin::with_schema(about, schema, move |config, _| {
                    Ok(Arc::new(PythonSink::new(&definition, &config)?) as _)
                });
                registry.sinks.insert(name, plugin).is_some()
            }
            other => return Err(wrong(format!("there are no plug-ins of the stage {other:?} in Python"))),
        };
        if is_taken {
            return Err(wrong(format!("there is already a plug-in of this type for the stage {stage}")));
        }
    }
    Ok(())
}
