//! From a file to a checked configuration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::check::{Surroundings, check};
use super::delivery;
use super::document::Document;
use super::frame::Frame;
use super::mistake::{Mistake, Mistakes};
use super::place::Place;
use super::routes;
use super::schema::{frame_schema, plugin_schema};
use super::secrets::{Secrets, collect, redacted, secret_places};
use super::settings;
use super::substitute::{Substituted, substitute};
use super::tables::{check_table, tables, try_build};
use super::text;
use crate::error::report;
use crate::plugin::{BuildContext, Inspection, Registry, Remark};

/// A configuration without mistakes.
#[derive(Clone)]
pub struct Config {
    /// Where it came from.
    pub file: PathBuf,
    /// The document; its plug-ins' tables may hold secrets.
    pub frame: Frame,
    /// What a person should look at.
    pub warnings: Vec<Mistake>,
    pub(super) registry: Arc<Registry>,
    shown: Value,
    secrets: Secrets,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(file: &Path, registry: &Arc<Registry>) -> Result<Self, Mistakes> {
        match text::read(file) {
            Ok(text) => Self::parse(&text, file, registry),
            Err(error) => {
                let mistake = Mistake::new("", format!("cannot be read: {error}"));
                Err(Mistakes { file: file.to_owned(), mistakes: vec![mistake] })
            }
        }
    }

    /// Checks the text of a configuration; `file` is named in messages. Stages are built, but nothing is opened.
    pub fn parse(text: &str, file: &Path, registry: &Arc<Registry>) -> Result<Self, Mistakes> {
        let wrong = |mistakes| Mistakes { file: file.to_owned(), mistakes };
        let mut document = Document::parse(text).map_err(wrong)?;
        let substituted = substitute(&mut document);
        let mut places = secrets_of(registry, &document.value);
        // A placeholder that could not be replaced is no secret, and the operator must read its name.
        places.retain(|place| !substituted.mistakes.iter().any(|mistake| mistake.place == place.to_string()));
        let mut secrets = Secrets::default();
        collect(&document.value, &Place::default(), &places, &mut secrets);
        substituted.from_files.iter().for_each(|value| secrets.add(value));
        let mut hidden = secrets.clone();
        substituted.values.iter().for_each(|value| hidden.add(value));
        places.extend(substituted.places.iter().cloned());

        let mut checker = Checker { registry, document, substituted, places };
        let checked = checker.run();
        let Checker { document, places, .. } = checker;
        let clean = |mut mistakes: Vec<Mistake>| {
            mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(0));
            mistakes.iter_mut().for_each(|mistake| mistake.message = hidden.scrub(&mistake.message).into_owned());
            mistakes
        };
        let (frame, warnings) = checked.map_err(|mistakes| wrong(clean(mistakes)))?;
        Ok(Self {
            file: file.to_owned(),
            frame,
            warnings: clean(warnings),
            registry: registry.clone(),
            shown: redacted(&document.value, &Place::default(), &places),
            secrets,
        })
    }

    /// The document to show to a person: stars in place of secrets and of everything that came from outside the file.
    pub fn redacted(&self) -> &Value {
        &self.shown
    }

    /// The secrets, to be taken out of whatever is shown: what is secret by type or by the name of its key, and whatever
    /// came from files by `${file:PATH:KEY}`.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("file", &self.file).field("document", &self.shown).finish_non_exhaustive()
    }
}

/// The places of a document that hold secrets.
fn secrets_of(registry: &Registry, document: &Value) -> BTreeSet<Place> {
    let mut places = BTreeSet::new();
    secret_places(&Value::Null, document, &Place::default(), &mut places);
    for table in tables(document) {
        let Some(value) = document.pointer(&table.pointer) else { continue };
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        if let Some(schema) = plugin_schema(registry, table.stage, kind) {
            secret_places(&schema, value, &Place::default().pointer(&table.pointer), &mut places);
        }
    }
    places
}

struct Checker<'a> {
    registry: &'a Registry,
    document: Document,
    substituted: Substituted,
    /// Places whose values are not shown.
    places: BTreeSet<Place>,
}

impl Checker<'_> {
    /// The typed document and its warnings, or everything that is wrong.
    fn run(&mut self) -> Result<(Frame, Vec<Mistake>), Vec<Mistake>> {
        let unresolved = std::mem::take(&mut self.substituted.mistakes);
        let mut mistakes = self.frame();
        let mut sound = Vec::new();
        for table in tables(&self.document.value) {
            let places = &self.substituted.places;
            let found = check_table(self.registry, &table, &mut self.document, places, &self.places);
            if found.is_empty() {
                sound.push(table);
            }
            mistakes.extend(found);
        }
        let remarks = routes::mistakes(&self.document.value).into_iter();
        let remarks = remarks.chain(settings::mistakes(&self.document.value));
        mistakes.extend(remarks.map(|remark| self.placed(remark)));

        let (mut stateful, mut transactional) = (Vec::new(), Vec::new());
        for table in &sound {
            let Some(Value::Object(map)) = self.document.value.pointer(&table.pointer) else { continue };
            let place = Place::default().pointer(&table.pointer);
            match try_build(self.registry, table.stage, map, &self.context()) {
                Ok(traits) => {
                    stateful.extend(traits.is_stateful.then(|| place.to_string()));
                    transactional.extend(traits.is_transactional.then(|| table.pointer.clone()));
                }
                Err(error) => {
                    let steps = error.key.iter().flat_map(|key| key.split('.'));
                    let place = steps.fold(place, |place, step| place.key(step));
                    let line = self.document.line(&place);
                    mistakes.push(Mistake::new(place.to_string(), report(&error)).at(line));
                }
            }
        }
        // What else is wrong with a value that could not be put in follows from that.
        mistakes.retain(|mistake| !unresolved.iter().any(|cause| cause.place.starts_with(&mistake.place)));
        mistakes.extend(unresolved);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let frame = Frame::deserialize(&self.document.value)
            .map_err(|error| vec![Mistake::new("", format!("does not fit: {error}"))])?;
        let inspection =
            Inspection { config: &self.document.value, stateful: &stateful, transactional: &transactional };
        let own = routes::warnings(&inspection).into_iter().chain(delivery::remarks(&inspection));
        let remarks = own.chain(self.registry.checks.iter().flat_map(|check| check(&inspection)));
        let (wrong, warnings): (Vec<_>, Vec<_>) = remarks.partition(|remark| remark.is_mistake);
        let placed = |remarks: Vec<Remark>| remarks.into_iter().map(|remark| self.placed(remark)).collect::<Vec<_>>();
        if wrong.is_empty() { Ok((frame, placed(warnings))) } else { Err(placed(wrong)) }
    }

    fn frame(&mut self) -> Vec<Mistake> {
        let mut value = self.document.value.clone();
        let around =
            Surroundings { document: &self.document, substituted: &self.substituted.places, hidden: &self.places };
        let found = check(&frame_schema(), &mut value, &Place::default(), &around);
        self.document.value = value;
        found.unwrap_or_else(|error| vec![Mistake::new("", error.to_string())])
    }

    fn placed(&self, remark: Remark) -> Mistake {
        let place = Place::default().pointer(&remark.pointer);
        Mistake::new(place.to_string(), remark.message).at(self.document.line(&place))
    }

    fn context(&self) -> BuildContext {
        let name = self.document.value.pointer("/pipeline/name").and_then(Value::as_str);
        BuildContext { pipeline: name.unwrap_or("unnamed").into(), task: 0, n_tasks: 1 }
    }
}
