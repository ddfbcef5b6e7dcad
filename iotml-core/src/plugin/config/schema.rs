//! JSON Schemas of the tables of a configuration.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::frame::Frame;
use crate::error::Stage;
use crate::plugin::Registry;

/// The JSON Schema of a whole configuration for the plug-ins of `registry`: for editors, and for tools that write one.
pub fn schema(registry: &Registry) -> Value {
    let mut generator = generator();
    let mut root = generator.root_schema_for::<Frame>().to_value();
    let mut definitions = take(&mut root, "$defs");
    for stage in Stage::ALL {
        let mut choices = Vec::new();
        for name in registry.names(stage) {
            let Some(schema) = registry.schema(stage, name, &mut generator) else { continue };
            let definition = format!("{stage}.{name}");
            let mut schema = schema.to_value();
            // One that was written by hand brings its definitions along, and references count from the root.
            definitions.extend(take(&mut schema, "$defs"));
            definitions.insert(definition.clone(), with_type(schema, name));
            choices.push(json!({ "$ref": format!("#/$defs/{definition}") }));
        }
        let choice = json!({ "description": choice_of(stage), "oneOf": choices });
        definitions.insert(stage.to_string(), choice);
    }
    definitions.extend(generator.take_definitions(true));
    definitions.remove("PluginTable");
    if let Some(Value::Object(choice)) = definitions.get_mut("preprocess") {
        choice.insert("properties".to_owned(), json!({ "name": { "type": "string", "minLength": 1 } }));
    }
    root["$defs"] = Value::Object(definitions);
    for (place, stage) in [
        ("/properties/source", "source"),
        ("/properties/decode", "decode"),
        ("/properties/preprocess/items", "preprocess"),
        ("/properties/score", "score"),
        ("/properties/dead_letter", "sink"),
        ("/$defs/RouteTable/properties/encode", "encode"),
        ("/$defs/RouteTable/properties/sink", "sink"),
    ] {
        if let Some(slot) = root.pointer_mut(place) {
            let description = slot.get("description").cloned();
            *slot = json!({ "$ref": format!("#/$defs/{stage}") });
            if let Some(description) = description {
                slot["description"] = description;
            }
        }
    }
    close(&mut root);
    root
}

/// The JSON Schema of one plug-in's configuration, without `type`.
pub(crate) fn plugin_schema(registry: &Registry, stage: Stage, name: &str) -> Option<Value> {
    let mut generator = generator();
    let mut schema = registry.schema(stage, name, &mut generator)?.to_value();
    let mut definitions = take(&mut schema, "$defs");
    definitions.extend(generator.take_definitions(true));
    schema["$defs"] = Value::Object(definitions);
    close(&mut schema);
    Some(schema)
}

/// The JSON Schema of the document around the plug-ins' tables.
pub(super) fn frame_schema() -> Value {
    let mut schema = generator().into_root_schema_for::<Frame>().to_value();
    close(&mut schema);
    schema
}

/// A schema of `T` by itself.
fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_deserialize().into_generator()
}

fn take(value: &mut Value, key: &str) -> Map<String, Value> {
    match value.as_object_mut().and_then(|map| map.remove(key)) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A plug-in's schema with the `type` that picks it.
fn with_type(schema: Value, name: &str) -> Value {
    let mut schema = if schema.is_object() { schema } else { json!({ "type": "object" }) };
    let mut properties = take(&mut schema, "properties");
    properties.insert("type".to_owned(), json!({ "const": name }));
    schema["properties"] = Value::Object(properties);
    let mut required = match schema.get_mut("required").map(Value::take) {
        Some(Value::Array(required)) => required,
        _ => Vec::new(),
    };
    required.insert(0, Value::from("type"));
    schema["required"] = Value::Array(required);
    schema
}

fn choice_of(stage: Stage) -> String {
    format!("A plug-in of the stage {stage}, picked by its type.")
}

/// Makes unknown keys an error everywhere, also where the author of a plug-in forgot `deny_unknown_fields`: a key that
/// has no effect is a mistake of the operator's that nothing else would show.
fn close(root: &mut Value) {
    let mut extended = BTreeSet::new();
    find_extended(root, &mut extended);
    if let Some(Value::Object(definitions)) = root.get_mut("$defs") {
        for (name, definition) in definitions {
            close_one(definition, extended.contains(name));
        }
    }
    close_one(root, false);
}

/// Definitions that another schema adds properties to: closing them would shut the added ones out.
fn find_extended(schema: &Value, extended: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            let adds = map.contains_key("properties") || map.contains_key("unevaluatedProperties");
            if let (true, Some(Value::String(reference))) = (adds, map.get("$ref")) {
                extended.extend(reference.strip_prefix("#/$defs/").map(str::to_owned));
            }
            map.values().for_each(|value| find_extended(value, extended));
        }
        Value::Array(values) => values.iter().for_each(|value| find_extended(value, extended)),
        _ => {}
    }
}

