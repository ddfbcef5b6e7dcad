//! A schema registry with the Confluent API: finds writers' schemas by id, and registers schemas for an id.

mod config;
mod http;
mod inline;
mod plugin;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use iotml_core::decode::SchemaResolver;
use iotml_core::encode::{Registration, SchemaRegistrar};
use iotml_core::error::{ConfigError, SchemaRegistryError};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

pub use config::{RegistryTlsConfig, SchemaRegistryConfig};
pub(crate) use plugin::register;
pub use plugin::{RegistryDecoderConfig, RegistryEncoderConfig, SubjectStrategy};

use self::http::{Http, HttpError};
use self::inline::{inline, name_of};

/// Schemas kept; each is one that a writer really used.
const MAX_SCHEMAS: usize = 10_000;

/// The most schemas that one schema may draw in; more is a loop or a mistake.
const MAX_REFERENCES: usize = 100;

/// A client of a schema registry. Schemas never change under their id, so each is asked for once.
#[derive(Debug)]
pub struct SchemaRegistry {
    http: Http,
    schemas: Mutex<HashMap<u32, Arc<str>>>,
}

/// A schema as the registry gives it.
#[derive(Debug, Deserialize)]
struct Stored {
    schema: String,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Debug, Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: u64,
}

#[derive(Debug, Deserialize)]
struct Id {
    id: u32,
}

impl SchemaRegistry {
    /// Checks the configuration; nothing is asked before the first schema is needed.
    pub fn new(config: SchemaRegistryConfig) -> Result<Self, ConfigError> {
        let (base, client) = (config.base()?, config.client()?);
        Ok(Self { http: Http::new(client, base, config), schemas: Mutex::default() })
    }

    async fn fetch(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError> {
        let failed = |error: HttpError| match error {
            HttpError::Missing { .. } => SchemaRegistryError::Unknown { id },
            HttpError::TooLong { message } => SchemaRegistryError::Unusable { id, message },
            error => error.into(),
        };
        let unusable = |message: String| SchemaRegistryError::Unusable { id, message };
        let number = id.to_string();
        let stored: Stored = self.http.call(Method::GET, &["schemas", "ids", &number], None).await.map_err(failed)?;
        let json = avro(&stored).map_err(unusable)?;
        if stored.references.is_empty() {
            return Ok(stored.schema.into());
        }
        let mut types = HashMap::new();
        let mut todo = stored.references;
        while let Some(reference) = todo.pop() {
            if types.contains_key(&reference.name) {
                continue;
            }
            if types.len() == MAX_REFERENCES {
                return Err(unusable(format!("it draws in more than {MAX_REFERENCES} other schemas")));
            }
            let version = reference.version.to_string();
            let path = ["subjects", &reference.subject, "versions", &version];
            let mut stored: Stored = self.http.call(Method::GET, &path, None).await.map_err(failed)?;
            let json = avro(&stored).map_err(unusable)?;
            todo.append(&mut stored.references);
            types.insert(name_of(&json).unwrap_or(reference.name), json);
        }
        Ok(inline(&json, &types).to_string().into())
    }
}

#[async_trait]
impl SchemaResolver for SchemaRegistry {
    async fn resolve(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError> {
        let known = self.schemas.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(schema) = known {
            return Ok(schema);
        }
        let schema = self.fetch(id).await?;
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if schemas.len() < MAX_SCHEMAS {
            schemas.insert(id, schema.clone());
        }
        Ok(schema)
    }
}

#[async_trait]
impl SchemaRegistrar for SchemaRegistry {
    async fn register(&self, registration: Registration<'_>) -> Result<u32, SchemaRegistryError> {
        let Registration { subject, schema, auto_register, compatibility } = registration;
        let subject = plugin::with_record(subject, schema)
            .map_err(|message| SchemaRegistryError::Refused { message, source: None })?;
        let failed = |what: &str, error: HttpError| match error.into() {
            SchemaRegistryError::Refused { message, source } => {
                SchemaRegistryError::Refused { message: format!("{what}: {message}"), source }
            }
            unavailable => unavailable,
        };
        let body = json!({ "schema": schema });
        if !auto_register {
            let found: Result<Id, _> = self.http.call(Method::POST, &["subjects", &subject], Some(&body)).await;
            let what = format!("the schema is not registered under {subject:?}, and auto_register is off");
            return found.map(|found| found.id).map_err(|error| failed(&what, error));
        }
        if let Some(compatibility) = compatibility {
            let wanted = json!({ "compatibility": compatibility.as_str() });
            let set: Result<Value, _> = self.http.call(Method::PUT, &["config", &subject], Some(&wanted)).await;
            set.map_err(|error| failed(&format!("the compatibility of {subject:?} cannot be set"), error))?;
        }
        let made: Result<Id, _> = self.http.call(Method::POST, &["subjects", &subject, "versions"], Some(&body)).await;
        made.map(|made| made.id)
            .map_err(|error| failed(&format!("the schema cannot be registered under {subject:?}"), error))
    }
}

/// The JSON of an Avro schema, or why it is none.
fn avro(stored: &Stored) -> Result<Value, String> {
    match stored.kind.as_deref() {
        None | Some("AVRO") => {}
        Some(other) => return Err(format!("it is of type {other}, not AVRO")),
    }
    serde_json::from_str(&stored.schema).map_err(|error| format!("it is no JSON: {error}"))
}
