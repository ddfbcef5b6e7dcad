//! One core, stage by stage, in batches of 1,000 rows: what a row costs, beside the libraries one would use instead.
//!
//! `cargo bench -p iotml-benches --bench stages` times each stage with criterion and then prints the ratios, which are measured in
//! turns within one run so that a busy machine slows all of them alike. Every output is checked before it is timed.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod data;
mod peers;
mod stages;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

use data::N_ROWS;
use peers::{ApacheAvro, ArrowAvro};
use stages::Stages;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut stages = Stages::new();
    let (apache, mut arrow) = (ApacheAvro::new(), ArrowAvro::new());
    stages.check(&apache, &mut arrow);
    criterion_groups(&mut criterion, &mut stages, &apache, &mut arrow);
    criterion.final_summary();
    // `cargo test --benches` only wants to know that everything runs.
    if !std::env::args().any(|argument| argument == "--test") {
        ratios(&mut stages, &apache, &mut arrow);
    }
}

fn criterion_groups(criterion: &mut Criterion, stages: &mut Stages, apache: &ApacheAvro, arrow: &mut ArrowAvro) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(N_ROWS as u64));
    group.bench_function("confluent avro", |b| b.iter(|| stages.decode_confluent()));
    group.bench_function("confluent avro, every field nullable", |b| b.iter(|| stages.decode_nullable()));
    group.bench_function("plain avro", |b| b.iter(|| stages.decode_plain()));
    group.bench_function("json", |b| b.iter(|| stages.decode_json()));
    group.bench_function("csv", |b| b.iter(|| stages.decode_csv()));
    group.bench_function("peer: apache-avro to Value", |b| b.iter(|| apache.decode()));
    group.bench_function("peer: arrow-avro", |b| b.iter(|| arrow.decode()));
    group.bench_function("peer: serde_json to Value", |b| b.iter(|| peers::serde_json(&stages.json)));
    group.finish();

    let mut group = criterion.benchmark_group("features");
    group.throughput(Throughput::Elements(N_ROWS as u64));
    group.bench_function("columns to matrix", |b| b.iter(|| stages.features()));
    group.bench_function("confluent avro to matrix", |b| b.iter(|| stages.decode_to_features()));
    group.finish();

    if stages.can_score() {
        let mut group = criterion.benchmark_group("score");
        group.throughput(Throughput::Elements(N_ROWS as u64));
        group.bench_function("onnx autoencoder 18", |b| b.iter(|| stages.score()));
        group.bench_function("the same, watched", |b| b.iter(|| stages.score_watched()));
        group.finish();
    } else {
        println!("score: left out, because no model can be loaded (is ONNX Runtime there?)");
    }

    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(N_ROWS as u64));
    group.bench_function("json", |b| b.iter(|| stages.encode_json()));
    group.bench_function("avro", |b| b.iter(|| stages.encode_avro()));
    group.finish();
}

/// Turns of a comparison, of which the median counts.
const TURNS: usize = 41;

/// Medians of alternating turns, and what they are in terms of apache-avro.
fn ratios(stages: &mut Stages, apache: &ApacheAvro, arrow: &mut ArrowAvro) {
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..TURNS {
        times[0].push(nanos_per_row(|| drop(black_box(apache.decode()))));
        times[1].push(nanos_per_row(|| drop(black_box(arrow.decode()))));
        times[2].push(nanos_per_row(|| drop(black_box(stages.decode_confluent()))));
        times[3].push(nanos_per_row(|| drop(black_box(stages.decode_to_features()))));
        times[4].push(nanos_per_row(|| drop(black_box(stages.decode_nullable()))));
    }
    let names = [
        "apache-avro to Value",
        "arrow-avro to RecordBatch",
        "iotml to Batch",
        "iotml to feature matrix",
        "iotml, all fields nullable",
    ];
    let medians = times.map(median);
    println!("\none framed CarData datum (18 fields), batches of {N_ROWS}, medians of {TURNS} turns");
    for (name, nanos) in names.iter().zip(medians) {
        println!("{name:<28} {nanos:>8.1} ns/row {:>7.1}x", medians[0] / nanos);
    }
    if stages.can_score() {
        watching(stages, medians[2]);
    }
}

/// What it costs to compare every row with those of training, beside scoring and decoding.
fn watching(stages: &mut Stages, decode: f64) {
    let mut times: [Vec<f64>; 2] = Default::default();
    for _ in 0..TURNS {
        times[0].push(nanos_per_row(|| drop(black_box(stages.score()))));
        times[1].push(nanos_per_row(|| drop(black_box(stages.score_watched()))));
    }
    let [score, watched] = times.map(median);
    let cost = watched - score;
    println!("\nscoring 18 features, and the same with every row watched (21 edges a feature)");
    println!(
        "{score:.1} and {watched:.1} ns/row: {:.2}x; {:.2}x with decoding",
        watched / score,
        1.0 + cost / (score + decode)
    );
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The best of a few calls: a turn of a few hundred microseconds is easily interrupted.
fn nanos_per_row(mut call: impl FnMut()) -> f64 {
    let time = |call: &mut dyn FnMut()| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64() * 1e9 / N_ROWS as f64
    };
    (0..5).map(|_| time(&mut call)).fold(f64::INFINITY, f64::min)
}
