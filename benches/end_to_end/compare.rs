//! Reads the outputs of all three and compares them car by car: the same number of scores, in the same order, equal.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Deserialize;

use crate::Failure;
use crate::fill::ends;
use crate::plan::Plan;

/// What the three may differ by: they sum squares in different orders.
const TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Prediction {
    score: f32,
}

pub fn run(plan: &Plan) -> Result<(), Failure> {
    let bare = scores(plan, "bare")?;
    let n_scores: usize = bare.values().map(Vec::len).sum();
    if n_scores as u64 != plan.records {
        return Err(format!("the bare loop wrote {n_scores} of {} scores", plan.records).into());
    }
    for name in ["iotml", "python"] {
        let other = scores(plan, name)?;
        let mut worst = 0f32;
        for (car, expected) in &bare {
            let got = other.get(car).ok_or_else(|| format!("{name} wrote no score of {car}"))?;
            if got.len() != expected.len() {
                return Err(format!("{name} wrote {} scores of {car}, not {}", got.len(), expected.len()).into());
            }
            worst = expected.iter().zip(got).map(|(a, b)| (a - b).abs()).fold(worst, f32::max);
        }
        if worst > TOLERANCE || other.len() != bare.len() {
            return Err(format!("the scores of {name} differ by up to {worst}").into());
        }
        eprintln!("{name}: {n_scores} scores equal the bare loop's within {worst:e}, in the same order per car");
    }
    Ok(())
}

fn scores(plan: &Plan, name: &str) -> Result<HashMap<String, Vec<f32>>, Failure> {
    let topic = plan.output(name);
    let n_records: i64 = ends(plan, &topic)?.iter().sum();
    let mut config = plan.client();
    config.set("group.id", format!("{}-compare", plan.prefix)).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..plan.partitions {
        assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut scores: HashMap<String, Vec<f32>> = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut n_seen = 0;
    while n_seen < n_records {
        if Instant::now() > deadline {
            return Err(format!("{topic} yielded {n_seen} of {n_records} records").into());
        }
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        n_seen += 1;
        let prediction: Prediction = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let car = String::from_utf8(message.key().unwrap_or_default().to_vec())?;
        scores.entry(car).or_default().push(prediction.score);
    }
    Ok(scores)
}
