//! Puts referenced schemas into the schema that names them.

use std::collections::HashMap;

use serde_json::Value;

/// `schema` with every type that `types` defines put in where it is named first; later mentions stay names, as Avro wants.
///
/// `types` holds definitions by full name; they may name each other.
pub(super) fn inline(schema: &Value, types: &HashMap<String, Value>) -> Value {
    let mut schema = schema.clone();
    let mut open = types.clone();
    walk(&mut schema, "", &mut open);
    schema
}

/// Follows the types of a schema in the order in which Avro reads them.
fn walk(schema: &mut Value, namespace: &str, open: &mut HashMap<String, Value>) {
    match schema {
        Value::String(name) => {
            let full = full_name(name, namespace);
            // Taken out before it is walked, so that a type that names itself ends.
            if let Some(definition) = open.remove(&full).or_else(|| open.remove(name.as_str())) {
                *schema = definition;
                walk(schema, "", open);
            }
        }
        Value::Array(union) => union.iter_mut().for_each(|branch| walk(branch, namespace, open)),
        Value::Object(object) => {
            let own = object.get("namespace").and_then(Value::as_str).map(str::to_owned);
            let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
            let namespace = match (own, name.rsplit_once('.')) {
                (_, Some((before, _))) => before.to_owned(),
                (Some(own), None) => own,
                (None, None) => namespace.to_owned(),
            };
            if !name.is_empty() {
                open.remove(&full_name(name, &namespace));
            }
            if let Some(fields) = object.get_mut("fields").and_then(Value::as_array_mut) {
                for field in fields {
                    if let Some(kind) = field.get_mut("type") {
                        walk(kind, &namespace, open);
                    }
                }
            }
            for part in ["type", "items", "values"] {
                if let Some(kind) = object.get_mut(part) {
                    walk(kind, &namespace, open);
                }
            }
        }
        _ => {}
    }
}

/// The full name of the type that `schema` defines.
pub(super) fn name_of(schema: &Value) -> Option<String> {
    let name = schema.get("name")?.as_str()?;
    let namespace = schema.get("namespace").and_then(Value::as_str).unwrap_or_default();
    Some(full_name(name, namespace))
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_is_put_in_where_it_is_named_first_and_only_there() {
        let schema = json!({"type": "record", "name": "Car", "namespace": "x", "fields": [
            {"name": "home", "type": "Place"},
            {"name": "work", "type": ["null", "x.Place"]},
            {"name": "all", "type": {"type": "array", "items": "y.Tyre"}},
        ]});
        let place =
            json!({"type": "record", "name": "x.Place", "fields": [{"name": "next", "type": ["null", "Place"]}]});
        let tyre =
            json!({"type": "record", "name": "Tyre", "namespace": "y", "fields": [{"name": "at", "type": "x.Place"}]});
        let types = [&place, &tyre].map(|schema| (name_of(schema).unwrap(), schema.clone()));
        let inlined = inline(&schema, &types.into_iter().collect());
        let fields = &inlined["fields"];
        assert_eq!(fields[0]["type"], place);
        assert_eq!(fields[1]["type"], json!(["null", "x.Place"]));
        assert_eq!(fields[2]["type"]["items"], tyre, "with the name of a place, which is known by then");
    }
}
