//! The plug-ins' tables of a document: each checked against its plug-in's schema, then built.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::check::{Surroundings, check};
use super::document::Document;
use super::mistake::Mistake;
use super::place::Place;
use super::schema::plugin_schema;
use super::suggest::nearest;
use crate::error::{ConfigError, Stage};
use crate::plugin::{BuildContext, Plugin, Registry};

/// Where a plug-in's table stands, and for which stage.
#[derive(Clone, Debug)]
pub(super) struct TableAt {
    pub(super) stage: Stage,
    pub(super) pointer: String,
}

/// All plug-ins' tables of a document, in the order of the chain. What is no table is left to the check of the frame.
pub(super) fn tables(document: &Value) -> Vec<TableAt> {
    let mut found = Vec::new();
    let mut add = |stage, pointer: String| {
        if document.pointer(&pointer).is_some_and(Value::is_object) {
            found.push(TableAt { stage, pointer });
        }
    };
    let count = |key: &str| document.get(key).and_then(Value::as_array).map_or(0, Vec::len);
    add(Stage::Source, "/source".to_owned());
    add(Stage::Decode, "/decode".to_owned());
    (0..count("preprocess")).for_each(|at| add(Stage::Preprocess, format!("/preprocess/{at}")));
    add(Stage::Score, "/score".to_owned());
    for at in 0..count("route") {
        add(Stage::Encode, format!("/route/{at}/encode"));
        add(Stage::Sink, format!("/route/{at}/sink"));
    }
    add(Stage::Sink, "/dead_letter".to_owned());
    found
}

/// Keys of a plug-in's table that belong to the document, not to the plug-in.
pub(super) fn frame_keys(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Preprocess => &["type", "name"],
        _ => &["type"],
    }
}

/// The plug-in's own keys of its table.
pub(super) fn own_keys(stage: Stage, table: &Map<String, Value>) -> Value {
    let own = table.iter().filter(|(key, _)| !frame_keys(stage).contains(&key.as_str()));
    Value::Object(own.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Checks one table and writes back what text from outside the file turned out to be.
pub(super) fn check_table(
    registry: &Registry,
    table: &TableAt,
    document: &mut Document,
    substituted: &BTreeSet<Place>,
    hidden: &BTreeSet<Place>,
) -> Vec<Mistake> {
    let place = Place::default().pointer(&table.pointer);
    let Some(Value::Object(map)) = document.value.pointer(&table.pointer) else { return Vec::new() };
    let schema = match kind_of(registry, table.stage, map) {
        Ok(kind) => plugin_schema(registry, table.stage, kind).unwrap_or(Value::Bool(true)),
        Err(mistake) => {
            let at = place.key("type");
            return vec![Mistake { place: at.to_string(), ..mistake }.at(document.line(&at))];
        }
    };
    let mut own = own_keys(table.stage, map);
    let around = Surroundings { document, substituted, hidden };
    let mut mistakes = match check(&schema, &mut own, &place, &around) {
        Ok(mistakes) => mistakes,
        Err(error) => vec![Mistake::new(place.to_string(), error.to_string()).at(document.line(&place))],
    };
    let name = map.get("name").filter(|_| table.stage == Stage::Preprocess);
    if name.is_some_and(|name| name.as_str().is_none_or(str::is_empty)) {
        let at = place.key("name");
        mistakes.push(Mistake::new(at.to_string(), "must be a string that is not empty").at(document.line(&at)));
    }
    if let (Some(Value::Object(map)), Value::Object(own)) = (document.value.pointer_mut(&table.pointer), own) {
        map.extend(own);
    }
    mistakes
}

/// The `type` of a table, if there is such a plug-in; the mistake has no place yet.
fn kind_of<'a>(registry: &Registry, stage: Stage, table: &'a Map<String, Value>) -> Result<&'a str, Mistake> {
    let known = registry.names(stage);
    let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let Some(kind) = table.get("type") else {
        return Err(Mistake::new("", format!("is missing; known here: {list}")));
    };
    let Some(kind) = kind.as_str() else {
        return Err(Mistake::new("", format!("must be a string; known here: {list}")));
    };
    if known.contains(&kind) {
        return Ok(kind);
    }
    let meant = nearest(kind, known.iter().copied());
    let message = match meant {
        Some(_) => format!("unknown {stage} plug-in {kind:?}"),
        None => format!("unknown {stage} plug-in {kind:?}; known here: {list}"),
    };
    Err(Mistake::new("", message).suggest(meant))
}

/// Builds the stage of one valid table.
pub(super) fn build<S>(
    plugins: &BTreeMap<&'static str, Plugin<S>>,
    stage: Stage,
    table: &Map<String, Value>,
    context: &BuildContext,
) -> Result<S, ConfigError> {
    let kind = table.get("type").and_then(Value::as_str).unwrap_or_default();
    let plugin = plugins.get(kind).ok_or_else(|| ConfigError::new(format!("unknown {stage} plug-in {kind:?}")))?;
    plugin.build(own_keys(stage, table), context)
}

/// What a stage says of itself before it is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    /// It keeps state.
    pub(super) is_stateful: bool,
    /// It can take part in transactions.
    pub(super) is_transactional: bool,
}

/// Builds a stage to see whether it can be built, and what it is, as far as it knows before it is opened.
pub(super) fn try_build(
    registry: &Registry,
    stage: Stage,
    table: &Map<String, Value>,
    context: &BuildContext,
) -> Result<Traits, ConfigError> {
    let (mut is_stateful, mut is_transactional) = (false, false);
    match stage {
        Stage::Source => is_transactional = build(&registry.sources, stage, table, context)?.is_transactional(),
        Stage::Decode => drop(build(&registry.decoders, stage, table, context)?),
        Stage::Preprocess => is_stateful = build(&registry.preprocessors, stage, table, context)?.state().is_some(),
        Stage::Score => is_stateful = build(&registry.scorers, stage, table, context)?.state().is_some(),
        Stage::Encode => drop(build(&registry.encoders, stage, table, context)?),
        Stage::Sink => is_transactional = build(&registry.sinks, stage, table, context)?.is_transactional(),
    }
    Ok(Traits { is_stateful, is_transactional })
}
