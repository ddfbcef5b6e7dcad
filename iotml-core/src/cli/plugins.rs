//! `plugins`: what this worker can do, and how it is configured.

use serde_json::Value;

use crate::error::Stage;
use crate::plugin::Registry;
use crate::plugin::config::{nearest, plugin_schema, properties, resolve};

/// All plug-ins by stage, one line each.
pub(super) fn list(registry: &Registry) -> String {
    let names = Stage::ALL.into_iter().flat_map(|stage| registry.names(stage));
    let width = names.map(str::len).max().unwrap_or(0);
    let mut out = String::new();
    for stage in Stage::ALL {
        out.push_str(&format!("{stage}\n"));
        let names = registry.names(stage);
        if names.is_empty() {
            out.push_str("  (none)\n");
        }
        for name in names {
            let about = registry.about(stage, name).unwrap_or_default();
            out.push_str(&format!("  {name:<width$}  {about}\n"));
        }
    }
    out
}

/// The configuration of every plug-in of this type; `wanted` is a type, or stage and type as in `sink/kafka`.
pub(super) fn describe(registry: &Registry, wanted: &str) -> Result<String, String> {
    let all = Stage::ALL.into_iter().flat_map(|stage| registry.names(stage).into_iter().map(move |name| (stage, name)));
    let fits = |(stage, name): &(Stage, &str)| *name == wanted || format!("{stage}/{name}") == wanted;
    let found: Vec<_> = all.clone().filter(fits).collect();
    if found.is_empty() {
        let names: Vec<_> = all.map(|(_, name)| name).collect();
        return Err(match nearest(wanted, names.iter().copied()) {
            Some(meant) => format!("there is no plug-in {wanted:?}; did you mean `{meant}`?"),
            None => format!("there is no plug-in {wanted:?}; `plugins list` shows them all"),
        });
    }
    let described = found.into_iter().map(|(stage, name)| describe_one(registry, stage, name));
    Ok(described.collect::<Vec<_>>().join("\n"))
}

fn describe_one(registry: &Registry, stage: Stage, name: &str) -> String {
    let about = registry.about(stage, name).unwrap_or_default();
    let mut out = format!("{stage} {name}: {about}\n");
    let schema = plugin_schema(registry, stage, name).unwrap_or(Value::Null);
    let mut keys = Vec::new();
    collect(&schema, &schema, "", &mut keys);
    if keys.is_empty() {
        out.push_str("  (nothing to configure)\n");
    }
    for key in keys {
        out.push_str(&format!("  {}  {}\n", key.name, key.kind));
        key.about.lines().for_each(|line| out.push_str(&format!("      {}\n", line.trim())));
    }
    out
}

struct Key {
    name: String,
    kind: String,
    about: String,
}

/// The keys of a table and of the tables in it.
fn collect(root: &Value, table: &Value, before: &str, keys: &mut Vec<Key>) {
    let variants = Variants::of(root, table);
    let is_required = |name: &str| requires(table, name) || variants.require(name);
    let mut all = properties(root, table);
    all.sort_by_key(|(name, _)| !is_required(name));
    for (name, schema) in all {
        let quoted = if name.contains('.') { format!("{before}{name:?}") } else { format!("{before}{name}") };
        let inner = meant(root, schema);
        let mut kind = variants.constants(name).unwrap_or_else(|| kind(root, schema));
        // A table's own keys have their defaults one by one.
        let is_told_below = |default: &Value| default.is_null() || !properties(root, inner).is_empty();
        if is_required(name) {
            kind.push_str(", required");
        } else if let Some(default) = schema.get("default").filter(|default| !is_told_below(default)) {
            kind.push_str(&format!(", default {default}"));
        }
        if let Some(only) = variants.only(name) {
            kind.push_str(&format!(", only with {only}"));
        }
        let about = schema.get("description").or_else(|| inner.get("description")).and_then(Value::as_str);
        keys.push(Key { name: quoted.clone(), kind, about: about.unwrap_or_default().to_owned() });
        // A schema that refers to itself has no end.
        if before.matches('.').count() < 3 {
            match inner.get("items") {
                Some(items) => collect(root, meant(root, items), &format!("{quoted}[]."), keys),
                None => collect(root, inner, &format!("{quoted}."), keys),
            }
        }
    }
}

