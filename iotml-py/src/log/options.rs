//! How Python describes a read: JSON text, checked as it is taken apart.

use std::path::PathBuf;

use iotml_core::decode::{AvroDecoderConfig, CsvDecoderConfig, JsonDecoderConfig};
use iotml_kafka::{LogReaderConfig, RegistryDecoderConfig};
use iotml_model::feature::Missing;
use iotml_model::manifest::Feature;
use serde::Deserialize;

/// A topic, and what its messages are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaOptions {
    pub log: LogReaderConfig,
    pub format: Format,
}

/// How messages are encoded.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Format {
    ConfluentAvro(RegistryDecoderConfig),
    Avro(AvroDecoderConfig),
    Json(JsonDecoderConfig),
    Csv(CsvDecoderConfig),
}

/// Files of rows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    pub paths: Vec<PathBuf>,
    /// The column that says which rows belong together.
    pub key: Option<String>,
}

/// What to make of the rows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowOptions {
    /// The columns of `x`, in order, with their scaling.
    pub features: Vec<Feature>,
    pub missing: Missing,
    /// The column of `y`.
    pub label: Option<String>,
    /// Conditions that a row must meet, all of them.
    pub filter: Vec<String>,
    /// More columns, for Arrow; without any, and without features, all there are.
    pub columns: Vec<String>,
    /// Whether a row that cannot be used is left out and listed, instead of ending the read.
    pub skip_bad: bool,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Rows of a window, where windows are wanted.
    pub look_back: Option<usize>,
    /// Milliseconds after which a batch that is not full is handed over, where the log is followed.
    pub max_delay_ms: u64,
    /// Whether the rows of `x` are hashed.
    pub digest: bool,
}

impl RowOptions {
    /// The columns that are read, in the order in which they come first; none stands for all.
    pub fn needed(&self, filter: &[&str]) -> Vec<String> {
        if self.features.is_empty() && self.columns.is_empty() {
            return Vec::new();
        }
        let features = self.features.iter().filter(|feature| feature.constant.is_none());
        let all = features.map(|feature| feature.name.as_str()).chain(self.label.as_deref());
        let mut needed: Vec<String> = Vec::new();
        for name in all.chain(filter.iter().copied()).chain(self.columns.iter().map(String::as_str)) {
            if !needed.iter().any(|known| known == name) {
                needed.push(name.to_owned());
            }
        }
        needed
    }
}
