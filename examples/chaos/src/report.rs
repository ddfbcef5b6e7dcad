//! A line of JSON per seed, and the table of all of them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use cars::process::Failure;
use serde::{Deserialize, Serialize};

use crate::plan::{Broker, Plan};
use crate::worker::Seen;

/// What an idle worker may need more than at its start, once it works: code that is now in use, threads' stacks and the
/// allocator's spare room. In bytes.
const WORKING_ROOM: u64 = 48 << 20;

/// Resident memory of a worker in bytes, the highest of all its processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Memory {
    worker: String,
    pub peak: u64,
    /// What it needed when it began, and what its configuration lets it hold beside.
    pub bound: u64,
}

impl Memory {
    /// Of the processes of a worker whose configuration lets it buffer so many bytes.
    pub fn new(worker: &str, seen: &Seen, buffers: u64) -> Self {
        Self { worker: worker.to_owned(), peak: seen.peak_rss, bound: seen.idle_rss + buffers + WORKING_ROOM }
    }

    /// What to say of a worker beyond its bound.
    pub fn failure(&self) -> Option<String> {
        let Self { worker, peak, bound } = self;
        let is_beyond = *peak > *bound || *peak == 0;
        is_beyond.then(|| format!("the {worker} had {peak} bytes of memory, its bound is {bound} (invariant 6)"))
    }
}

/// What one seed gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub broker: Broker,
    pub seed: u64,
    /// Load and bridge it was run with, where they are not the usual ones.
    pub mode: String,
    pub filter: String,
    pub faults: Vec<String>,
    pub loses_session: bool,
    /// Messages that the broker acknowledged to their publishers.
    pub published: u64,
    /// Messages that the publishers themselves sent again.
    pub resent: u64,
    /// Acknowledged messages that are not in Kafka, and rows without a result.
    pub lost: u64,
    /// Repeats, and how many may be.
    pub input_repeats: (u64, u64),
    pub output_repeats: (u64, u64),
    /// First occurrences that came to Kafka out of order.
    pub disorder: u64,
    /// Balances compared with the topics, and the rows they tell of.
    pub audits: (u64, u64),
    pub failed_starts: u64,
    pub bridge_memory: Memory,
    pub scorer_memory: Memory,
    pub seconds: f64,
    pub failures: Vec<String>,
    /// It did not come to its end, so that its numbers say nothing.
    #[serde(default)]
    pub is_cut_short: bool,
}

impl Line {
    /// Of a seed that did not come to its end: nothing moved for too long, or a server did not come back.
    pub fn cut_short(plan: &Plan, took: Duration, why: &str) -> Self {
        let memory = |worker: &str| Memory { worker: worker.to_owned(), peak: 0, bound: 0 };
        Self {
            broker: plan.broker,
            seed: plan.seed,
            mode: String::new(),
            filter: format!("{:?}", plan.filter).to_lowercase(),
            faults: plan.faults.iter().map(|planned| planned.fault.to_string()).collect(),
            loses_session: plan.loses_session,
            published: 0,
            resent: 0,
            lost: 0,
            input_repeats: (0, 0),
            output_repeats: (0, 0),
            disorder: 0,
            audits: (0, 0),
            failed_starts: 0,
            bridge_memory: memory("bridge"),
            scorer_memory: memory("scorer"),
            seconds: took.as_secs_f64(),
            failures: vec![format!("it did not come to its end: {why}")],
            is_cut_short: true,
        }
    }
}

/// What is known of the seeds of `plans`, and those that are still to be run: with `again` also those that have failed. Of a seed
/// that was run more than once the last line counts.
pub fn settled(known: Vec<Line>, plans: Vec<Plan>, again: bool) -> (Vec<Line>, Vec<Plan>) {
    let mut lines = Vec::new();
    let mut open = Vec::new();
    for plan in plans {
        match known.iter().rfind(|line| line.seed == plan.seed) {
            Some(line) if line.failures.is_empty() || !again => lines.push(line.clone()),
            _ => open.push(plan),
        }
    }
    (lines, open)
}

/// The lines of a file of results; none where there is no file yet.
pub fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let Ok(file) = File::open(path) else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line?;
        lines.push(serde_json::from_str(&line).map_err(|error| format!("{} holds {line:?}: {error}", path.display()))?);
    }
    Ok(lines)
}

/// Adds a line to a file of results.
pub fn append(path: &Path, line: &Line) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    File::options().create(true).append(true).open(path)?.write_all(text.as_bytes())?;
    Ok(())
}

