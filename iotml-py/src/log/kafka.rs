//! Rows from a topic: the log reader and a decoder.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, SchemaRef};
use iotml_core::batch::{RawBatch, Rejected, StageOutput};
use iotml_core::decode::{
    AvroDecoder, ColumnConfig, ColumnType, ConfluentAvroDecoder, CsvDecoder, DecodeError, Decoder, JsonDecoder,
};
use iotml_core::error::{Class, ConfigError};
use iotml_core::pipeline::When;
use iotml_kafka::{LogEvent, LogRange, LogReader, LogReaderConfig, SchemaRegistry, Until};
use iotml_model::feature::Missing;
use tokio::runtime::Runtime;

use super::failure::Failure;
use super::options::{Format, KafkaOptions, RowOptions};
use super::rows::{Decoded, Envelope, Place, Progress, RowSource, Step};

/// How long a registry that does not answer is asked again, and how long it is waited in between.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);

/// Rows from a range of a topic.
pub struct KafkaRows {
    log: LogReader,
    topic: String,
    format: Format,
    columns: Wanted,
    /// Made with the first messages, which tell the types where the format has none.
    decoder: Option<Box<dyn Decoder>>,
    runtime: Runtime,
}

/// The columns that are read, as far as they are known.
struct Wanted {
    /// None stands for all.
    columns: Option<Vec<ColumnConfig>>,
    /// Whether every column has a type.
    typed: bool,
}

impl KafkaRows {
    /// Connects and begins to read.
    pub fn begin(
        kafka: KafkaOptions,
        rows: &RowOptions,
        filters: &[When],
        (range, until): (&LogRange, Until),
    ) -> Result<Self, Failure> {
        let KafkaOptions { log, format } = kafka;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Decode(DecodeError::fatal_from("no runtime", error)))?;
        let columns = Wanted::of(rows, filters, format.has_types());
        let topic = log.topic.clone();
        // What is wrong with the format is told before anything is connected.
        let decoder = if columns.typed || format.has_types() { Some(format.decoder(&columns)?) } else { None };
        let mut log = LogReader::open(following(log, until))?;
        log.begin(range, until)?;
        Ok(Self { log, topic, format, columns, decoder, runtime })
    }

    fn decode(&mut self, raw: Arc<RawBatch>) -> Result<Decoded, Failure> {
        if self.decoder.is_none() {
            // A decoder that infers the types decodes the first messages, and is replaced by one that has them.
            let everything = Wanted { columns: None, typed: true };
            let inferred = self.format.decoder(&everything)?.decode(&raw)?;
            if inferred.batch.is_empty() {
                return Ok(decoded(&raw, inferred));
            }
            self.columns.infer(&inferred.batch.columns().schema());
            self.decoder = Some(self.format.decoder(&self.columns)?);
        }
        let Some(decoder) = &mut self.decoder else { return Err(Failure::Died) };
        let begun = Instant::now();
        while let Err(error) = self.runtime.block_on(decoder.prepare(&raw)) {
            if error.class() != Class::Retryable || begun.elapsed() > REGISTRY_PATIENCE {
                return Err(error.into());
            }
            thread::sleep(PAUSE);
        }
        let output = decoder.decode(&raw)?;
        Ok(decoded(&raw, output))
    }
}

impl RowSource for KafkaRows {
    fn next(&mut self, max_rows: usize, timeout: Duration) -> Result<Step, Failure> {
        match self.log.next(max_rows, timeout)? {
            LogEvent::Batch(raw) => self.decode(raw).map(Step::Rows),
            LogEvent::Idle => Ok(Step::Idle),
            LogEvent::End => Ok(Step::End),
        }
    }

    fn progress(&self) -> Progress {
        let progress = self.log.progress();
        Progress {
            n_messages: progress.n_messages,
            n_offsets: progress.n_offsets,
            n_offsets_total: progress.n_offsets_total,
            n_holes: progress.n_holes,
            gaps: progress.gaps,
            lag: progress.lag,
        }
    }

