//! Reads everything back: each row once, scored by the one version that it names.

use std::fmt;
use std::time::Duration;

use iotml_kafka::{LogEvent, LogReader, LogReaderConfig, Select, Until};
use serde::Deserialize;

use crate::plan::Plan;
use crate::{Failure, models};

#[derive(Deserialize)]
struct Row<'a> {
    seq: usize,
    a: f64,
    score: f64,
    #[serde(borrow)]
    model_version: &'a str,
}

/// What was found.
pub struct Audit {
    n_out: u64,
    n_missing: usize,
    n_doubled: usize,
    n_wrong: u64,
    n_versions: usize,
    n_expected: usize,
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Audit { n_out, n_missing, n_doubled, n_wrong, n_versions, .. } = self;
        write!(
            f,
            "{n_out} out, {n_missing} missing, {n_doubled} twice, {n_wrong} with a score of another version than named, by \
             {n_versions} versions"
        )
    }
}

impl Audit {
    /// Whether all is as it must be.
    pub fn check(&self) -> Result<(), Failure> {
        let is_sound = self.n_missing + self.n_doubled == 0 && self.n_wrong == 0 && self.n_versions == self.n_expected;
        if is_sound { Ok(()) } else { Err("the audit does not close".into()) }
    }
}

/// Reads the output of `n_rows` rows.
pub fn run(plan: &Plan, n_rows: usize) -> Result<Audit, Failure> {
    let mut log = LogReader::open(LogReaderConfig::new(&plan.kafka, &plan.of("out")))?;
    let all = log.resolve(&Select::All)?;
    log.begin(&all, Until::End)?;
    let mut times = vec![0u8; n_rows];
    let mut versions = vec![false; plan.swaps as usize + 2];
    let (mut n_out, mut n_wrong) = (0, 0);
    loop {
        match log.next(4096, Duration::from_millis(100))? {
            LogEvent::Batch(batch) => {
                for at in 0..batch.len() {
                    let row: Row<'_> = serde_json::from_slice(batch.messages().payload(at).unwrap_or_default())?;
                    let version: usize = row.model_version.parse()?;
                    let expected = models::score(row.a, version as f64);
                    n_wrong += u64::from((row.score - expected).abs() > expected * 1e-3);
                    times[row.seq] = times[row.seq].saturating_add(1);
                    versions[version] = true;
                    n_out += 1;
                }
            }
            LogEvent::Idle => {}
            LogEvent::End => break,
        }
    }
    Ok(Audit {
        n_out,
        n_missing: times.iter().filter(|times| **times == 0).count(),
        n_doubled: times.iter().filter(|times| **times > 1).count(),
        n_wrong,
        n_versions: versions.iter().filter(|seen| **seen).count(),
        n_expected: plan.swaps as usize + 1,
    })
}
