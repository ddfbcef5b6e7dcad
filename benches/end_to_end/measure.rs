//! Rate, CPU and memory of one process, and the table of all runs.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::plan::Plan;

/// What a run did, as its own process saw it; the Python peer prints the same.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Records from input to output.
    pub records: u64,
    /// From the first record received to the last one durable, seconds.
    pub seconds: f64,
    /// CPU of the whole process, start included, seconds.
    pub cpu_seconds: f64,
    /// Peak resident memory, MB.
    pub peak_mb: f64,
    /// Of the numbers that were read, where a run only reads: the sum of their bits.
    #[serde(default)]
    pub checksum: u64,
}

impl Measured {
    /// Records a second.
    pub fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    /// CPU seconds for a million records.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records as f64
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, cpu, peak) = (self.rate() / 1e3, self.cpu_per_million(), self.peak_mb);
        write!(f, "{rate:>8.0} k records/s  {cpu:>6.2} CPU s per million  {peak:>5.0} MB")
    }
}

/// What a run itself has to say: how many records, and how long they took.
pub struct Done {
    /// Records.
    pub records: u64,
    /// From the first record received to the last one durable.
    pub took: Duration,
    /// Of the numbers that were read, where a run only reads.
    pub checksum: u64,
}

/// The sum of the bits of numbers: the same in whatever order they come.
pub fn checksum(numbers: &[f32]) -> u64 {
    numbers.iter().map(|number| u64::from(number.to_bits())).sum()
}

/// Runs it and prints what it took as one line of JSON.
pub fn measured(run: impl FnOnce() -> Result<Done, Failure>) -> Result<(), Failure> {
    let done = run()?;
    let measured = Measured {
        records: done.records,
        seconds: done.took.as_secs_f64(),
        cpu_seconds: cpu_seconds()?,
        peak_mb: status("VmHWM:")? / 1024.0,
        checksum: done.checksum,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// Runs a step as a process of its own, and takes what it printed last.
pub fn of_process(mut step: Command) -> Result<Measured, Failure> {
    let output = step.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{step:?} failed with {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(text.lines().last().ok_or("a run printed nothing")?)?)
}

/// User and system time of this process.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces, so fields are counted from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// A value of `/proc/self/status` in kB.
fn status(name: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such status")?;
    Ok(line.split_whitespace().next().ok_or("no value")?.parse()?)
}

/// When the first record came, for a run that cannot know beforehand.
#[derive(Default)]
pub struct Stopwatch(Option<Instant>);

impl Stopwatch {
    /// Starts at the first call.
    pub fn start(&mut self) {
        self.0.get_or_insert_with(Instant::now);
    }

    /// Since the start.
    pub fn took(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |start| start.elapsed())
    }
}

/// The median of a figure over some runs.
pub fn median(runs: &[Measured], of: &dyn Fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Medians and ratios.
pub fn print_table(results: &[Vec<Measured>; 3], plan: &Plan) {
    let median = |of: &dyn Fn(&Measured) -> f64, peer: usize| median(&results[peer], of);
    println!("{} records, {} partitions, medians of {} interleaved runs", plan.records, plan.partitions, plan.runs);
    println!("| | k records/s | CPU s per million | peak MB | rate / bare |");
    println!("| --- | --- | --- | --- | --- |");
    let bare = median(&Measured::rate, 0);
    for (peer, name) in ["bare loop", "iotml", "Python"].into_iter().enumerate() {
        let rate = median(&Measured::rate, peer);
        let cpu = median(&Measured::cpu_per_million, peer);
        let peak = median(&|measured| measured.peak_mb, peer);
        println!("| {name} | {:.0} | {cpu:.2} | {peak:.0} | {:.2} |", rate / 1e3, rate / bare);
    }
    println!("iotml / Python: {:.1}", median(&Measured::rate, 1) / median(&Measured::rate, 2));
}
