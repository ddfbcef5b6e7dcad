//! Teaches: plug-ins of one's own. A preprocessor and a sink in one file, registered like iotml's own, usable by name in a
//! configuration, with the whole command line of a worker around them.
//!
//! ```sh
//! KAFKA=127.0.0.1:9092 TOPIC=sensor-data-raw \
//!     cargo run -p iotml-examples --bin custom_plugin -- run examples/config/custom_plugin.toml
//! cargo run -p iotml-examples --bin custom_plugin -- plugins describe tyre_spread
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use iotml_core::arrow::datatypes::DataType;
use iotml_core::async_trait;
use iotml_core::plugin::Registry;
use iotml_core::preprocess::{Outcome, Preprocessor, row_wise};
use iotml_core::schemars::{self, JsonSchema};
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use serde::Deserialize;

/// The difference between a car's best and worst tyre, as a column of its own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TyreSpread {
    /// Keep only rows with at least this difference, psi.
    #[serde(default)]
    at_least: f64,
}

impl TyreSpread {
    fn build(self) -> Box<dyn Preprocessor> {
        const TYRES: [&str; 4] = ["tire_pressure_1_1", "tire_pressure_1_2", "tire_pressure_2_1", "tire_pressure_2_2"];
        Box::new(
            row_wise(move |row| {
                let pressures = TYRES.iter().filter_map(|tyre| row.f64(tyre));
                let (low, high) =
                    pressures.fold((f64::MAX, f64::MIN), |(low, high), psi| (low.min(psi), high.max(psi)));
                if low > high {
                    return Outcome::reject("no_tyres", "the row has no tyre pressure");
                }
                row.set("tyre_spread", high - low);
                if high - low >= self.at_least { Outcome::Keep } else { Outcome::Drop }
            })
            .adds("tyre_spread", DataType::Float64),
        )
    }
}

/// Counts rows by key and prints the busiest at the end.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tally {
    /// How many keys to print.
    #[serde(default = "ten")]
    top: usize,
}

fn ten() -> usize {
    10
}

struct TallySink {
    top: usize,
    counts: Mutex<BTreeMap<String, u64>>,
}

#[async_trait]
impl Sink for TallySink {
    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for row in 0..rows.len() {
            let key = String::from_utf8_lossy(rows.messages.key(row).unwrap_or_default()).into_owned();
            *counts.entry(key).or_default() += 1;
        }
        // Counted in memory is as durable as this sink ever gets.
        Ok(Written::default())
    }

    async fn close(&self) -> Result<(), SinkError> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busiest: Vec<_> = counts.iter().collect();
        busiest.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (key, count) in busiest.into_iter().take(self.top) {
            println!("{count:>8} {key}");
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let mut registry = Registry::with_core();
    iotml_kafka::register(&mut registry);
    registry.preprocessor("tyre_spread", "difference between the best and the worst tyre", |config: TyreSpread, _| {
        Ok(config.build())
    });
    registry.sink("tally", "counts rows by key", |config: Tally, _| {
        Ok(Arc::new(TallySink { top: config.top, counts: Mutex::default() }))
    });
    iotml_core::cli::main(registry)
}
