//! Pieces that are private otherwise, for fuzzing.

use iotml_core::error::ConfigError;

use crate::source::{Mapped, Mapping, TopicConfig};
use crate::template::Template;

/// What the topics of a source make of messages.
#[derive(Debug)]
pub struct TopicMap(Mapping);

/// A mapped topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedTopic {
    /// Whether a filter matches; if not, the topic is its own key.
    pub matches: bool,
    /// The key of the message.
    pub key: String,
    /// Where it should go, if its filter says so.
    pub target: Option<String>,
}

impl TopicMap {
    /// Compiles the filters of a source.
    ///
    /// # Errors
    /// What a user would be told.
    pub fn compile(topics: &[TopicConfig], group: Option<&str>) -> Result<Self, ConfigError> {
        Mapping::compile(topics, group).map(Self)
    }

    /// The filters as they are subscribed to.
    pub fn filters(&self) -> &[String] {
        self.0.filters()
    }

    /// Key and target of a message on `topic`.
    pub fn map(&self, topic: &str) -> MappedTopic {
        let mut mapped = Mapped::default();
        let matches = self.0.map(topic, &mut mapped);
        MappedTopic { matches, target: mapped.target().map(Into::into), key: mapped.key }
    }
}

/// The text of a template with `values` in the places of `names`.
///
/// # Errors
/// What a user would be told.
pub fn render(template: &str, names: &[&str], values: &[&str]) -> Result<String, ConfigError> {
    let template = Template::parse("template", template, names)?;
    let mut out = String::new();
    template.render(&mut out, |place| values[place]);
    Ok(out)
}
