//! The template of a key: text with columns to put in.

use std::str::FromStr;

/// A template such as `{car}-{region}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyTemplate {
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// As it stands.
    Literal(String),
    /// The key so far.
    Key,
    /// The value of this column.
    Column(String),
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("a `{{` is not closed; write `{{{{` for a brace")]
    Unclosed,
    #[error("a `}}` was not opened; write `}}}}` for a brace")]
    Unopened,
    #[error("`{{}}` names no column")]
    Nameless,
    #[error("it names no column, so that every row would get the same key")]
    Constant,
}

impl KeyTemplate {
    /// The value of one column, whatever its name.
    pub(super) fn column(name: String) -> Self {
        Self { parts: vec![Part::Column(name)] }
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

impl FromStr for KeyTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = behind;
                continue;
            }
            if brace == "}" {
                return Err(TemplateError::Unopened);
            }
            let (name, behind) = rest.split_once('}').ok_or(TemplateError::Unclosed)?;
            rest = behind;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(match name {
                "" => return Err(TemplateError::Nameless),
                "key" => Part::Key,
                name => Part::Column(name.to_owned()),
            });
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        match parts.iter().any(|part| !matches!(part, Part::Literal(_))) {
            true => Ok(Self { parts }),
            false => Err(TemplateError::Constant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_falls_into_its_parts() {
        let parts = |text: &str| text.parse::<KeyTemplate>().map(|template| template.parts);
        let (literal, column) = (|text: &str| Part::Literal(text.into()), |name: &str| Part::Column(name.into()));
        assert_eq!(parts("{car}-{region}").unwrap(), [column("car"), literal("-"), column("region")]);
        assert_eq!(parts("{{{key}}}/é").unwrap(), [literal("{"), Part::Key, literal("}/é")]);
        assert_eq!(parts("{car"), Err(TemplateError::Unclosed));
        assert_eq!(parts("car}"), Err(TemplateError::Unopened));
        assert_eq!(parts("a{}"), Err(TemplateError::Nameless));
        assert_eq!(parts("{{car}}"), Err(TemplateError::Constant));
        assert_eq!(parts("").unwrap_err().to_string(), "it names no column, so that every row would get the same key");
    }
}