    fn place(&self, partition: i32, offset: i64) -> String {
        format!("topic {:?} partition {partition} offset {offset}", self.topic)
    }
}

/// A followed topic is asked for what is new less often than a range is asked for what is there.
fn following(mut config: LogReaderConfig, until: Until) -> LogReaderConfig {
    const WAIT: &str = "fetch.wait.max.ms";
    if until == Until::Stopped && config.kafka.get(WAIT).is_none() {
        config.kafka = config.kafka.set(WAIT, 100);
    }
    config
}

fn decoded(raw: &Arc<RawBatch>, output: StageOutput) -> Decoded {
    let StageOutput { batch, rejected, .. } = output;
    let is_tombstone = |row: &Rejected| raw.messages().payload(row.row as usize).is_none();
    let n_rejected = rejected.len();
    let bad: Vec<_> = rejected
        .into_iter()
        .filter(|row| !is_tombstone(row))
        .map(|row| {
            let number = row.row as usize;
            let place = raw.coordinate(number);
            (Place { number, partition: place.partition, offset: place.offset }, row.cause)
        })
        .collect();
    let n_tombstones = (n_rejected - bad.len()) as u64;
    Decoded { columns: batch.columns().clone(), envelope: Envelope::Messages(batch), bad, n_tombstones }
}

impl Wanted {
    fn of(rows: &RowOptions, filters: &[When], has_types: bool) -> Self {
        let names: Vec<&str> = filters.iter().map(When::column).collect();
        let needed = rows.needed(&names);
        if needed.is_empty() {
            return Self { columns: None, typed: true };
        }
        let is_feature = |name: &str| rows.features.iter().any(|feature| feature.name == name);
        let kind = |name: &str| {
            if let Some(filter) = filters.iter().find(|filter| filter.column() == name)
                && !has_types
            {
                return Some(filter.column_type());
            }
            // An imputed column may be missing altogether, and then nobody but us says what it would have held.
            let is_typed = is_feature(name) && (!has_types || rows.missing == Missing::Impute);
            is_typed.then_some(ColumnType::Float64)
        };
        let column = |name: String| ColumnConfig { column_type: kind(&name), name, nullable: true };
        let columns: Vec<ColumnConfig> = needed.into_iter().map(column).collect();
        let typed = columns.iter().all(|column| column.column_type.is_some());
        Self { columns: Some(columns), typed }
    }

    /// Takes the types that are still missing from a schema; what it does not have is text.
    fn infer(&mut self, schema: &SchemaRef) {
        for column in self.columns.iter_mut().flatten().filter(|column| column.column_type.is_none()) {
            let found = schema.field_with_name(&column.name).map(|field| field.data_type().clone());
            column.column_type = Some(match found {
                Ok(DataType::Float64) => ColumnType::Float64,
                Ok(DataType::Boolean) => ColumnType::Boolean,
                _ => ColumnType::Utf8,
            });
        }
        self.typed = true;
    }
}

impl Format {
    /// Whether a message's schema says the types of its fields.
    fn has_types(&self) -> bool {
        matches!(self, Format::ConfluentAvro(_) | Format::Avro(_))
    }

    fn decoder(&self, wanted: &Wanted) -> Result<Box<dyn Decoder>, Failure> {
        let columns = wanted.columns.clone();
        let wrong = |error: ConfigError| Failure::Log(error.into());
        Ok(match self.clone() {
            Format::ConfluentAvro(mut config) => {
                config.decoder.columns = columns;
                let registry = Arc::new(SchemaRegistry::new(config.registry).map_err(wrong)?);
                Box::new(ConfluentAvroDecoder::new(registry, config.decoder).map_err(wrong)?)
            }
            Format::Avro(mut config) => {
                config.columns = columns;
                Box::new(AvroDecoder::new(config).map_err(wrong)?)
            }
            Format::Json(mut config) => {
                config.columns = columns;
                Box::new(JsonDecoder::new(config).map_err(wrong)?)
            }
            Format::Csv(mut config) => {
                config.columns = columns;
                Box::new(CsvDecoder::new(config).map_err(wrong)?)
            }
        })
    }
}
