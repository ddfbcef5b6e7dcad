//! The configuration of a pipeline: one TOML document, checked as a whole before anything is started.
//!
//! [`Config::load`] reads the file, puts in `${env:NAME}` and `${file:PATH:KEY}`, checks the document and every plug-in's
//! table against JSON Schemas, builds every stage once, and then reports everything that is wrong together, each
//! [`Mistake`] with its place, its line and what was probably meant.

mod assemble;
mod check;
mod delivery;
mod document;
mod explain;
mod frame;
mod load;
mod mistake;
mod place;
mod properties;
mod routes;
mod schema;
mod secrets;
mod settings;
mod substitute;
mod tables;
mod text;

use super::suggest;

pub use frame::{
    DeliveryWord, Frame, OnFailureWord, PipelineTable, PluginTable, RetryTimeout, RouteTable, StateTable, ToleranceWord,
};
pub use load::Config;
pub use mistake::{Mistake, Mistakes};
pub use schema::schema;
pub use secrets::Secrets;
pub use settings::{HttpTable, LogFormat, LogTable, SocketAddrText};

#[cfg(feature = "cli")]
pub(crate) use schema::{plugin_schema, properties, resolve};
#[cfg(feature = "cli")]
pub(crate) use suggest::nearest;
