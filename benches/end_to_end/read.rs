//! The topic to rows of single-precision numbers and nothing else: what feeds a training.

use std::sync::Arc;
use std::time::Duration;

use cars::N_FIELDS;
use iotml_core::decode::{ColumnConfig, ConfluentAvroDecoder, ConfluentAvroDecoderConfig, Decoder};
use iotml_kafka::{LogEvent, LogReader, LogReaderConfig, SchemaRegistry, SchemaRegistryConfig, Select, Until};
use iotml_model::feature::{FeatureSpec, Missing};
use iotml_model::manifest::Feature;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Failure;
use crate::bare::decode;
use crate::fill::ends;
use crate::measure::{Done, Stopwatch, checksum};
use crate::plan::Plan;

/// What a Rust programmer would write by hand with rdkafka: poll, decode this one schema, fill batches of rows.
pub fn bare(plan: &Plan) -> Result<Done, Failure> {
    let topic = plan.input();
    let n_records: i64 = ends(plan, &topic)?.iter().sum();
    let mut config = plan.client();
    config
        .set("group.id", format!("{}-read-bare", plan.prefix))
        .set("enable.auto.commit", "false")
        .set("queued.min.messages", "1000000")
        .set("fetch.message.max.bytes", "4194304");
    let consumer: BaseConsumer = config.create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..plan.partitions {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut stopwatch = Stopwatch::default();
    let mut rows = vec![0f32; plan.batch * N_FIELDS];
    let (mut n_seen, mut at, mut sum) = (0, 0, 0u64);
    while n_seen < n_records {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        stopwatch.start();
        let row = &mut rows[at..at + N_FIELDS];
        decode(message.payload().unwrap_or_default(), row).ok_or("a record is cut short")?;
        n_seen += 1;
        at += N_FIELDS;
        if at == rows.len() {
            sum = sum.wrapping_add(checksum(&rows));
            at = 0;
        }
    }
    sum = sum.wrapping_add(checksum(&rows[..at]));
    Ok(Done { records: n_records as u64, took: stopwatch.took(), checksum: sum })
}

/// The same with iotml, on one thread: any schema of the registry, rows by partition and offset, bad ones found.
pub fn log(plan: &Plan) -> Result<Done, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let registry = Arc::new(SchemaRegistry::new(SchemaRegistryConfig::new(&plan.registry))?);
    let columns = Some(cars::FIELDS.iter().map(|name| ColumnConfig::named(*name)).collect());
    let config = ConfluentAvroDecoderConfig { columns, ..ConfluentAvroDecoderConfig::default() };
    let mut decoder = ConfluentAvroDecoder::new(registry, config)?;
    let feature = |name: &&str| Feature { name: (*name).to_owned(), scale: None, constant: None, impute: None };
    let mut features = FeatureSpec::new(&cars::FIELDS.iter().map(feature).collect::<Vec<_>>(), Missing::Reject);

    let mut log = LogReader::open(LogReaderConfig::new(&plan.kafka, &plan.input()))?;
    let range = log.resolve(&Select::All)?;
    log.begin(&range, Until::End)?;
    let mut stopwatch = Stopwatch::default();
    let (mut n_seen, mut sum) = (0, 0u64);
    let mut rows = Vec::new();
    loop {
        let raw = match log.next(8192, Duration::from_millis(100))? {
            LogEvent::Batch(raw) => raw,
            LogEvent::Idle => continue,
            LogEvent::End => break,
        };
        stopwatch.start();
        runtime.block_on(decoder.prepare(&raw))?;
        let decoded = decoder.decode(&raw)?;
        rows.resize(decoded.batch.len() * N_FIELDS, 0f32);
        let bad = features.fill_rows(decoded.batch.columns(), &mut rows)?;
        if !decoded.rejected.is_empty() || !bad.is_empty() {
            return Err("a record was refused".into());
        }
        sum = sum.wrapping_add(checksum(&rows));
        n_seen += decoded.batch.len() as u64;
    }
    if n_seen != range.n_offsets() {
        return Err(format!("{n_seen} records instead of {}", range.n_offsets()).into());
    }
    Ok(Done { records: n_seen, took: stopwatch.took(), checksum: sum })
}
