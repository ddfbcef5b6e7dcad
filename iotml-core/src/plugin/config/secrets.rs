//! What must not be seen of a configuration (invariant 10).

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::place::Place;
use super::schema::resolve;

/// What stands in place of a secret.
const STARS: &str = "***";

/// Words in the name of a key whose value is a secret, for properties that are passed through and have no type.
const SECRET_WORDS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "passphrase",
    "credential",
    "apikey",
    "jaas",
    "userinfo",
    "authorization",
];

/// The secret values of a configuration, to be taken out of any text on its way to a person.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Longest first, so that a secret that holds another is replaced whole.
    values: Vec<String>,
}

impl Secrets {
    /// Adds a secret value, also in the forms in which JSON and Rust write it. One or two characters are no secret, and
    /// taking them out would make every text unreadable.
    pub fn add(&mut self, value: &str) {
        let json = Value::from(value).to_string();
        let debug = format!("{value:?}");
        for form in [value, &json[1..json.len() - 1], &debug[1..debug.len() - 1]] {
            if form.chars().count() > 2 && !self.values.iter().any(|known| known == form) {
                self.values.push(form.to_owned());
            }
        }
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }

    /// Adds all secrets of `other`.
    pub fn extend(&mut self, other: &Secrets) {
        other.values.iter().for_each(|value| self.add(value));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// `text` with stars in place of every secret.
    pub fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for value in &self.values {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), STARS));
            }
        }
        text
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

/// The places of `value` that hold secrets: those of type `Secret`, and those whose key says so.
pub(super) fn secret_places(schema: &Value, value: &Value, place: &Place, found: &mut BTreeSet<Place>) {
    walk(schema, schema, value, place, found);
}

fn walk(root: &Value, schema: &Value, value: &Value, place: &Place, found: &mut BTreeSet<Place>) {
    let target = resolve(root, schema);
    if !std::ptr::eq(target, schema) {
        walk(root, target, value, place, found);
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        for branch in schema.get(several).and_then(Value::as_array).into_iter().flatten() {
            walk(root, branch, value, place, found);
        }
    }
    let typed = schema.get("format").and_then(Value::as_str) == Some("password");
    if !value.is_object() && (typed || place.last_key().is_some_and(says_secret)) {
        found.insert(place.clone());
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let known = schema.get("properties").and_then(|properties| properties.get(key));
                let schema = known.or_else(|| schema.get("additionalProperties")).unwrap_or(&Value::Null);
                walk(root, schema, value, &place.key(key), found);
            }
        }
        Value::Array(values) => {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            values.iter().enumerate().for_each(|(at, value)| walk(root, schema, value, &place.index(at), found));
        }
        _ => {}
    }
}

fn says_secret(key: &str) -> bool {
    let plain: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // `ssl.key.pem` is a private key; `ssl.key.location` is only the name of a file.
    SECRET_WORDS.iter().any(|word| plain.contains(word)) || plain.ends_with("keypem")
}

/// The values at `places`, and passwords inside of addresses anywhere.
pub(super) fn collect(value: &Value, at: &Place, places: &BTreeSet<Place>, secrets: &mut Secrets) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| collect(value, &at.key(key), places, secrets)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| collect(value, &at.index(index), places, secrets))
        }
        Value::String(text) if places.contains(at) => secrets.add(text),
        Value::Number(number) if places.contains(at) => secrets.add(&number.to_string()),
        Value::String(text) => {
            if let Some((_, password)) = user_info(text).and_then(|info| info.split_once(':')) {
                secrets.add(password);
            }
        }
        _ => {}
    }
}

/// A copy of `value` to show, with stars at `places` and in place of passwords inside of addresses.
pub(super) fn redacted(value: &Value, at: &Place, places: &BTreeSet<Place>) -> Value {
    match value {
        Value::Object(map) => {
            let shown = map.iter().map(|(key, value)| (key.clone(), redacted(value, &at.key(key), places)));
            Value::Object(shown.collect::<Map<_, _>>())
        }
        Value::Array(values) => {
            let shown = values.iter().enumerate().map(|(index, value)| redacted(value, &at.index(index), places));
            Value::Array(shown.collect())
        }
        _ if places.contains(at) => Value::from(STARS),
        Value::String(text) => match user_info(text) {
            Some(info) => Value::from(text.replacen(info, STARS, 1)),
            None => value.clone(),
        },
        other => other.clone(),
    }
}

/// `user:password` of `scheme://user:password@host/`.
fn user_info(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (info, _) = authority.rsplit_once('@')?;
    (!info.is_empty()).then_some(info)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inv_10_secrets_are_found_by_type_by_key_and_in_addresses() {
        let schema = json!({
            "properties": { "key": { "anyOf": [{ "$ref": "#/$defs/Secret" }, { "type": "null" }] } },
            "$defs": { "Secret": { "type": "string", "format": "password" } }
        });
        let value = json!({
            "key": "hunter2",
            "kafka": { "sasl.password": "hunter3", "sasl.username": "alice", "ssl.key.pem": "hunter4", "pin-token": 4711 },
            "url": "https://alice:hunter5@host/path",
            "list": [{ "client_secret": ["hunter6"] }]
        });
        let mut places = BTreeSet::new();
        secret_places(&schema, &value, &Place::default(), &mut places);
        let shown = redacted(&value, &Place::default(), &places).to_string();
        let mut secrets = Secrets::default();
        collect(&value, &Place::default(), &places, &mut secrets);
        let scrubbed = secrets.scrub(&value.to_string()).into_owned();
        for text in [&shown, &scrubbed] {
            assert!(!text.contains("hunter") && !text.contains("4711"), "{text}");
            assert!(text.contains("alice\"") && text.contains("host/path"), "{text}");
        }
    }

    #[test]
    fn inv_10_a_secret_is_scrubbed_in_every_form() {
        let mut secrets = Secrets::default();
        secrets.add("pa\"ss\\word");
        secrets.add("pa");
        let texts = ["pa\"ss\\word".to_owned(), json!("pa\"ss\\word").to_string(), format!("{:?}", "pa\"ss\\word")];
        for text in texts {
            assert!(!secrets.scrub(&text).contains("word"), "{}", secrets.scrub(&text));
        }
        assert_eq!(secrets.scrub("nothing here"), "nothing here");
    }
}
