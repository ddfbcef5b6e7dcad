//! Plug-ins: a [`Registry`] maps the `type` name of a configuration to a stage.

mod core;
mod registry;

pub use registry::{BuildContext, Plugin, PluginConfig, Registry};
