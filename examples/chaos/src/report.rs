//! A line of JSON per seed, and the table of all of them.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use cars::process::Failure;
use serde::{Deserialize, Serialize};

use crate::plan::Broker;
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

/// One row a seed, and the sum.
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
            if line.failures.is_empty() { "ok".to_owned() } else { format!("FAILED {}", line.failures.len()) },
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
        }
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
