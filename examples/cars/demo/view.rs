//! The live view: a few lines in the terminal, redrawn twice a second; one line every five seconds where there is none.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::truth::Truth;
use super::watch::Watcher;
use crate::chain::Chain;
use crate::mqtt::Ledger;

/// What is shown.
pub struct View {
    pub ledger: Arc<Ledger>,
    pub truth: Arc<Truth>,
    pub watcher: Arc<Watcher>,
    bar: ProgressBar,
    last: (Instant, u64, u64),
    rates: (f64, f64),
    last_line: Instant,
}

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Rates are averages over this time: cars do not send evenly within a second.
const RATE_OVER: Duration = Duration::from_secs(2);

impl View {
    /// A view of a run of so many seconds.
    pub fn new(ledger: Arc<Ledger>, truth: Arc<Truth>, watcher: Arc<Watcher>, seconds: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:50.cyan/blue} {pos}/{len} s\n{msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self { ledger, truth, watcher, bar, last: (now, 0, 0), rates: (0.0, 0.0), last_line: now }
    }

    /// Redraws.
    pub fn show(&mut self, elapsed: Duration, chain: &Chain) {
        let score = self.truth.score();
        let (published, out) = (self.ledger.acked(), score.predicted + score.dead_lettered);
        let now = Instant::now();
        let seconds = (now - self.last.0).as_secs_f64();
        if seconds >= RATE_OVER.as_secs_f64() {
            let rate = |count: u64, before: u64| count.saturating_sub(before) as f64 / seconds;
            self.rates = (rate(published, self.last.1), rate(out, self.last.2));
            self.last = (now, published, out);
        }
        let (in_rate, out_rate) = self.rates;
        let latency = self.watcher.latency(&[0.5, 0.99]);
        let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
        let mut text = String::new();
        let _ = writeln!(
            text,
            "cars {:>6}   published {published:>9} ({in_rate:>6.0}/s)   out {out:>9} ({out_rate:>6.0}/s)   lag {}",
            self.ledger.connected(),
            published.saturating_sub(out),
        );
        let _ = writeln!(
            text,
            "latency p50 {:>6.1} ms  p99 {:>6.1} ms   in flight: bridge {}, scoring {}   dead letters {}",
            latency[0].as_secs_f64() * 1e3,
            latency[1].as_secs_f64() * 1e3,
            chain.bridge.audit().in_flight,
            chain.scoring.audit().in_flight,
            score.dead_lettered,
        );
        let _ = write!(
            text,
            "anomalies {} (precision {}, recall {})   faulty cars found {} of {}",
            score.hits + score.false_alarms,
            percent(score.precision()),
            percent(score.recall()),
            score.faulty_cars.1,
            score.faulty_cars.0,
        );
        if self.bar.is_hidden() {
            if now - self.last_line >= LINE_EVERY {
                self.last_line = now;
                eprintln!("{:>3.0} s  {}", elapsed.as_secs_f64(), text.replace('\n', "  |  "));
            }
            return;
        }
        self.bar.set_position(elapsed.as_secs());
        self.bar.set_message(text);
    }

    /// Takes the view off the screen.
    pub fn close(&self) {
        self.bar.finish_and_clear();
    }
}
