//! Avro in the Confluent frame: a zero byte, the schema's id, the datum.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;

use super::compile::Program;
use super::decode_rows;
use super::resolver::SchemaResolver;
use super::schema::WriterSchema;
use crate::batch::{RawBatch, StageOutput};
use crate::decode::columns::{ColumnConfig, Layout, check_columns};
use crate::decode::{
    DEFAULT_MAX_BYTES, DEFAULT_MAX_FIELDS, DecodeError, Decoder, default_max_bytes, default_max_fields,
};
use crate::error::{Cause, ConfigError, Reason, SchemaRegistryError};

/// An id that the registry does not know is asked for again after this time, because it may be registered by then.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Requests at once: a new deployment brings a handful of ids.
const REQUESTS: usize = 8;
/// Ids kept; random bytes behind a zero byte look like ids, and must not fill the memory.
const MAX_IDS: usize = 10_000;
/// Programs kept. Each is a schema that a writer really used.
const MAX_PROGRAMS: usize = 1_000;

/// Configuration of [`ConfluentAvroDecoder`], to be flattened into that of a plug-in that knows a registry.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct ConfluentAvroDecoderConfig {
    /// The columns to fill; all scalar fields where none are named.
    #[serde(default)]
    pub columns: Option<Vec<ColumnConfig>>,
    /// A schema with more scalar fields, those of nested records included, is refused, and so is one that would bring the columns
    /// of all schemas together above it.
    #[serde(default = "default_max_fields")]
    pub max_fields: usize,
    /// Longer messages are rejected.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: usize,
    /// Once the registry has said of so many ids of one batch that it does not know them, it is asked for no more ids of that batch:
    /// random bytes look like ids. Those with the most rows are asked for first, then the lowest, so that a schema that exists is
    /// hardly ever among the rest, whose rows are rejected as `schema_not_asked`.
    #[serde(default = "default_max_unknown")]
    pub max_unknown_ids: usize,
}

fn default_max_unknown() -> usize {
    100
}

impl Default for ConfluentAvroDecoderConfig {
    fn default() -> Self {
        Self {
            columns: None,
            max_fields: DEFAULT_MAX_FIELDS,
            max_bytes: DEFAULT_MAX_BYTES,
            max_unknown_ids: default_max_unknown(),
        }
    }
}

/// Decodes Avro in the Confluent frame, each datum by the writer's schema that its id names.
pub struct ConfluentAvroDecoder {
    resolver: Arc<dyn SchemaResolver>,
    columns: Option<Vec<ColumnConfig>>,
    max_fields: usize,
    max_bytes: usize,
    max_unknown_ids: usize,
    layout: Layout,
    programs: Vec<Program>,
    ids: HashMap<u32, Known>,
}

/// What is known of an id.
enum Known {
    Program(usize),
    Unusable(Cause),
    Unknown { since: Instant, cause: Cause },
}

type Answer = Result<Arc<str>, SchemaRegistryError>;

impl ConfluentAvroDecoder {
    /// A decoder that asks `resolver` for each id once.
    pub fn new(resolver: Arc<dyn SchemaResolver>, config: ConfluentAvroDecoderConfig) -> Result<Self, ConfigError> {
        if config.max_unknown_ids == 0 {
            return Err(ConfigError::new("max_unknown_ids must be at least 1"));
        }
        if let Some(columns) = &config.columns {
            check_columns(columns)?;
        }
        Ok(Self {
            resolver,
            columns: config.columns,
            max_fields: config.max_fields,
            max_bytes: config.max_bytes,
            max_unknown_ids: config.max_unknown_ids,
            layout: Layout::default(),
            programs: Vec::new(),
            ids: HashMap::new(),
        })
    }

    /// The ids in `raw` that must be asked for, in the order they come, each with the number of its rows.
    fn missing(&self, raw: &RawBatch) -> Vec<(u32, usize)> {
        let (mut missing, mut places) = (Vec::new(), HashMap::new());
        let (mut last, mut place) = (None, None);
        for row in 0..raw.len() {
            let Some(&[0, a, b, c, d, ..]) = raw.messages().payload(row) else { continue };
            let id = u32::from_be_bytes([a, b, c, d]);
            if last != Some(id) {
                let is_wanted = match self.ids.get(&id) {
                    None => true,
                    Some(Known::Unknown { since, .. }) => since.elapsed() > UNKNOWN_FOR,
                    Some(_) => false,
                };
                last = Some(id);
                place = is_wanted.then(|| *places.entry(id).or_insert(missing.len()));
            }
            match place {
                Some(place) if place == missing.len() => missing.push((id, 1)),
                Some(place) => missing[place].1 += 1,
                None => {}
            }
        }
        missing
    }

