//! The same pipeline in variants, in turns, and the output of each counted: what exactly once costs, what a canary and a shadow.

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::measure::{Measured, median, of_process};
use crate::plan::{Plan, Rollouts};
use crate::{Failure, fill, rollout};

/// What differs from the plan, and its name in the table.
type Variant = (&'static str, fn(Plan) -> Plan);

/// Exactly once beside at least once.
pub fn delivery(plan: &Plan) -> Result<(), Failure> {
    run(plan, &[("at least once", |plan| plan), ("exactly once", |plan| Plan { exactly_once: true, ..plan })])
}

/// A canary of a tenth of the keys, and a shadow whose scores are written, beside one model.
pub fn rollouts(plan: &Plan) -> Result<(), Failure> {
    run(
        plan,
        &[
            ("one model", |plan| Plan { rollouts: Some(Rollouts::Full), ..plan }),
            ("a canary of 10 %", |plan| Plan { rollouts: Some(Rollouts::Canary), ..plan }),
            ("a shadow, not written", |plan| Plan { rollouts: Some(Rollouts::Unread), ..plan }),
            ("a shadow, written", |plan| Plan { rollouts: Some(Rollouts::Shadow), ..plan }),
        ],
    )
}

fn run(plan: &Plan, variants: &[Variant]) -> Result<(), Failure> {
    fill::run(plan)?;
    let mut results: Vec<Vec<Measured>> = vec![Vec::new(); variants.len()];
    for run in 0..plan.runs {
        // Whoever comes first in a turn may find the machine in another state.
        let order: Vec<usize> = match run % 2 {
            0 => (0..variants.len()).collect(),
            _ => (0..variants.len()).rev().collect(),
        };
        for at in order {
            let (name, change) = variants[at];
            let base = plan.for_run(run);
            let plan = change(Plan { prefix: format!("{}.{at}", base.prefix), ..base });
            plan.create_output("iotml")?;
            if let Some(rollouts) = plan.rollouts {
                plan.create_output("shadow")?;
                rollout::announce(&plan, rollouts)?;
            }
            let mut step = Command::new(std::env::current_exe()?);
            step.args(plan.arguments()).arg("iotml");
            let measured = of_process(step)?;
            eprintln!("run {}  {name:<21} {measured}", run + 1);
            check_count(&plan, "iotml", plan.records)?;
            if plan.rollouts == Some(Rollouts::Shadow) {
                check_count(&plan, "shadow", plan.records)?;
            }
            results[at].push(measured);
        }
    }
    println!("{} records, {} partitions, medians of {} interleaved runs", plan.records, plan.partitions, plan.runs);
    println!("| | k records/s | CPU s per million | peak MB | rate / first |");
    println!("| --- | --- | --- | --- | --- |");
    let first = median(&results[0], &Measured::rate);
    for ((name, _), runs) in variants.iter().zip(&results) {
        let [rate, cpu] = [&Measured::rate as &dyn Fn(&Measured) -> f64, &Measured::cpu_per_million]
            .map(|figure| median(runs, figure));
        let peak = median(runs, &|measured| measured.peak_mb);
        println!("| {name} | {:.0} | {cpu:.2} | {peak:.0} | {:.2} |", rate / 1e3, rate / first);
    }
    Ok(())
}

/// Errs unless a reader of committed records finds so many in an output.
fn check_count(plan: &Plan, output: &str, expected: u64) -> Result<(), Failure> {
    let mut config = plan.client();
    config.set("group.id", format!("{}-count", plan.prefix)).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.set("enable.partition.eof", "true").create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..plan.partitions {
        assignment.add_partition_offset(&plan.output(output), partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let deadline = Instant::now() + Duration::from_secs(120);
    let (mut n_records, mut n_ends) = (0, 0);
    while n_ends < plan.partitions {
        if Instant::now() > deadline {
            return Err("the output could not be read".into());
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => n_records += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => n_ends += 1,
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
    }
    match n_records == expected {
        true => Ok(()),
        false => Err(format!("{} has {n_records} records, not {expected}", plan.output(output)).into()),
    }
}
