//! Teaches: replaying a recording through the whole chain and checking what comes out. Every row of a CSV file goes over MQTT
//! (one connection per car), through the bridge to Kafka, is scored, and comes back as a prediction.
//!
//! ```sh
//! cargo run --release -p iotml-examples --bin csv_replay -- --csv car-sensor-data.csv --normalization normalization.json \
//!     --model autoencoder-18.onnx --mqtt 127.0.0.1:1883 --kafka 127.0.0.1:9092 --out scores.csv
//! ```

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cars::chain::{Chain, Setting};
use cars::mqtt::{Ledger, Load, SEQ, Stream, publish};
use cars::process::{Failure, unix_seconds};
use clap::{Parser, ValueEnum};
use iotml_core::async_trait;
use iotml_core::error::report;
use iotml_core::metrics::Metrics;
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use serde::Deserialize;
use tokio::sync::watch::channel;

/// What no car can measure: outside these bounds a row is dirty.
const PLAUSIBLE: [(&str, f64, f64); 2] = [("coolant_temp", -40.0, 150.0), ("battery_percentage", 0.0, 100.0)];

#[derive(Parser)]
#[command(about = "Replays a CSV of car rows through MQTT, Kafka and the model, and counts what comes out")]
struct Arguments {
    /// CSV with a header: time, car, then the 18 sensors.
    #[arg(long)]
    csv: PathBuf,
    /// The MQTT broker, host:port.
    #[arg(long)]
    mqtt: String,
    /// Kafka, host:port.
    #[arg(long)]
    kafka: String,
    /// The ONNX model.
    #[arg(long)]
    model: PathBuf,
    /// Features and ranges as JSON, for a model without a manifest.
    #[arg(long)]
    normalization: Option<PathBuf>,
    /// What becomes of dirty rows.
    #[arg(long, value_enum, default_value_t = Dirty::Keep)]
    dirty: Dirty,
    /// Where to write `car,seq,score`, one line a prediction.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dirty {
    /// Score them like all others.
    Keep,
    /// Pull their values to the bounds, then score them.
    Clamp,
    /// Leave them out, counted.
    Filter,
    /// Write them to the dead-letter topic.
    DeadLetter,
}

impl Dirty {
    /// The pipeline's `[[preprocess]]` table.
    fn preprocess(self) -> String {
        let limits = |column: &str, min: f64, max: f64| format!("{column} = {{ min = {min:?}, max = {max:?} }}\n");
        let filter = |action: &str| {
            let table = |(column, min, max): (&str, f64, f64)| {
                format!(
                    "[[preprocess]]\ntype = \"filter\"\nname = \"plausible-{column}\"\naction = \"{action}\"\n\
                     column = \"{column}\"\nmin = {min:?}\nmax = {max:?}\n\n"
                )
            };
            PLAUSIBLE.map(table).concat()
        };
        match self {
            Dirty::Keep => String::new(),
            Dirty::Clamp => {
                let columns = PLAUSIBLE.map(|(column, min, max)| limits(column, min, max)).concat();
                format!("[[preprocess]]\ntype = \"clamp\"\n\n[preprocess.columns]\n{columns}\n")
            }
            Dirty::Filter => filter("filter"),
            Dirty::DeadLetter => filter("reject"),
        }
    }
}

