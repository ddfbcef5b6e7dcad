//! Checks a table against a JSON Schema and reports every mistake.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::Value;

use super::document::Document;
use super::explain::Explainer;
use super::mistake::Mistake;
use super::place::Place;
use crate::error::ConfigError;

/// What a check needs to know of the document around the value.
pub(super) struct Surroundings<'a> {
    pub(super) document: &'a Document,
    /// Places whose values came from outside the file, as text.
    pub(super) substituted: &'a BTreeSet<Place>,
    /// Places whose values must not be shown.
    pub(super) hidden: &'a BTreeSet<Place>,
}

/// One mistake, before it is known which others it explains.
pub(super) struct Finding {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) suggestion: Option<String>,
    /// The key that was meant, where this one is misspelt.
    pub(super) meant: Option<Place>,
    pub(super) is_missing: bool,
}

impl Finding {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), suggestion: None, meant: None, is_missing: false }
    }
}

/// Checks `value`, which stands at `place`. Text from outside the file becomes a number or a boolean where the schema
/// wants one.
pub(super) fn check(
    schema: &Value,
    value: &mut Value,
    place: &Place,
    around: &Surroundings<'_>,
) -> Result<Vec<Mistake>, ConfigError> {
    let validator = validator(schema)?;
    let explainer = Explainer { schema, place, around };
    for pointer in explainer.mistyped_texts(&validator, value) {
        if let Some(slot) = value.pointer_mut(&pointer) {
            let parsed = slot.as_str().and_then(|text| serde_json::from_str(text).ok());
            if let Some(scalar @ (Value::Number(_) | Value::Bool(_))) = parsed {
                *slot = scalar;
            }
        }
    }
    let mut findings = Vec::new();
    for error in validator.iter_errors(value) {
        findings.extend(explainer.explain(&error));
    }
    // A misspelt key is also missing under its right name: one mistake, not two.
    let meant: Vec<Place> = findings.iter().filter_map(|finding| finding.meant.clone()).collect();
    findings.retain(|finding| !(finding.is_missing && meant.contains(&finding.place)));
    let mistakes = findings.into_iter().map(|finding| {
        let line = around.document.line(&finding.place);
        Mistake::new(finding.place.to_string(), finding.message).at(line).suggest(finding.suggestion)
    });
    Ok(mistakes.collect())
}

fn validator(schema: &Value) -> Result<Validator, ConfigError> {
    jsonschema::draft202012::new(schema)
        .map_err(|error| ConfigError::new(format!("the plug-in's own JSON Schema is not valid: {error}")))
}
