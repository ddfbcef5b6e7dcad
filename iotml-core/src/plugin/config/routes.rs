//! What must hold between the tables of a document.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::pipeline::When;
use crate::plugin::{Inspection, Remark};

/// Mistakes that no schema can express. Works on a document that may have others.
pub(super) fn mistakes(document: &Value) -> Vec<Remark> {
    let mut found = Vec::new();
    let routes = document.get("route").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_decoded = document.get("decode").is_some();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, route) in routes.iter().enumerate() {
        let name = route.get("name").and_then(Value::as_str);
        if let Some((name, first)) = name.and_then(|name| Some((name, names.insert(name, at)?))) {
            let message = format!("route[{first}] is already named {name:?}; give each route a name of its own");
            found.push(Remark::mistake(format!("/route/{at}/name"), message));
        }
        if let Some(when) = route.get("when").and_then(Value::as_str) {
            let pointer = format!("/route/{at}/when");
            match when.parse::<When>() {
                Err(error) => found.push(Remark::mistake(pointer, error.message)),
                Ok(_) if !is_decoded => {
                    found.push(Remark::mistake(pointer, "a condition needs columns, so add a [decode] table"));
                }
                Ok(_) => {}
            }
        }
    }
    let is = |route: &Value, key: &str, word: bool| route.get(key) == Some(&Value::Bool(word));
    // A shadow route takes nothing while there is no shadow.
    let is_required = |route: &Value| !is(route, "required", false) && !is(route, "shadow", true);
    if !routes.is_empty() && !routes.iter().any(is_required) {
        let message = "no route is required, so messages would be acknowledged without being kept anywhere; \
                       set required = true on one that is no shadow route";
        found.push(Remark::mistake("/route/0", message));
    }
    if document.get("score").is_some() && !is_decoded {
        found.push(Remark::mistake("/score", "a scorer needs columns, so add a [decode] table"));
    }
    preprocessor_names(document, &mut found);
    found
}

/// State is kept by name, so two preprocessors of one name would overwrite each other's.
fn preprocessor_names(document: &Value, found: &mut Vec<Remark>) {
    let tables = document.get("preprocess").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, table) in tables.iter().enumerate() {
        let Some(name) = table.get("name").and_then(Value::as_str) else { continue };
        if let Some(first) = names.insert(name, at) {
            let message = format!("preprocess[{first}] is already named {name:?}; give each a name of its own");
            found.push(Remark::mistake(format!("/preprocess/{at}/name"), message));
        }
    }
}

/// Things that work, but probably not as meant.
pub(super) fn warnings(inspection: &Inspection<'_>) -> Vec<Remark> {
    let mut found = Vec::new();
    let config = inspection.config;
    let tolerates = config.pointer("/pipeline/errors.tolerance").is_some_and(|word| word == "all");
    let has_dead_letters = config.get("dead_letter").is_some();
    if tolerates && !has_dead_letters {
        let message = "rows that fail for good are skipped and only counted; add a [dead_letter] table to keep them";
        found.push(Remark::warning("/pipeline/errors.tolerance", message));
    }
    if !tolerates && has_dead_letters {
        let message = "nothing is ever dead-lettered, because the first bad row fails the task; set \
                       \"errors.tolerance\" = \"all\" in [pipeline]";
        found.push(Remark::warning("/dead_letter", message));
    }
    if let (Some(stage), None) = (inspection.stateful.first(), config.get("state")) {
        let message = format!("the state of {stage} is kept in memory only and lost at a restart; add a [state] table");
        found.push(Remark::warning("", message));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn messages(remarks: Vec<Remark>) -> Vec<String> {
        remarks.into_iter().map(|remark| format!("{}: {}", remark.pointer, remark.message)).collect()
    }

    #[test]
    fn names_stand_once_and_one_route_is_required() {
        let document = json!({
            "preprocess": [{ "type": "clamp", "name": "a" }, { "type": "scale", "name": "a" }],
            "score": {},
            "route": [{ "name": "r", "required": false }, { "name": "r", "required": false, "when": "score >" }],
        });
        let found = messages(mistakes(&document));
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[0].starts_with("/route/1/name: route[0] is already named \"r\""));
        assert!(found[1].starts_with("/route/1/when: \"score >\" is not a condition"));
        assert!(found[2].starts_with("/route/0: no route is required"));
        assert!(found[3].starts_with("/score: a scorer needs columns"));
        assert!(found[4].starts_with("/preprocess/1/name: preprocess[0] is already named \"a\""));
    }

    #[test]
    fn inv_4_a_skip_without_dead_letters_is_warned_of() {
        let config = json!({ "pipeline": { "errors.tolerance": "all" } });
        let found = warnings(&Inspection { config: &config, stateful: &["score".to_owned()], transactional: &[] });
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|remark| !remark.is_mistake));
        let config = json!({ "pipeline": {}, "dead_letter": {}, "state": {} });
        let found = warnings(&Inspection { config: &config, stateful: &["score".to_owned()], transactional: &[] });
        assert_eq!(messages(found).len(), 1);
    }
}