/// What must come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    predictions: u64,
    dead_letters: u64,
    filtered: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("csv_replay: {}", report(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let recording = Recording::read(&arguments.csv)?;
    let expected = recording.expected(arguments.dirty);
    println!(
        "{} rows of {} cars, {} of them dirty ({:?}): expecting {} predictions, {} dead letters, {} filtered",
        recording.n_rows,
        recording.cars.len(),
        recording.n_dirty,
        arguments.dirty,
        expected.predictions,
        expected.dead_letters,
        expected.filtered
    );
    let folder = tempfile::tempdir()?;
    let mut score_options = String::new();
    if let Some(normalization) = &arguments.normalization {
        let manifest = folder.path().join("manifest.json");
        std::fs::write(&manifest, manifest_of(normalization)?)?;
        // The recording's model has golden outputs of its own, which the checking script compares.
        score_options = format!("manifest = {:?}\ngolden = \"none\"\n", manifest.display().to_string());
    }
    let run = format!("-replay-{}-{}", std::process::id(), unix_seconds());
    let preprocess = arguments.dirty.preprocess();
    let setting = Setting {
        mqtt: &arguments.mqtt,
        kafka: &arguments.kafka,
        run: &run,
        is_embedded: false,
        qos: 1,
        has_failure: false,
        model: &arguments.model,
        score_options: &score_options,
        preprocess: &preprocess,
    };
    let collected = Arc::new(Collector { dead_letters: setting.dead_letters(), ..Collector::default() });
    let chain = Chain::start(&setting, collected.clone(), &Metrics::default())?;

    let ledger = Ledger::new(recording.cars.len());
    replay(&recording, &setting, &ledger)?;
    println!("{} of {} rows acknowledged by the MQTT broker", ledger.acked(), recording.n_rows);
    let deadline = Instant::now() + Duration::from_secs(60);
    while collected.len() < expected.predictions + expected.dead_letters && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut filtered = 0;
    for (name, summary) in chain.finish()? {
        println!("{name:<9} {}", summary.audit);
        filtered += summary.audit.filtered;
    }
    let got = collected.counts(filtered);
    if let Some(out) = &arguments.out {
        collected.write(out)?;
    }
    println!("{} predictions, {} dead letters, {} filtered", got.predictions, got.dead_letters, got.filtered);
    Ok(got == expected)
}

/// The rows of every car as JSON, in the order of the file.
struct Recording {
    cars: BTreeMap<String, Vec<Vec<u8>>>,
    n_rows: u64,
    n_dirty: u64,
}

impl Recording {
    fn read(file: &Path) -> Result<Self, Failure> {
        let mut reader = csv::Reader::from_path(file)?;
        let header: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let column = |name: &str| header.iter().position(|known| known == name).ok_or(format!("no column {name}"));
        let car = column("car")?;
        let sensors = cars::FIELDS.iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
        let mut recording = Self { cars: BTreeMap::new(), n_rows: 0, n_dirty: 0 };
        for row in reader.records() {
            let row = row?;
            let mut json = String::from("{");
            let mut is_dirty = false;
            for (name, at) in cars::FIELDS.iter().zip(&sensors) {
                let text = &row[*at];
                let value: f64 = text.parse().map_err(|_| format!("{name} is {text:?} in row {}", recording.n_rows))?;
                let bounds = PLAUSIBLE.iter().find(|(column, ..)| column == name);
                // The chain carries f32, so that is what a bound is compared with.
                let value = f64::from(value as f32);
                is_dirty |= bounds.is_some_and(|(_, min, max)| value < *min || value > *max);
                let comma = if json.len() > 1 { "," } else { "" };
                write!(json, "{comma}\"{name}\":{text}")?;
            }
            json.push('}');
            recording.cars.entry(row[car].to_owned()).or_default().push(json.into_bytes());
            recording.n_rows += 1;
            recording.n_dirty += u64::from(is_dirty);
        }
        Ok(recording)
    }

    fn expected(&self, dirty: Dirty) -> Counts {
        let of = |action| if dirty == action { self.n_dirty } else { 0 };
        let (dead_letters, filtered) = (of(Dirty::DeadLetter), of(Dirty::Filter));
        Counts { predictions: self.n_rows - dead_letters - filtered, dead_letters, filtered }
    }
}

fn replay(recording: &Recording, setting: &Setting<'_>, ledger: &Arc<Ledger>) -> Result<(), Failure> {
    let streams = recording.cars.iter().map(|(car, rows)| Stream {
        client_id: format!("{car}{}", setting.run),
        topic: setting.car_topic(car),
        payloads: Box::new(rows.clone().into_iter()),
    });
    let load = Load {
        server: setting.mqtt.to_owned(),
        qos: 1,
        rate: None,
        ramp_up: Duration::ZERO,
        patience: Duration::from_secs(30),
    };
    let (_stop, stopped) = channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(publish(streams.collect(), &load, ledger.clone(), stopped))?)
}

/// A manifest from features and ranges: a null range is a feature that the model always sees as 0.
fn manifest_of(normalization: &Path) -> Result<Vec<u8>, Failure> {
    #[derive(Deserialize)]
    struct Normalization {
        features: Vec<String>,
        ranges: HashMap<String, Option<(f64, f64)>>,
    }
    let text = std::fs::read(normalization)?;
    let Normalization { features, ranges } = serde_json::from_slice(&text)?;
    let features = features.iter().map(|name| match ranges.get(name).copied().flatten() {
        Some((min, max)) => serde_json::json!({ "name": name, "scale": { "min": min, "max": max } }),
        None => serde_json::json!({ "name": name, "constant": 0.0 }),
    });
    let manifest = serde_json::json!({
        "manifest_version": 1,
        "kind": "reconstruction",
        "name": "replay",
        "version": "1",
        "features": features.collect::<Vec<_>>(),
        "threshold": { "method": "fixed", "value": 1.0 },
    });
    Ok(serde_json::to_vec_pretty(&manifest)?)
}

/// Collects scores by car and sequence number.
#[derive(Debug, Default)]
struct Collector {
    dead_letters: String,
    seen: Mutex<BTreeMap<(String, u64), Option<f64>>>,
}

impl Collector {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, u64), Option<f64>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn len(&self) -> u64 {
        self.lock().len() as u64
    }

    fn counts(&self, filtered: u64) -> Counts {
        let seen = self.lock();
        let predictions = seen.values().filter(|score| score.is_some()).count() as u64;
        Counts { predictions, dead_letters: seen.len() as u64 - predictions, filtered }
    }

    fn write(&self, file: &Path) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
        writeln!(out, "car,seq,score")?;
        for ((car, seq), score) in &*self.lock() {
            if let Some(score) = score {
                writeln!(out, "{car},{seq},{score}")?;
            }
        }
        out.flush()
    }
}

#[derive(Deserialize)]
struct Prediction {
    score: f64,
}

#[async_trait]
impl Sink for Collector {
    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let messages = &rows.messages;
        for row in 0..messages.len() {
            let seq = messages.headers().last(row, SEQ).and_then(|seq| str::from_utf8(seq.value?).ok()?.parse().ok());
            let car = messages.key(row).map(|key| String::from_utf8_lossy(key).into_owned());
            let (Some(seq), Some(car)) = (seq, car) else {
                return Err(SinkError::fatal("a message came back without its key or its number"));
            };
            let score = if messages.topic(row).is_some_and(|topic| **topic == *self.dead_letters) {
                None
            } else {
                let prediction = serde_json::from_slice::<Prediction>(messages.payload(row).unwrap_or_default());
                Some(prediction.map_err(|error| SinkError::fatal_from("a prediction is not one", error))?.score)
            };
            self.lock().insert((car, seq), score);
        }
        Ok(Written::default())
    }
}
