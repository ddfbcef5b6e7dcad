//! Writes rows ahead of the pipeline, until told to stop.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::Failure;
use crate::plan::Plan;

/// Rows that may wait to be read: enough that the pipeline never waits for them, and little to keep.
const AHEAD: u64 = 400_000;

/// Writes numbered rows, and prints how many.
pub fn run(plan: &Plan) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stopped.store(true, Ordering::SeqCst);
    });
    let mut config = plan.client();
    config.set("linger.ms", "20").set("compression.type", "lz4").set("enable.idempotence", "true");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    let reader: BaseConsumer = plan.client().set("group.id", plan.of("group")).create()?;
    let topic = plan.of("in");
    let mut n = 0u64;
    while !stop.load(Ordering::SeqCst) {
        for _ in 0..10_000 {
            let (key, payload) = (format!("car{}", n % 1000), format!("{{\"seq\":{n},\"a\":{}}}", n % 1000));
            let mut record = BaseRecord::to(&topic).key(&key).payload(&payload);
            while let Err((error, refused)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                std::thread::sleep(Duration::from_millis(1));
                record = refused;
            }
            n += 1;
        }
        while n > committed(&reader, plan)? + AHEAD && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    producer.flush(Duration::from_secs(60))?;
    println!("{n}");
    Ok(())
}

/// How many rows the group has committed.
pub fn committed(reader: &BaseConsumer, plan: &Plan) -> Result<u64, Failure> {
    let mut list = TopicPartitionList::new();
    (0..plan.partitions).for_each(|partition| _ = list.add_partition(&plan.of("in"), partition));
    let deadline = Instant::now() + Duration::from_secs(60);
    let committed = loop {
        match reader.committed_offsets(list.clone(), Duration::from_secs(30)) {
            Ok(committed) => break committed,
            // A cluster that has just started has no coordinator for a moment.
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    };
    let offset = |offset: Offset| if let Offset::Offset(offset) = offset { offset as u64 } else { 0 };
    Ok(committed.elements().iter().map(|element| offset(element.offset())).sum())
}