/// `partial`: another schema applies to the same table and knows more of its keys.
fn close_one(schema: &mut Value, partial: bool) {
    let Value::Object(map) = schema else { return };
    let has_properties = map.contains_key("properties");
    let shares = ["oneOf", "anyOf", "allOf", "$ref"].iter().any(|key| map.contains_key(*key));
    if !has_properties && map.get("additionalProperties").is_some_and(|more| more == &json!(false)) {
        map.remove("additionalProperties");
    }
    let is_open = !map.contains_key("additionalProperties") && !map.contains_key("unevaluatedProperties");
    // A struct without fields says no more than that it is an object; free tables say `additionalProperties: true`.
    let is_empty_struct = !has_properties && !shares && map.get("type").is_some_and(|kind| kind == "object");
    if (has_properties || is_empty_struct) && is_open && !partial {
        // Where other schemas share the table, their keys are known too; and of a table that takes no keys at all only
        // this keyword names the unknown ones.
        let keyword = if shares || is_empty_struct { "unevaluatedProperties" } else { "additionalProperties" };
        map.insert(keyword.to_owned(), json!(false));
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(|it| close_one(it, false)),
            ("items" | "additionalProperties", value) => close_one(value, false),
            ("oneOf" | "anyOf", Value::Array(branches)) => {
                branches.iter_mut().for_each(|branch| close_one(branch, partial || has_properties))
            }
            ("allOf", Value::Array(branches)) => branches.iter_mut().for_each(|branch| close_one(branch, true)),
            _ => {}
        }
    }
}

/// The schema that `schema` refers to, or itself.
pub(crate) fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|at| root.pointer(at.trim_start_matches('#')));
    target.unwrap_or(schema)
}

/// The properties that a table of this schema may have, in whatever branch, with their schemas.
pub(crate) fn properties<'a>(root: &'a Value, schema: &'a Value) -> Vec<(&'a str, &'a Value)> {
    let mut found = Vec::new();
    collect_properties(root, schema, &mut found);
    let mut seen = BTreeSet::new();
    found.retain(|(name, _)| seen.insert(*name));
    found
}

fn collect_properties<'a>(root: &'a Value, schema: &'a Value, found: &mut Vec<(&'a str, &'a Value)>) {
    let own = schema.get("properties").and_then(Value::as_object);
    found.extend(own.into_iter().flatten().map(|(name, schema)| (name.as_str(), schema)));
    let target = resolve(root, schema);
    if !std::ptr::eq(target, schema) {
        collect_properties(root, target, found);
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        for branch in schema.get(several).and_then(Value::as_array).into_iter().flatten() {
            collect_properties(root, branch, found);
        }
    }
}

impl Registry {
    /// The schema of one plug-in's configuration.
    fn schema(&self, stage: Stage, name: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
        match stage {
            Stage::Source => self.sources.get(name).map(|plugin| plugin.schema(generator)),
            Stage::Decode => self.decoders.get(name).map(|plugin| plugin.schema(generator)),
            Stage::Preprocess => self.preprocessors.get(name).map(|plugin| plugin.schema(generator)),
            Stage::Score => self.scorers.get(name).map(|plugin| plugin.schema(generator)),
            Stage::Encode => self.encoders.get(name).map(|plugin| plugin.schema(generator)),
            Stage::Sink => self.sinks.get(name).map(|plugin| plugin.schema(generator)),
        }
    }

    /// What a plug-in does, in one line.
    pub fn about(&self, stage: Stage, name: &str) -> Option<&'static str> {
        match stage {
            Stage::Source => self.sources.get(name).map(|plugin| plugin.about),
            Stage::Decode => self.decoders.get(name).map(|plugin| plugin.about),
            Stage::Preprocess => self.preprocessors.get(name).map(|plugin| plugin.about),
            Stage::Score => self.scorers.get(name).map(|plugin| plugin.about),
            Stage::Encode => self.encoders.get(name).map(|plugin| plugin.about),
            Stage::Sink => self.sinks.get(name).map(|plugin| plugin.about),
        }
    }
}