fn requires(table: &Value, name: &str) -> bool {
    let required = table.get("required").and_then(Value::as_array);
    required.into_iter().flatten().any(|key| key == name)
}

/// The forms of a table of which one key, with a constant in each, picks one.
struct Variants<'a>(Vec<&'a Value>);

impl<'a> Variants<'a> {
    fn of(root: &'a Value, table: &'a Value) -> Self {
        let branches = table.get("oneOf").and_then(Value::as_array);
        let branches = branches.into_iter().flatten().map(|branch| resolve(root, branch));
        Self(branches.filter(|branch| branch.get("properties").is_some()).collect())
    }

    fn having(&self, name: &str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().copied().filter(move |branch| branch["properties"].get(name).is_some())
    }

    /// All constants of the key that picks.
    fn constants(&self, name: &str) -> Option<String> {
        let constant = |branch: &Value| branch["properties"][name].get("const").map(ToString::to_string);
        let all: Option<Vec<_>> = self.having(name).map(constant).collect();
        all.filter(|all| !all.is_empty()).map(|all| all.join(" | "))
    }

    /// Whether every form that has the key wants it.
    fn require(&self, name: &str) -> bool {
        self.having(name).count() > 0 && self.having(name).all(|branch| requires(branch, name))
    }

    /// The forms that have the key, if not all do.
    fn only(&self, name: &str) -> Option<String> {
        let having: Vec<_> = self.having(name).collect();
        if having.is_empty() || having.len() == self.0.len() {
            return None;
        }
        let picks = having.into_iter().filter_map(|branch| {
            let (key, schema) =
                branch["properties"].as_object()?.iter().find(|(_, schema)| schema.get("const").is_some())?;
            Some(format!("{key} = {}", schema["const"]))
        });
        Some(picks.collect::<Vec<_>>().join(" or "))
    }
}

/// What a schema says once references and the `null` of an optional value are taken away.
fn meant<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let schema = resolve(root, schema);
    let branches = schema.get("anyOf").and_then(Value::as_array);
    let real: Vec<_> = branches.into_iter().flatten().filter(|branch| branch["type"] != "null").collect();
    match real.as_slice() {
        [one] => resolve(root, one),
        _ => schema,
    }
}

/// The kind of a value, in a person's words.
fn kind(root: &Value, schema: &Value) -> String {
    let schema = meant(root, schema);
    if let Some(constant) = schema.get("const") {
        return constant.to_string();
    }
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        let shown = options.iter().filter(|option| !option.is_null()).map(ToString::to_string);
        return shown.collect::<Vec<_>>().join(" | ");
    }
    for several in ["oneOf", "anyOf"] {
        if let Some(branches) = schema.get(several).and_then(Value::as_array) {
            let mut kinds: Vec<_> = branches.iter().map(|branch| kind(root, branch)).collect();
            kinds.dedup();
            return kinds.join(" | ");
        }
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
        _ => Vec::new(),
    };
    let [one] = types.as_slice() else { return if types.is_empty() { "any".to_owned() } else { types.join(" | ") } };
    match *one {
        "array" => format!("array of {}", schema.get("items").map_or("any".to_owned(), |items| kind(root, items))),
        "object" => match schema.get("additionalProperties").filter(|more| more.is_object()) {
            Some(more) => format!("table of {}", kind(root, more)),
            None => "table".to_owned(),
        },
        "integer" => format!("whole number{}", range(schema)),
        "number" => format!("number{}", range(schema)),
        "string" if schema.get("format").is_some_and(|format| format == "password") => "secret string".to_owned(),
        "string" => match schema.get("examples").and_then(Value::as_array).and_then(|examples| examples.first()) {
            Some(example) => format!("string such as {example}"),
            None => "string".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// The limits of a number, as ` 0..9`; a type's own lower limit of 0 says nothing.
fn range(schema: &Value) -> String {
    let limit = |key: &str| schema.get(key).map(ToString::to_string);
    match (limit("minimum"), limit("maximum")) {
        (minimum, Some(maximum)) => format!(" {}..{maximum}", minimum.unwrap_or_default()),
        (Some(minimum), None) if minimum != "0" => format!(" from {minimum}"),
        _ => String::new(),
    }
}
