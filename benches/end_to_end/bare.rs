//! The bare loop: what a Rust programmer would write for this one job by hand with rdkafka and ort, and no framework.
//!
//! One thread polls, decodes this one schema, scores and produces; librdkafka's threads fetch and deliver.

use std::io::Write;
use std::time::Duration;

use cars::N_FIELDS;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use crate::Failure;
use crate::fill::ends;
use crate::measure::{Done, Stopwatch};
use crate::model::{self, Model};
use crate::plan::Plan;

/// Everything behind the 5-byte frame, in schema order: floats, but zigzag ints for the tyres and the firmware.
pub fn decode(datum: &[u8], row: &mut [f32]) -> Option<()> {
    let mut at = 5;
    for (field, value) in row.iter_mut().enumerate() {
        if cars::is_int(field) {
            let (mut raw, mut shift) = (0u64, 0);
            loop {
                let byte = *datum.get(at)?;
                at += 1;
                raw |= u64::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
                shift += 7;
            }
            *value = ((raw >> 1) as i64 ^ -((raw & 1) as i64)) as f32;
        } else {
            *value = f32::from_le_bytes(datum.get(at..at + 4)?.try_into().ok()?);
            at += 4;
        }
    }
    Some(())
}

/// A session on one thread that does not spin, as in the pipeline.
fn open(environment: &Environment, plan: &Plan) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_intra_threads(1)?
        .with_intra_op_spinning(false)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .commit_from_file(&plan.model)
}

pub fn run(plan: &Plan) -> Result<Done, Failure> {
    let library = std::env::var("ORT_DYLIB_PATH")?;
    let environment = ort::init_from(library)?.build()?;
    let mut session = open(&environment, plan).map_err(|error| error.to_string())?;
    let Model { scales, threshold } = model::read(&plan.model)?;

    let topic = plan.input();
    let ends = ends(plan, &topic)?;
    let n_records: i64 = ends.iter().sum();
    let mut config = plan.client();
    config
        .set("group.id", format!("{}-bare", plan.prefix))
        .set("enable.auto.commit", "false")
        .set("queued.min.messages", "1000000")
        .set("fetch.message.max.bytes", "4194304");
    let consumer: BaseConsumer = config.create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..plan.partitions {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut config = plan.client();
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "500000");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;

    let output = plan.output("bare");
    let mut stopwatch = Stopwatch::default();
    let mut rows = vec![0f32; plan.batch * N_FIELDS];
    let mut messages: Vec<BorrowedMessage<'_>> = Vec::with_capacity(plan.batch);
    let mut json = Vec::with_capacity(128);
    let mut n_seen = 0;
    while n_seen < n_records {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                stopwatch.start();
                let at = messages.len() * N_FIELDS;
                let row = &mut rows[at..at + N_FIELDS];
                decode(message.payload().unwrap_or_default(), row).ok_or("a record is cut short")?;
                for (value, (factor, shift)) in row.iter_mut().zip(&scales) {
                    *value = *value * factor + shift;
                }
                messages.push(message);
                n_seen += 1;
            }
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
        if messages.len() < plan.batch && n_seen < n_records {
            continue;
        }
        let n = messages.len();
        let input = TensorRef::from_array_view(([n, N_FIELDS], &rows[..n * N_FIELDS]))?;
        let outputs = session.run(ort::inputs![input])?;
        let (_, reconstruction) = outputs[0].try_extract_tensor::<f32>()?;
        for (number, message) in messages.iter().enumerate() {
            let at = number * N_FIELDS..(number + 1) * N_FIELDS;
            let errors = rows[at.clone()].iter().zip(&reconstruction[at]).map(|(x, y)| (x - y) * (x - y));
            let score = errors.sum::<f32>() / N_FIELDS as f32;
            json.clear();
            write!(json, "{{\"score\":{score},\"anomaly\":{}}}", score >= threshold)?;
            let mut record = BaseRecord::to(&output).key(message.key().unwrap_or_default()).payload(&json);
            while let Err((error, refused)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                std::thread::sleep(Duration::from_millis(1));
                record = refused;
            }
        }
        messages.clear();
    }
    producer.flush(Duration::from_secs(60))?;
    Ok(Done { records: n_records as u64, took: stopwatch.took(), checksum: 0 })
}
