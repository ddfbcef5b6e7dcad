//! Names in a schema, looked at before apache-avro sees them: it panics on those that are none.

use serde_json::{Map, Value};

use super::schema::SchemaError;

/// Refuses a schema that names a type, or gives it an alias, as Avro does not allow.
pub(super) fn check_names(schema: &Value) -> Result<(), SchemaError> {
    match schema {
        Value::Array(variants) => variants.iter().try_for_each(check_names),
        Value::Object(schema) => {
            if matches!(schema.get("type").and_then(Value::as_str), Some("record" | "enum" | "fixed")) {
                check_type(schema)?;
            }
            // Not the defaults and attributes, which may be anything.
            let inner = ["type", "items", "values"].into_iter().filter_map(|part| schema.get(part));
            let fields = schema.get("fields").and_then(Value::as_array).into_iter().flatten();
            inner.chain(fields).try_for_each(check_names)
        }
        _ => Ok(()),
    }
}

fn check_type(schema: &Map<String, Value>) -> Result<(), SchemaError> {
    let aliases = schema.get("aliases").and_then(Value::as_array).into_iter().flatten();
    match schema.get("name").into_iter().chain(aliases).filter_map(Value::as_str).find(|name| !is_name(name)) {
        Some(name) => Err(SchemaError::Avro(format!("{name:?} is no name of a type"))),
        None => Ok(()),
    }
}

/// Whether it is a name with or without a namespace; an empty namespace may be written before a dot.
fn is_name(name: &str) -> bool {
    let name = name.strip_prefix('.').unwrap_or(name);
    name.split('.').all(|part| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema::WriterSchema;
    use super::*;

    #[test]
    fn names_that_are_none_are_refused_wherever_a_type_is_named() {
        for name in ["Ca;", "", "9", "a..b", "a.", "..a", "b c", "é"] {
            assert!(!is_name(name), "{name}");
            let types = [
                format!(r#"{{"type": "fixed", "size": 2, "name": {name:?}}}"#),
                format!(r#"{{"type": "enum", "symbols": ["A"], "name": "E", "aliases": ["Old", {name:?}]}}"#),
                format!(r#"{{"type": "record", "fields": [], "name": {name:?}}}"#),
            ];
            for bad in &types {
                for schema in [
                    bad.clone(),
                    format!(r#"["null", {bad}]"#),
                    format!(r#"{{"type": "array", "items": {bad}}}"#),
                    format!(r#"{{"type": "map", "values": {bad}}}"#),
                    format!(
                        r#"{{"type": "record", "name": "R", "fields": [{{"name": "f", "type": ["null", {{"type": {bad}}}]}}]}}"#
                    ),
                ] {
                    let refused = WriterSchema::parse(&schema);
                    assert!(matches!(refused, Err(SchemaError::Avro(_))), "{schema}");
                }
            }
        }
    }

    #[test]
    fn names_as_avro_allows_them_pass() {
        let schema = r#"{"type": "record", "name": "com.x._Car9", "aliases": ["Old", "y.Older"], "fields": [
            {"name": "a", "type": {"type": "fixed", "name": ".F", "size": 2}},
            {"name": "b", "type": "string", "default": "{\"type\": \"enum\"}"}]}"#;
        assert!(WriterSchema::parse(schema).is_ok());
    }
}
