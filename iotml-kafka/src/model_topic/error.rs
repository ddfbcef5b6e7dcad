//! Why models cannot be announced, or announcements not be read.

use iotml_core::error::{ConfigError, SchemaRegistryError};
use iotml_core::model::SetError;
use iotml_core::sink::SinkError;

use crate::log::LogError;

/// Why models cannot be announced, or announcements not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelTopicError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What is to be announced contradicts itself.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The files that come along are too large.
    #[error(
        "the models in this announcement have {bytes} bytes, but a message takes {limit} of them in this format; put them into a model \
         store and announce where they are"
    )]
    TooLarge {
        /// How large they are.
        bytes: usize,
        /// How large they may be: [`max_inline_bytes`](super::AnnouncementFormat::max_inline_bytes).
        limit: usize,
    },
    /// An announcement that is there cannot be read, and is not to be overwritten unseen.
    #[error("what is announced of model {model:?} cannot be read: {source}; take it out, or announce the model whole")]
    Unreadable {
        /// The model.
        model: String,
        /// What is wrong with it.
        #[source]
        source: SetError,
    },
    /// Others changed the same model again and again.
    #[error("model {model:?} was changed by others at the same time, {tries} times in a row; try again")]
    Contended {
        /// The model.
        model: String,
        /// How often.
        tries: u32,
    },
    /// A change was sent, and whether it is in force was not answered in time.
    #[error(
        "it is not known whether this change of model {model:?} is in force: {source}; look up what is announced, and make it again if it is \
         not there"
    )]
    Unknown {
        /// The model.
        model: String,
        /// What went wrong.
        #[source]
        source: SinkError,
    },
    /// The topic cannot be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// The topic cannot be written.
    #[error(transparent)]
    Write(#[from] SinkError),
    /// The schema registry gives no schema now, or no id for one.
    #[error(transparent)]
    Registry(#[from] SchemaRegistryError),
    /// No thread or runtime can be made.
    #[error("no runtime can be made to talk to Kafka: {0}")]
    Runtime(#[source] std::io::Error),
}