/// One row a seed, the sum, and what failed.
pub fn table(lines: &[Line]) -> String {
    let mut rows = vec![
        [
            "seed",
            "filter",
            "faults",
            "published",
            "lost",
            "input repeats",
            "output repeats",
            "disorder",
            "audits",
            "bridge MiB",
            "scorer MiB",
            "seconds",
            "verdict",
        ]
        .map(str::to_owned),
    ];
    let of = |(found, bound): (u64, u64)| format!("{found} of {bound}");
    let mib = |memory: &Memory| format!("{} of {}", memory.peak >> 20, memory.bound >> 20);
    for line in lines {
        let n_faults = line.faults.len() + usize::from(line.loses_session);
        rows.push([
            line.seed.to_string(),
            line.filter.clone(),
            n_faults.to_string(),
            line.published.to_string(),
            line.lost.to_string(),
            of(line.input_repeats),
            of(line.output_repeats),
            line.disorder.to_string(),
            format!("{}: {}", line.audits.0, line.audits.1),
            mib(&line.bridge_memory),
            mib(&line.scorer_memory),
            format!("{:.0}", line.seconds),
            match line.failures.len() {
                0 => "ok".to_owned(),
                _ if line.is_cut_short => "FAILED, cut short".to_owned(),
                n => format!("FAILED {n}"),
            },
        ]);
    }
    let mut widths = [0; 13];
    for row in &rows {
        row.iter().zip(&mut widths).for_each(|(cell, width)| *width = cell.len().max(*width));
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    let sum = |of: fn(&Line) -> u64| lines.iter().map(of).sum::<u64>();
    text.push_str(&format!(
        "{} seeds, {} failed: {} messages acknowledged, {} lost; {} repeats in Kafka, {} of results; {} balances of {} rows compared\n",
        lines.len(),
        lines.iter().filter(|line| !line.failures.is_empty()).count(),
        sum(|line| line.published),
        sum(|line| line.lost),
        sum(|line| line.input_repeats.0),
        sum(|line| line.output_repeats.0),
        sum(|line| line.audits.0),
        sum(|line| line.audits.1),
    ));
    for line in lines.iter().filter(|line| !line.failures.is_empty()) {
        text.push_str(&format!("seed {} failed: {}\n", line.seed, line.failures.join("; ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seed: u64) -> Line {
        let memory = Memory { worker: "bridge".to_owned(), peak: 50 << 20, bound: 99 << 20 };
        Line {
            broker: Broker::Hivemq,
            seed,
            mode: String::new(),
            filter: "plain".to_owned(),
            faults: vec!["a fault".to_owned()],
            loses_session: true,
            published: 100,
            resent: 0,
            lost: 0,
            input_repeats: (3, 200),
            output_repeats: (4, 400),
            disorder: 0,
            audits: (2, 90),
            failed_starts: 0,
            bridge_memory: memory.clone(),
            scorer_memory: memory,
            seconds: 31.4,
            failures: Vec::new(),
            is_cut_short: false,
        }
    }

    fn plan(seed: u64) -> Plan {
        Plan::new(seed, Broker::Hivemq, Duration::from_secs(8), true)
    }

    #[test]
    fn a_seed_that_did_not_come_to_its_end_is_a_failure_that_stays_until_it_is_run_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.jsonl");
        append(&path, &Line::cut_short(&plan(1), Duration::from_secs(121), "nothing moved")).unwrap();
        append(&path, &line(2)).unwrap();
        let seeds = |again| {
            let (lines, open) = settled(read(&path).unwrap(), (1..=3).map(plan).collect(), again);
            let of = |line: &Line| (line.seed, line.is_cut_short);
            (lines.iter().map(of).collect::<Vec<_>>(), open.iter().map(|plan| plan.seed).collect::<Vec<_>>())
        };
        assert_eq!(seeds(false), (vec![(1, true), (2, false)], vec![3]));
        assert_eq!(seeds(true), (vec![(2, false)], vec![1, 3]));
        let text = table(&read(&path).unwrap());
        assert!(text.contains("FAILED, cut short") && text.contains("2 seeds, 1 failed"), "{text}");
        assert!(text.ends_with("seed 1 failed: it did not come to its end: nothing moved\n"), "{text}");
        append(&path, &line(1)).unwrap();
        assert_eq!(seeds(true), (vec![(1, false), (2, false)], vec![3]));
    }

    #[test]
    fn lines_of_before_are_still_read() {
        let mut old = serde_json::to_value(line(1)).unwrap();
        old.as_object_mut().unwrap().remove("is_cut_short");
        assert!(!serde_json::from_value::<Line>(old).unwrap().is_cut_short);
    }

    #[test]
    fn lines_come_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/results.jsonl");
        assert!(read(&path).unwrap().is_empty());
        (1..=2).for_each(|seed| append(&path, &line(seed)).unwrap());
        let seeds: Vec<u64> = read(&path).unwrap().iter().map(|line| line.seed).collect();
        assert_eq!(seeds, [1, 2]);
        let text = table(&read(&path).unwrap());
        assert!(text.contains("2 seeds, 0 failed: 200 messages acknowledged, 0 lost; 6 repeats"), "{text}");
    }

    #[test]
    fn inv_6_memory_beyond_its_bound_is_a_failure() {
        let mut memory = line(1).bridge_memory;
        assert_eq!(memory.failure(), None);
        memory.peak = memory.bound + 1;
        assert!(memory.failure().is_some());
        memory.peak = 0;
        assert!(memory.failure().is_some(), "nothing was measured");
    }
}
