//! Text with named places: `vehicles/{car}/alerts`.

use iotml_core::error::ConfigError;

/// A parsed template whose places are numbers of a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(usize),
}

/// Each place may bring a whole topic of 64 KiB into every message.
const MAX_PLACES: usize = 32;

impl Template {
    /// Parses `text`; `what` names the setting in errors. A place must be one of `names`; `{{` and `}}` stand for braces.
    pub(crate) fn parse(what: &str, text: &str, names: &[&str]) -> Result<Self, ConfigError> {
        let wrong = |why: String| ConfigError::new(format!("{what} {text:?} {why}"));
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(wrong("has a `}` without a `{`; write `}}` for a brace".into()));
            }
            let end = rest.find('}').ok_or_else(|| wrong("has a `{` without a `}`; write `{{` for a brace".into()))?;
            let name = &rest[..end];
            let place = names.iter().position(|known| *known == name).ok_or_else(|| {
                let known: Vec<_> = names.iter().map(|known| format!("{{{known}}}")).collect();
                wrong(format!("uses {{{name}}}; known here: {}", known.join(", ")))
            })?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Place(place));
            if parts.iter().filter(|part| matches!(part, Part::Place(_))).count() > MAX_PLACES {
                return Err(ConfigError::new(format!("{what} has more than {MAX_PLACES} places in braces")));
            }
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Whether place `n` occurs.
    pub(crate) fn uses(&self, n: usize) -> bool {
        self.parts.contains(&Part::Place(n))
    }

    /// Appends the text to `out`, with `value(n)` for place `n`.
    pub(crate) fn render<'a>(&self, out: &mut String, value: impl Fn(usize) -> &'a str) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Place(place) => out.push_str(value(*place)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<String, String> {
        let template = Template::parse("key", text, &["car", "topic"]).map_err(|error| error.to_string())?;
        let mut out = String::new();
        template.render(&mut out, |place| ["electric-7", "a/b"][place]);
        Ok(out)
    }

    #[test]
    fn places_are_filled_and_doubled_braces_stand_for_themselves() {
        assert_eq!(render("{car}").unwrap(), "electric-7");
        assert_eq!(render("x-{topic}-{car}.{{raw}}").unwrap(), "x-a/b-electric-7.{raw}");
        assert_eq!(render("").unwrap(), "");
    }

    #[test]
    fn a_mistake_names_the_setting_and_what_is_known() {
        assert_eq!(render("{bus}").unwrap_err(), "key \"{bus}\" uses {bus}; known here: {car}, {topic}");
        assert!(render("{car").unwrap_err().contains("without a `}`"));
        assert!(render("car}").unwrap_err().contains("without a `{`"));
        assert_eq!(render(&"{car}".repeat(33)).unwrap_err(), "key has more than 32 places in braces");
    }
}
