//! What the client of a bucket is to know, in its own words.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use iotml_core::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Properties of a bucket's client by the names that the crate object_store has for them, such as `aws_endpoint`, `aws_region` or
/// `allow_http`. Values are strings, numbers or booleans. It prints without its secrets (invariant 10).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreProperties(BTreeMap<String, String>);

/// Names whose words do not say that they are secret.
const SECRET_NAMES: [&str; 8] = [
    "access_key",
    "account_key",
    "master_key",
    "sas_key",
    "azure_storage_access_key",
    "azure_storage_account_key",
    "azure_storage_master_key",
    "azure_storage_sas_key",
];

impl StoreProperties {
    /// The same with one property set or replaced.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.insert(name, value);
        self
    }

    /// Sets or replaces a property.
    pub fn insert(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.insert(name.into().to_lowercase(), value.to_string());
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names in lower case, and values.
    #[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Whether the value of a property, its name in lower case, must not be seen.
pub(super) fn is_secret(name: &str) -> bool {
    let words = ["secret", "token", "password", "credential", "service_account"];
    // The id of a key only says whose it is, and servers name it in their answers.
    SECRET_NAMES.contains(&name) || words.iter().any(|word| name.contains(word))
}

impl fmt::Debug for StoreProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, shown(name, value)))).finish()
    }
}

fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret(name) { "***" } else { value }
}

impl Serialize for StoreProperties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, shown(name, value))))
    }
}

impl<'de> Deserialize<'de> for StoreProperties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a string, a number or a boolean")]
        enum Scalar {
            Text(String),
            Number(serde_json::Number),
            Boolean(bool),
        }
        let mut properties = StoreProperties::default();
        for (name, value) in BTreeMap::<String, Scalar>::deserialize(deserializer)? {
            match value {
                Scalar::Text(text) => properties.insert(name, text),
                Scalar::Number(number) => properties.insert(name, number),
                Scalar::Boolean(boolean) => properties.insert(name, boolean),
            }
        }
        Ok(properties)
    }
}

impl JsonSchema for StoreProperties {
    fn schema_name() -> Cow<'static, str> {
        "StoreProperties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let secrets: serde_json::Map<_, _> = SECRET_NAMES
            .iter()
            .map(|name| ((*name).to_owned(), serde_json::json!({ "type": "string", "format": "password" })))
            .collect();
        json_schema!({
            "type": "object",
            "properties": secrets,
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_10_secrets_are_not_shown_and_the_rest_is() {
        let json = r#"{"AWS_Secret_Access_Key": "hunter2", "aws_access_key_id": "me", "allow_http": true, "account_key": "hunter2"}"#;
        let properties: StoreProperties = serde_json::from_str(json).unwrap();
        for text in [format!("{properties:?}"), serde_json::to_string(&properties).unwrap()] {
            assert!(!text.contains("hunter2") && text.contains("me") && text.contains("true"), "{text}");
        }
        let error = serde_json::from_str::<StoreProperties>(r#"{"a": []}"#).unwrap_err().to_string();
        assert!(error.contains("a string, a number or a boolean"), "{error}");
    }
}
