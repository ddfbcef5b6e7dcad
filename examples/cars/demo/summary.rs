//! The end of the demo: what became of every message.

use super::truth::Truth;
use super::watch::Watcher;
use crate::chain::Chain;
use crate::mqtt::Ledger;
use crate::process::Failure;

/// Stops the pipelines, prints the summary, and says whether the audit is clean.
pub fn finish(chain: Chain, ledger: &Ledger, truth: &Truth, watcher: &Watcher, qos: u8) -> Result<bool, Failure> {
    let mut is_balanced = true;
    for (name, summary) in chain.finish()? {
        is_balanced &= summary.audit.balances() && summary.is_drained;
        println!("{name:<9} {}", summary.audit);
    }
    let score = truth.score();
    let latency = watcher.latency(&[0.5, 0.9, 0.99, 0.999, 1.0]);
    let millis: Vec<String> = latency.iter().map(|at| format!("{:.1}", at.as_secs_f64() * 1e3)).collect();
    println!(
        "latency   publish to prediction, ms: p50 {} p90 {} p99 {} p99.9 {} max {}",
        millis[0], millis[1], millis[2], millis[3], millis[4]
    );
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    println!(
        "anomalies {} reported: precision {}, recall {}; {} of {} faulty cars found",
        score.hits + score.false_alarms,
        percent(score.precision()),
        percent(score.recall()),
        score.faulty_cars.1,
        score.faulty_cars.0,
    );
    for (kind, n_rows, n_reported) in truth.by_kind() {
        println!("          {kind:<20} {n_reported} of {n_rows} rows reported");
    }
    let audit = truth.audit(&ledger.acked_by_stream());
    println!("audit     {audit}; seen more than once {}", score.repeated);
    if qos == 0 {
        println!("audit     QoS 0: messages may get lost on the way, so this only reports");
        return Ok(true);
    }
    let is_clean = audit.is_clean() && is_balanced && audit.published > 0;
    println!("audit     {}", if is_clean { "clean: nothing was lost" } else { "FAILED" });
    Ok(is_clean)
}
