//! Fills the input topic with Confluent-framed CarData records of simulated cars.

use std::time::Duration;

use cars::{Fleet, FleetConfig, avro, car_name};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;

use crate::Failure;
use crate::plan::Plan;

/// Cars; records of one car stand in one partition.
pub const N_CARS: u32 = 1_000;

/// Registers the schema and writes the records.
pub fn run(plan: &Plan) -> Result<(), Failure> {
    let id = register(plan)?;
    plan.create(&plan.input())?;
    let mut config = plan.client();
    config.set("linger.ms", "50").set("compression.type", "none").set("batch.size", "1000000");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    let topic = plan.input();
    let mut fleet = Fleet::new(&FleetConfig { n_cars: N_CARS, ..FleetConfig::default() });
    let names: Vec<String> = (0..N_CARS).map(car_name).collect();
    let mut datum = Vec::with_capacity(128);
    let mut n_written = 0;
    while n_written < plan.records {
        for reading in fleet.tick().take((plan.records - n_written) as usize) {
            datum.clear();
            datum.push(0);
            datum.extend_from_slice(&id.to_be_bytes());
            avro::write_v1(&reading, &mut datum);
            let mut record = BaseRecord::to(&topic).key(&names[reading.car as usize]).payload(&datum);
            while let Err((error, refused)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                std::thread::sleep(Duration::from_millis(1));
                record = refused;
            }
            n_written += 1;
        }
    }
    producer.flush(Duration::from_secs(120))?;
    eprintln!("{n_written} records in {topic}");
    Ok(())
}

/// Registers the schema of version 1 and returns its id.
fn register(plan: &Plan) -> Result<u32, Failure> {
    let (host, path) =
        plan.registry.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or("http:// only")?;
    let body = serde_json::json!({ "schema": avro::CARDATA_V1 }).to_string();
    let subject = format!("{}-value", plan.input());
    let request = format!(
        "POST /{path}/subjects/{subject}/versions HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = std::net::TcpStream::connect(host)?;
    std::io::Write::write_all(&mut connection, request.as_bytes())?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut connection, &mut answer)?;
    let json = answer.split("\r\n\r\n").nth(1).ok_or("no answer from the registry")?;
    let json: serde_json::Value = serde_json::from_str(json.trim())?;
    json["id"].as_u64().map(|id| id as u32).ok_or_else(|| format!("the registry answered {json}").into())
}

/// Where each partition ends now, for readers that stop there.
pub fn ends(plan: &Plan, topic: &str) -> Result<Vec<i64>, Failure> {
    let producer: BaseProducer = plan.client().create()?;
    let client = producer.client();
    let end = |partition| client.fetch_watermarks(topic, partition, Duration::from_secs(10)).map(|(_, high)| high);
    Ok((0..plan.partitions).map(end).collect::<Result<_, _>>()?)
}
