//! The committed network on the cars of today's simulator: a change of the physics that outdates the network fails here.

use std::path::Path;

use iotml_model::manifest::Scale;
use iotml_model::{EngineError, Model, ModelError, OpenOptions};

use crate::{FIELDS, FaultKind, FaultPlan, Fleet, FleetConfig, Reading, csv};

fn testdata(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/cars").join(file)
}

/// The network, opened as a worker opens it, so with its golden rows; without ONNX Runtime the test skips.
fn network() -> Option<Model> {
    match Model::open(&testdata("cars-autoencoder.onnx"), &OpenOptions::default()) {
        Ok(model) => Some(model),
        Err(ModelError::Engine(error @ EngineError::NoLibrary { .. })) => {
            assert_ne!(std::env::var("IOTML_REQUIRE_SERVERS").as_deref(), Ok("1"), "{error}");
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The score of each reading, by the manifest's scaling and the mean of squared errors.
fn scores(model: &mut Model, readings: &[Reading]) -> Vec<f32> {
    let features = model.manifest().features.clone();
    let scaled: Vec<f32> = readings
        .iter()
        .flat_map(|reading| reading.values.into_iter().zip(&features))
        .map(|(value, feature)| match feature.scale {
            Some(Scale::Standard { mean, std }) => ((f64::from(value) - mean) / std) as f32,
            other => panic!("{}: {other:?}", feature.name),
        })
        .collect();
    let squared = |(found, given): (&f32, &f32)| (found - given).powi(2);
    let found = model.run(&scaled).unwrap();
    let rows = found.chunks(FIELDS.len()).zip(scaled.chunks(FIELDS.len()));
    rows.map(|(found, given)| found.iter().zip(given).map(squared).sum::<f32>() / FIELDS.len() as f32).collect()
}

/// The share of pairs (ill, healthy) that the score orders rightly, ties half.
fn roc_auc(ill: &[f32], healthy: &mut [f32]) -> f64 {
    healthy.sort_by(f32::total_cmp);
    let below = |score: f32| healthy.partition_point(|other| *other < score);
    let not_above = |score: f32| healthy.partition_point(|other| *other <= score);
    let n: usize = ill.iter().map(|score| below(*score) + not_above(*score)).sum();
    n as f64 / 2.0 / (ill.len() * healthy.len()) as f64
}

#[test]
fn the_network_reads_the_fields_in_schema_order() {
    let Some(model) = network() else { return };
    let names: Vec<&str> = model.manifest().features.iter().map(|feature| feature.name.as_str()).collect();
    assert_eq!(names, FIELDS);
}

#[test]
fn the_network_separates_every_fault_kind_on_cars_it_was_not_trained_on() {
    let Some(mut model) = network() else { return };
    let faults = FaultPlan { share: 0.4, ..FaultPlan::default() };
    let config = FleetConfig { seed: 2_026, n_cars: 200, faults, seconds_per_tick: 10, ..FleetConfig::default() };
    let mut fleet = Fleet::new(&config);
    let is_fated: Vec<bool> = fleet.cars().iter().map(|car| car.fate().is_some()).collect();
    let readings: Vec<Reading> = (0..60).flat_map(|_| fleet.tick().collect::<Vec<_>>()).collect();
    let scores = scores(&mut model, &readings);
    let pick = |wanted: &dyn Fn(&Reading) -> bool| -> Vec<f32> {
        let rows = readings.iter().zip(&scores);
        rows.filter(|(reading, _)| wanted(reading)).map(|(_, score)| *score).collect()
    };
    // Rows of fated cars before their fault has developed are neither: some are nearly at the severity.
    let mut healthy = pick(&|reading| !is_fated[reading.car as usize]);
    for kind in FaultKind::ALL {
        let ill = pick(&|reading| reading.fault == Some(kind));
        assert!(ill.len() > 300, "{kind}: {} rows", ill.len());
        let auc = roc_auc(&ill, &mut healthy);
        assert!(auc >= 0.95, "{kind}: ROC AUC {auc}");
    }
    let threshold = model.manifest().threshold.as_ref().and_then(|threshold| threshold.value).unwrap() as f32;
    let false_alarms = healthy.iter().filter(|score| **score >= threshold).count() as f64 / healthy.len() as f64;
    assert!(false_alarms < 0.01, "{false_alarms}");
}

/// Trained weights and golden rows mean something only for the cars they were made with.
#[test]
fn the_simulator_still_makes_the_committed_sample() {
    let sample = std::fs::read_to_string(testdata("sample.csv")).unwrap();
    let mut lines = sample.lines();
    assert_eq!(lines.next(), Some(csv::header().as_str()));
    let faults = FaultPlan { share: 0.25, ..FaultPlan::default() };
    let mut fleet = Fleet::new(&FleetConfig { seed: 7, n_cars: 20, faults, ..FleetConfig::default() });
    for reading in (0..30).flat_map(|_| fleet.tick().collect::<Vec<_>>()) {
        let mut row = Vec::new();
        csv::write(&reading, &mut row);
        let (row, expected) = (String::from_utf8(row).unwrap(), lines.next().unwrap());
        let same = row.split(',').zip(expected.split(',')).all(|(found, expected)| {
            match (found.parse::<f64>(), expected.parse::<f64>()) {
                // The last digit may differ between two machines' `exp`; a whole psi then jumps by one.
                (Ok(found), Ok(expected)) => {
                    (found - expected).abs() <= if expected.fract() == 0.0 { 1.0 } else { 0.02 }
                }
                _ => found == expected,
            }
        });
        assert!(same, "{row}\n{expected}");
    }
    assert_eq!(lines.next(), None);
}
