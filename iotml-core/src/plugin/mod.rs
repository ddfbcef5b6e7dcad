//! Plug-ins: a [`Registry`] maps the `type` name of a configuration to a stage.

mod core;
mod registry;

mod byte_size;
#[cfg(feature = "schema")]
pub mod config;
mod duration;
mod remark;
pub(crate) mod suggest;

pub use byte_size::ByteSize;
pub use duration::HumanDuration;
pub use registry::{BuildContext, Check, Plugin, PluginConfig, Registry};
pub use remark::{Inspection, Remark};
