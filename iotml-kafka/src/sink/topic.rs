//! Which topic a row goes to.

use std::borrow::Cow;

use iotml_core::batch::{Message, Messages};
use iotml_core::error::{Cause, ConfigError, Reason};

use crate::source::is_topic_name;

/// Says which topic a row goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicRule {
    /// All rows to one topic.
    Fixed(String),
    /// Made anew for every row.
    Template(Vec<Part>),
    /// Every row to its target.
    Target,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Topic,
    Target,
    Key,
}

impl TopicRule {
    pub fn new(template: Option<&str>) -> Result<Self, ConfigError> {
        let Some(template) = template else { return Ok(Self::Target) };
        let wrong = |why: String| ConfigError::new(format!("topic {template:?} cannot be used: {why}"));
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let close = rest[open..].find('}').ok_or_else(|| wrong("a brace is not closed".into()))? + open;
            if open > 0 {
                parts.push(Part::Text(rest[..open].into()));
            }
            parts.push(match &rest[open + 1..close] {
                "topic" => Part::Topic,
                "target" => Part::Target,
                "key" => Part::Key,
                other => return Err(wrong(format!("{{{other}}} is none of {{topic}}, {{target}}, {{key}}"))),
            });
            rest = &rest[close + 1..];
        }
        if parts.is_empty() {
            return match is_topic_name(template) {
                true => Ok(Self::Fixed(template.into())),
                false => Err(wrong("a Kafka topic has 1 to 249 of the characters a-z A-Z 0-9 . _ -".into())),
            };
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self::Template(parts))
    }

    /// The topic of `row`.
    pub fn topic<'a>(&'a self, messages: &'a Messages, row: usize) -> Result<Cow<'a, str>, Cause> {
        self.topic_of(|| messages.message(row))
    }

    /// The topic of a message, which is asked for only where it matters.
    pub fn topic_of<'a>(&'a self, message: impl FnOnce() -> Message<'a>) -> Result<Cow<'a, str>, Cause> {
        let none = |what: &str| Cause::new(Reason::NoTarget, format!("the row has no {what} to make a Kafka topic of"));
        let name: Cow<'a, str> = match self {
            Self::Fixed(name) => return Ok(Cow::Borrowed(name)),
            Self::Target => Cow::Borrowed(message().target.ok_or_else(|| none("target"))?),
            Self::Template(parts) => {
                let message = message();
                let mut name = String::new();
                for part in parts {
                    name.push_str(match part {
                        Part::Text(text) => text,
                        Part::Topic => message.topic.ok_or_else(|| none("topic"))?,
                        Part::Target => message.target.ok_or_else(|| none("target"))?,
                        Part::Key => {
                            let key = message.key.ok_or_else(|| none("key"))?;
                            str::from_utf8(key).map_err(|_| none("key in UTF-8"))?
                        }
                    });
                }
                Cow::Owned(name)
            }
        };
        if is_topic_name(&name) {
            return Ok(name);
        }
        let shown: String = name.chars().take(100).collect();
        Err(Cause::new(Reason::NoTarget, format!("{shown:?} is not a name a Kafka topic can have")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_takes_from_the_row_and_a_bad_name_is_the_rows_fault() {
        let mut messages = Messages::default();
        let (topic, target) = (Some("sensor"), Some("elsewhere"));
        messages.push(Message { key: Some(b"car-7"), topic, target, ..Message::default() });
        messages.push(Message { key: Some(b"car 8/"), ..Message::default() });
        let template = TopicRule::new(Some("{topic}.{key}-x")).unwrap();
        assert_eq!(template.topic(&messages, 0).unwrap(), "sensor.car-7-x");
        assert_eq!(template.topic(&messages, 1).unwrap_err().reason, Reason::NoTarget);
        let key = TopicRule::new(Some("{key}")).unwrap();
        assert!(key.topic(&messages, 1).unwrap_err().detail.contains("\"car 8/\""));
        assert_eq!(TopicRule::Target.topic(&messages, 0).unwrap(), "elsewhere");
        assert!(TopicRule::Target.topic(&messages, 1).is_err());
    }

    #[test]
    fn a_wrong_template_is_refused_before_anything_starts() {
        for (template, part) in [("a{b", "not closed"), ("a{partition}", "{partition}"), ("a b", "249"), ("", "249")] {
            let error = TopicRule::new(Some(template)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(TopicRule::new(Some("plain")).unwrap(), TopicRule::Fixed("plain".into()));
    }
}
