//! Avro in the Confluent frame: a zero byte, the schema's id, the datum.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use super::registrar::{Compatibility, Registration, SchemaRegistrar};
use super::{AvroEncoderConfig, WriteSchema, plan};
use crate::batch::{Batch, Message};
use crate::encode::{EncodeError, Encoded, Encoder, encode_rows, envelope};
use crate::error::{Cause, ConfigError, Reason, SchemaRegistryError};
use crate::sink::Sink;

/// Stands in a subject for the topic that a row goes to.
const TOPIC: &str = "{topic}";
/// Ids kept: one per topic and schema.
const MAX_IDS: usize = 10_000;

/// Configuration of [`ConfluentAvroEncoder`], to be flattened into that of a plug-in that knows a registry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfluentAvroEncoderConfig {
    /// The schema as JSON. Where neither this nor `schema_file` is given, it is derived from the columns.
    pub schema: Option<String>,
    /// A file with the schema (`.avsc`).
    pub schema_file: Option<PathBuf>,
    /// The name of a derived schema; `Row` where none is given.
    pub name: Option<String>,
    /// The namespace of a derived schema.
    pub namespace: Option<String>,
    /// The subject to register under; `{topic}` stands for the topic that the route's sink writes the row to.
    pub subject: String,
    /// Whether the schema is registered where it is not yet; otherwise it must be there already.
    pub auto_register: bool,
    /// What the subject's compatibility is set to before a schema is registered; left as it is where none is given.
    pub compatibility: Option<Compatibility>,
}

impl Default for ConfluentAvroEncoderConfig {
    fn default() -> Self {
        Self {
            schema: None,
            schema_file: None,
            name: None,
            namespace: None,
            subject: format!("{TOPIC}-value"),
            auto_register: true,
            compatibility: None,
        }
    }
}

/// Writes one Avro datum per row, framed with the id that a registry gave its schema.
pub struct ConfluentAvroEncoder {
    registrar: Arc<dyn SchemaRegistrar>,
    /// Knows the topics; without one a row's target is its topic.
    sink: Option<Arc<dyn Sink>>,
    schema: WriteSchema,
    subject: String,
    auto_register: bool,
    compatibility: Option<Compatibility>,
    /// By subject, with the schema that the id belongs to.
    ids: HashMap<String, (Arc<str>, u32)>,
}

impl ConfluentAvroEncoder {
    /// An encoder that asks `registrar` once per schema and subject.
    pub fn new(registrar: Arc<dyn SchemaRegistrar>, config: ConfluentAvroEncoderConfig) -> Result<Self, ConfigError> {
        let ConfluentAvroEncoderConfig { schema, schema_file, name, namespace, .. } = config;
        Ok(Self {
            registrar,
            sink: None,
            schema: WriteSchema::new(AvroEncoderConfig { schema, schema_file, name, namespace })?,
            subject: config.subject,
            auto_register: config.auto_register,
            compatibility: config.compatibility,
            ids: HashMap::new(),
        })
    }

    /// The subjects of a batch: one, or one per topic that its rows go to.
    fn subjects(&self, batch: &Batch) -> Vec<String> {
        if !self.subject.contains(TOPIC) {
            return vec![self.subject.clone()];
        }
        let (mut subjects, mut seen, mut last) = (Vec::new(), HashSet::new(), None);
        for row in 0..batch.len() {
            let topic = self.topic(envelope(batch, row));
            // Neighbours mostly go to one topic.
            if topic == last {
                continue;
            }
            if let Some(topic) = &topic
                && seen.insert(topic.clone())
            {
                subjects.push(self.subject.replace(TOPIC, topic));
            }
            last = topic;
        }
        subjects
    }

    /// The topic that a row goes to.
    fn topic<'a>(&'a self, envelope: Message<'a>) -> Option<Cow<'a, str>> {
        match &self.sink {
            Some(sink) => sink.topic(&envelope),
            None => envelope.target.map(Cow::Borrowed),
        }
    }

    /// The id for a row that goes to `topic`.
    fn id_for(&self, topic: &str, schema: &Arc<str>) -> Result<u32, Cause> {
        let subject = self.subject.replace(TOPIC, topic);
        let unprepared = || Cause::new(Reason::UnknownSchemaId, format!("subject {subject:?} was not prepared"));
        self.id_of(&subject, schema).ok_or_else(unprepared)
    }

    fn id_of(&self, subject: &str, schema: &Arc<str>) -> Option<u32> {
        self.ids.get(subject).filter(|(known, _)| Arc::ptr_eq(known, schema) || known == schema).map(|(_, id)| *id)
    }
}

#[async_trait]
impl Encoder for ConfluentAvroEncoder {
    fn bound_for(&mut self, sink: Arc<dyn Sink>) {
        self.sink = Some(sink);
    }

    async fn prepare(&mut self, batch: &Batch) -> Result<(), EncodeError> {
        if batch.is_empty() {
            return Ok(());
        }
        let schema = self.schema.of(batch)?.json.clone();
        if self.ids.len() > MAX_IDS {
            self.ids.clear();
        }
        for subject in self.subjects(batch) {
            if self.id_of(&subject, &schema).is_some() {
                continue;
            }
            let registration = Registration {
                subject: &subject,
                schema: &schema,
                auto_register: self.auto_register,
                compatibility: self.compatibility,
            };
            let id = self.registrar.register(registration).await.map_err(|error| {
                let message = format!("no schema id for subject {subject:?}: {error}");
                match error {
                    unavailable @ SchemaRegistryError::Unavailable { .. } => {
                        EncodeError::retryable_from(message, unavailable)
                    }
                    refused => EncodeError::fatal_from(message, refused),
                }
            })?;
            self.ids.insert(subject, (schema.clone(), id));
        }
        Ok(())
    }

    fn encode(&mut self, batch: &Batch) -> Result<Encoded, EncodeError> {
        if batch.is_empty() {
            return Ok(Encoded { messages: Default::default(), rejected: Vec::new() });
        }
        let schema = self.schema.of(batch)?;
        let nodes = plan::plan(&schema.parsed, batch.columns()).map_err(EncodeError::fatal)?;
        let by_topic = self.subject.contains(TOPIC);
        let fixed = if by_topic { None } else { self.id_of(&self.subject, &schema.json) };
        if !by_topic && fixed.is_none() {
            let subject = &self.subject;
            return Err(EncodeError::retryable(format!(
                "the schema of subject {subject:?} has no id yet: prepare first"
            )));
        }
        let mut ids: HashMap<Cow<'_, str>, u32> = HashMap::new();
        let mut last: Option<(Cow<'_, str>, u32)> = None;
        Ok(encode_rows(batch, nodes.len() * 6 + 5, |row, out| {
            let id = match fixed {
                Some(id) => id,
                None => {
                    let topic = self.topic(envelope(batch, row)).ok_or_else(|| {
                        Cause::new(Reason::NoTarget, "the subject is made from the row's topic, and it has none")
                    })?;
                    match &last {
                        Some((known, id)) if *known == topic => *id,
                        _ => {
                            let known = ids.get(&topic).copied();
                            let id = known.map_or_else(|| self.id_for(&topic, &schema.json), Ok)?;
                            ids.insert(topic.clone(), id);
                            last = Some((topic, id));
                            id
                        }
                    }
                }
            };
            out.push(0);
            out.extend_from_slice(&id.to_be_bytes());
            nodes.iter().try_for_each(|node| node.write(row, out))
        }))
    }
}
