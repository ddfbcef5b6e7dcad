//! The plug-ins of a Python process: all of iotml's own, and the user's.

use iotml_core::plugin::Registry;
use pyo3::prelude::*;

use super::plugin;

/// A registry with every first-party plug-in, and with `plugins`, an `iotml.Plugins`, where there are any.
pub fn registry(plugins: Option<&Bound<'_, PyAny>>) -> PyResult<Registry> {
    let mut registry = Registry::with_core();
    iotml_mqtt::register(&mut registry);
    iotml_kafka::register(&mut registry);
    iotml_model::register(&mut registry);
    if let Some(plugins) = plugins {
        plugin::register(&mut registry, plugins)?;
    }
    Ok(registry)
}
