//! A place in a configuration: `route[1].sink.topic`.

use std::fmt;

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The way from the root of a document to a value; prints as TOML writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Vec<Step>);

impl Place {
    pub(super) fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.step(Step::Index(index))
    }

    /// This place, then the steps of a JSON pointer.
    pub(super) fn pointer(&self, pointer: &str) -> Self {
        pointer.split('/').skip(1).fold(self.clone(), |place, step| match step.parse() {
            // A table's key may be a number too, but then it prints the same but for the brackets.
            Ok(index) => place.index(index),
            Err(_) => place.key(&step.replace("~1", "/").replace("~0", "~")),
        })
    }

    pub(super) fn parent(&self) -> Option<Self> {
        let (_, above) = self.0.split_last()?;
        Some(Self(above.to_vec()))
    }

    pub(super) fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Index(_) => None,
        })
    }

    fn step(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if at == 0 { "" } else { "." };
                    if is_bare(key) { write!(f, "{dot}{key}")? } else { write!(f, "{dot}{key:?}")? }
                }
            }
        }
        Ok(())
    }
}

/// Whether TOML takes `key` without quotes.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_toml_writes_it() {
        let route = Place::default().key("route").index(1);
        assert_eq!(route.key("sink").key("topicc").to_string(), "route[1].sink.topicc");
        assert_eq!(Place::default().key("pipeline").key("tasks.max").to_string(), "pipeline.\"tasks.max\"");
        assert_eq!(route.pointer("/sink/a~1b/0").to_string(), "route[1].sink.\"a/b\"[0]");
        assert_eq!(route.pointer("").to_string(), "route[1]");
    }
}
