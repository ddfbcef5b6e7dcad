//! What exactly once costs: the same pipeline with either guarantee, in turns, and its output counted.

use std::process::Command;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::measure::{Measured, median, of_process};
use crate::plan::Plan;
use crate::{Failure, fill};

pub fn run(plan: &Plan) -> Result<(), Failure> {
    fill::run(plan)?;
    let guarantees = [("at least once", false), ("exactly once", true)];
    let mut results: [Vec<Measured>; 2] = Default::default();
    for run in 0..plan.runs {
        // Whoever comes first in a turn may find the machine in another state.
        for at in if run % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (name, exactly_once) = guarantees[at];
            let base = plan.for_run(run);
            let plan = Plan { prefix: format!("{}.{at}", base.prefix), exactly_once, ..base };
            plan.create_output("iotml")?;
            let mut step = Command::new(std::env::current_exe()?);
            step.args(plan.arguments()).arg("iotml");
            let measured = of_process(step)?;
            eprintln!("run {}  {name:<13} {measured}", run + 1);
            let n_records = count(&plan)?;
            if n_records != plan.records {
                return Err(format!("{name} wrote {n_records} of {} records", plan.records).into());
            }
            results[at].push(measured);
        }
    }
    println!("{} records, {} partitions, medians of {} interleaved runs", plan.records, plan.partitions, plan.runs);
    println!("| | k records/s | CPU s per million | peak MB |");
    println!("| --- | --- | --- | --- |");
    for ((name, _), runs) in guarantees.iter().zip(&results) {
        let [rate, cpu] = [&Measured::rate as &dyn Fn(&Measured) -> f64, &Measured::cpu_per_million]
            .map(|figure| median(runs, figure));
        let peak = median(runs, &|measured| measured.peak_mb);
        println!("| {name} | {:.0} | {cpu:.2} | {peak:.0} |", rate / 1e3);
    }
    let [at_least, exactly] = [0, 1].map(|at| median(&results[at], &Measured::rate));
    println!("exactly once / at least once: {:.2}", exactly / at_least);
    Ok(())
}

/// How many records a reader of committed ones finds in the output.
fn count(plan: &Plan) -> Result<u64, Failure> {
    let mut config = plan.client();
    config.set("group.id", format!("{}-count", plan.prefix)).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.set("enable.partition.eof", "true").create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..plan.partitions {
        assignment.add_partition_offset(&plan.output("iotml"), partition, Offset::Beginning)?;
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
    Ok(n_records)
}