    /// Asks the registry for these ids. Returns its answers, and the error that ended the asking, if one did.
    async fn ask(&self, missing: &[(u32, usize)]) -> (HashMap<u32, Answer>, Option<(u32, SchemaRegistryError)>) {
        let mut wanted = missing.to_vec();
        wanted.sort_by_key(|(id, n_rows)| (Reverse(*n_rows), *id));
        let requests = stream::iter(wanted).map(|(id, _)| {
            let resolver = self.resolver.clone();
            async move { (id, resolver.resolve(id).await) }
        });
        let mut requests = requests.buffered(REQUESTS);
        let (mut answers, mut n_unknown) = (HashMap::new(), 0);
        while n_unknown < self.max_unknown_ids
            && let Some((id, answer)) = requests.next().await
        {
            match answer {
                Err(error @ (SchemaRegistryError::Unavailable { .. } | SchemaRegistryError::Refused { .. })) => {
                    return (answers, Some((id, error)));
                }
                Err(SchemaRegistryError::Unknown { .. }) => n_unknown += 1,
                _ => {}
            }
            answers.insert(id, answer);
        }
        (answers, None)
    }

    fn learn(&mut self, id: u32, resolved: Answer) -> Result<(), DecodeError> {
        let known = match resolved {
            Ok(json) => self.compile(id, &json),
            Err(unknown @ SchemaRegistryError::Unknown { .. }) => {
                let cause = Cause::new(Reason::UnknownSchemaId, unknown.to_string());
                Known::Unknown { since: Instant::now(), cause }
            }
            Err(unusable @ SchemaRegistryError::Unusable { .. }) => {
                Known::Unusable(Cause::new(Reason::WrongSchema, unusable.to_string()))
            }
            Err(unavailable @ SchemaRegistryError::Unavailable { .. }) => {
                let message = format!("schema {id} cannot be fetched: {unavailable}");
                return Err(DecodeError::retryable_from(message, unavailable));
            }
            Err(refused @ SchemaRegistryError::Refused { .. }) => {
                let message = format!("schema {id} cannot be fetched: {refused}");
                return Err(DecodeError::fatal_from(message, refused));
            }
        };
        self.ids.insert(id, known);
        Ok(())
    }

    fn compile(&mut self, id: u32, json: &str) -> Known {
        if self.programs.len() == MAX_PROGRAMS {
            let detail = format!("schema {id} is one more than the {MAX_PROGRAMS} that a task keeps");
            return Known::Unusable(Cause::new(Reason::WrongSchema, detail));
        }
        let columns = self.columns.as_deref();
        let compiled = WriterSchema::parse(json)
            .and_then(|schema| Program::compile(&schema, columns, self.max_fields, &mut self.layout));
        match compiled {
            Ok(program) => {
                self.programs.push(program);
                Known::Program(self.programs.len() - 1)
            }
            Err(error) => Known::Unusable(Cause::new(Reason::WrongSchema, format!("schema {id}: {error}"))),
        }
    }
}

#[async_trait]
impl Decoder for ConfluentAvroDecoder {
    async fn prepare(&mut self, raw: &Arc<RawBatch>) -> Result<(), DecodeError> {
        if self.ids.len() > MAX_IDS {
            self.ids.retain(|_, known| matches!(known, Known::Program(_)));
        }
        let missing = self.missing(raw);
        if missing.is_empty() {
            return Ok(());
        }
        let (mut answers, failed) = self.ask(&missing).await;
        // In the order of the messages, because the first schema decides on the columns.
        for (id, _) in missing {
            match answers.remove(&id) {
                Some(answer) => self.learn(id, answer)?,
                // Comes first when all are asked for again.
                None if failed.is_some() => break,
                None => {}
            }
        }
        failed.map_or(Ok(()), |(id, error)| self.learn(id, Err(error)))
    }

    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        let Self { layout, programs, ids, max_bytes, .. } = self;
        programs.iter_mut().for_each(|program| program.adapt(layout));
        // Neighbours nearly always share their schema.
        let mut last: Option<(u32, &Program)> = None;
        decode_rows(raw, layout, *max_bytes, |payload| {
            let (id, datum) = split_frame(payload)?;
            if let Some((last_id, program)) = last
                && last_id == id
            {
                return Ok((program, datum));
            }
            let program = find(ids, programs, id)?;
            last = Some((id, program));
            Ok((program, datum))
        })
    }
}

fn find<'p>(ids: &HashMap<u32, Known>, programs: &'p [Program], id: u32) -> Result<&'p Program, Cause> {
    match ids.get(&id) {
        Some(Known::Program(number)) => Ok(&programs[*number]),
        Some(Known::Unusable(cause) | Known::Unknown { cause, .. }) => Err(cause.clone()),
        None => Err(not_asked(id)),
    }
}

#[cold]
fn not_asked(id: u32) -> Cause {
    let detail = format!("the registry was not asked for schema {id}, as it knew too many of the batch's ids not");
    Cause::new(Reason::SchemaNotAsked, detail)
}

/// The schema's id in a Confluent frame, and the datum behind it.
///
/// # Errors
/// Why it is no such frame.
#[inline]
pub fn split_frame(payload: &[u8]) -> Result<(u32, &[u8]), Cause> {
    match payload {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        other => Err(unframed(other)),
    }
}

#[cold]
fn unframed(payload: &[u8]) -> Cause {
    match payload {
        [] => Cause::new(Reason::Empty, "an empty payload"),
        [0, ..] => Cause::new(Reason::Truncated, "the bytes end inside the schema id"),
        [byte, ..] => Cause::new(Reason::WrongMagicByte, format!("begins with byte {byte:#04x} instead of 0x00")),
    }
}
