//! A configuration as Kafka Connect shows one: a flat map of strings.

use serde_json::{Map, Value};

/// `config` with a key for every value in it: `{"source": {"topics": [{"qos": 1}]}}` becomes `{"source.topics.0.qos": "1"}`.
///
/// Lists of plain values become one value with commas, as Kafka Connect writes lists. What is empty or null has no key. `name`
/// is added, which every configuration has there.
pub(super) fn flat(name: &str, config: &Value) -> Value {
    let mut flat = Map::new();
    flat.insert("name".to_owned(), name.into());
    put(&mut flat, String::new(), config);
    Value::Object(flat)
}

fn put(flat: &mut Map<String, Value>, key: String, value: &Value) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| put(flat, below(name), field)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(at, item)| put(flat, below(&at.to_string()), item));
        }
        Value::Array(items) if items.is_empty() => {}
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(text).collect();
            flat.insert(key, items.join(",").into());
        }
        Value::Null => {}
        plain => {
            flat.insert(key, text(plain).into());
        }
    }
}

fn text(plain: &Value) -> String {
    plain.as_str().map_or_else(|| plain.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_has_a_key_of_its_own() {
        let config = json!({
            "pipeline": { "name": "cars", "tasks.max": 2 },
            "source": {
                "type": "mqtt", "group": null, "tls": {}, "headers": [], "clean": false,
                "topics": [{ "filter": "a/#", "qos": 1 }, { "filter": "b,c" }],
                "kafka": { "bootstrap.servers": "k1:9092,k2:9092" },
            },
            "route": [{ "columns": ["x", "y"], "above": 0.5 }],
        });
        let expected = json!({
            "name": "cars",
            "pipeline.name": "cars",
            "pipeline.tasks.max": "2",
            "source.type": "mqtt",
            "source.clean": "false",
            "source.topics.0.filter": "a/#",
            "source.topics.0.qos": "1",
            "source.topics.1.filter": "b,c",
            "source.kafka.bootstrap.servers": "k1:9092,k2:9092",
            "route.0.columns": "x,y",
            "route.0.above": "0.5",
        });
        assert_eq!(flat("cars", &config), expected);
    }
}
