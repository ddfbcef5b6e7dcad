//! `${env:NAME}` and `${file:PATH:KEY}`, put in before anything is checked.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::document::Document;
use super::mistake::Mistake;
use super::place::Place;
use super::properties;
use super::suggest::nearest;
use super::text;

/// What was put in, and where.
#[derive(Clone, Debug, Default)]
pub(super) struct Substituted {
    /// Places whose value came, in part at least, from outside the file.
    pub(super) places: BTreeSet<Place>,
    /// The values themselves.
    pub(super) values: Vec<String>,
    /// Those that came from files, which are where secrets are kept.
    pub(super) from_files: Vec<String>,
    pub(super) mistakes: Vec<Mistake>,
}

/// Replaces every placeholder in the strings of `document`; `$${` stands for `${`.
pub(super) fn substitute(document: &mut Document) -> Substituted {
    let mut found = Substituted::default();
    let mut value = std::mem::take(&mut document.value);
    walk(&mut value, &Place::default(), document, &mut found);
    document.value = value;
    found
}

fn walk(value: &mut Value, place: &Place, document: &Document, found: &mut Substituted) {
    match value {
        Value::String(text) if text.contains("${") => match expand(text) {
            Ok((whole, put_in)) => {
                if !put_in.is_empty() {
                    found.places.insert(place.clone());
                }
                for (provider, value) in put_in {
                    if provider == Provider::File {
                        found.from_files.push(value.clone());
                    }
                    found.values.push(value);
                }
                *text = whole;
            }
            Err(mistake) => {
                found.mistakes.push(Mistake { place: place.to_string(), line: document.line(place), ..mistake })
            }
        },
        Value::Array(values) => {
            values.iter_mut().enumerate().for_each(|(at, value)| walk(value, &place.index(at), document, found))
        }
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| walk(value, &place.key(key), document, found)),
        _ => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Provider {
    Env,
    File,
}

/// The text with its placeholders replaced, and what was put in.
fn expand(text: &str) -> Result<(String, Vec<(Provider, String)>), Mistake> {
    let (mut whole, mut put_in) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            whole.push_str(escaped);
            whole.push_str("${");
            rest = &from[2..];
            continue;
        }
        whole.push_str(before);
        let Some(end) = from.find('}') else {
            return Err(Mistake::new("", "a placeholder `${` is not closed by `}`; write `$${` for a literal `${`"));
        };
        let (provider, value) = resolve(&from[2..end])?;
        whole.push_str(&value);
        put_in.push((provider, value));
        rest = &from[end + 1..];
    }
    whole.push_str(rest);
    Ok((whole, put_in))
}

/// The value of a placeholder, given without `${` and `}`.
fn resolve(placeholder: &str) -> Result<(Provider, String), Mistake> {
    match placeholder.split_once(':') {
        Some(("env", name)) => match std::env::var(name) {
            Ok(value) => Ok((Provider::Env, value)),
            Err(std::env::VarError::NotPresent) => {
                Err(Mistake::new("", format!("environment variable {name} is not set, but `${{env:{name}}}` wants it")))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(Mistake::new("", format!("environment variable {name} is not valid UTF-8")))
            }
        },
        Some(("file", at)) => {
            let Some((path, key)) = at.rsplit_once(':') else {
                return Err(Mistake::new("", format!("`${{file:{at}}}` names no key; write `${{file:PATH:KEY}}`")));
            };
            let text = text::read(Path::new(path))
                .map_err(|error| Mistake::new("", format!("file {path} cannot be read: {error}")))?;
            let value = properties::get(&text, key);
            let value = value.ok_or_else(|| Mistake::new("", format!("file {path} has no key {key:?}")))?;
            Ok((Provider::File, value))
        }
        Some((provider, _)) => {
            let wrong =
                Mistake::new("", format!("unknown placeholder `${{{provider}:...}}`; there are `env` and `file`"));
            Err(wrong.suggest(nearest(provider, ["env", "file"])))
        }
        None => {
            let wrong =
                format!("`${{{placeholder}}}` is no placeholder; write `${{env:NAME}}`, `${{file:PATH:KEY}}`, or");
            Err(Mistake::new("", format!("{wrong} `$${{` for a literal `${{`")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn puts_in_what_the_file_and_the_environment_say() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "user = alice\npassword = p\\=w").unwrap();
        let path = file.path().display();
        let text = format!(
            "a = \"${{file:{path}:user}}/${{file:{path}:password}}\"\nb = \"$${{car}}\"\nc = [\"${{env:PATH}}\"]\n"
        );
        let mut document = Document::parse(&text).unwrap();
        let found = substitute(&mut document);
        assert_eq!(found.mistakes, []);
        assert_eq!(document.value["a"], "alice/p=w");
        assert_eq!(document.value["b"], "${car}");
        assert_eq!(document.value["c"][0], std::env::var("PATH").unwrap());
        let places: Vec<_> = found.places.iter().map(ToString::to_string).collect();
        assert_eq!(places, ["a", "c[0]"]);
        assert_eq!(found.values[..2], ["alice", "p=w"]);
        assert_eq!(found.from_files, ["alice", "p=w"]);
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let text = "[a]\nb = \"${env:IOTML_ABSENT}\"\nc = \"${file:/absent:key}\"\nd = \"${evn:X}\"\ne = \"${x\"\nf = \"${file:/absent}\"\n";
        let mut document = Document::parse(text).unwrap();
        let found: Vec<_> = substitute(&mut document).mistakes.iter().map(ToString::to_string).collect();
        let expect = [
            "line 2: a.b: environment variable IOTML_ABSENT is not set, but `${env:IOTML_ABSENT}` wants it",
            "line 3: a.c: file /absent cannot be read: No such file or directory (os error 2)",
            "line 4: a.d: unknown placeholder `${evn:...}`; there are `env` and `file`; did you mean `env`?",
            "line 5: a.e: a placeholder `${` is not closed by `}`; write `$${` for a literal `${`",
            "line 6: a.f: `${file:/absent}` names no key; write `${file:PATH:KEY}`",
        ];
        assert_eq!(found, expect);
    }
}
