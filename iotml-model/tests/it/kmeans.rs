//! Streaming k-means: core's suite, what it tells apart, and what it remembers.

use std::sync::Arc;

use iotml_core::arrow::array::{ArrayRef, Float32Array, RecordBatch};
use iotml_core::batch::{Batch, Lane, LaneInfo};
use iotml_core::error::Reason;
use iotml_core::score::Scorer;
use iotml_core::state::{FileStateStore, StateStore};
use iotml_core::testing::score::{Samples, conforms};
use iotml_model::kmeans::{KMeansScorer, KMeansScorerConfig, KMeansThreshold, Learn};
use iotml_model::manifest::{Feature, Scale};

use crate::setup::{block_on, floats, keyed_batch, try_damaged_snapshots, verdicts};

fn feature(name: &str, scale: Option<Scale>) -> Feature {
    Feature { name: name.to_owned(), scale, constant: None, impute: None }
}

fn scorer(change: impl FnOnce(&mut KMeansScorerConfig)) -> KMeansScorer {
    let scale = Some(Scale::Range { min: -10.0, max: 10.0 });
    let mut config = KMeansScorerConfig::new(vec![feature("a", scale), feature("b", scale)]);
    (config.centres, config.warm_up, config.update_rows, config.half_life) = (3, 300, 50, 5_000);
    change(&mut config);
    let mut scorer = KMeansScorer::new(config).unwrap();
    let lanes = [(0, "cars-0"), (1, "cars-1")];
    let lanes = lanes.map(|(lane, partition)| LaneInfo { lane: Lane(lane), partition: partition.into() });
    scorer.state().unwrap().assigned(&lanes);
    scorer
}

/// Rows from three places, with some noise; `at` is the first one's number.
fn healthy(lane: u32, at: usize, n_rows: usize) -> Batch {
    let place = |row: usize| [(-6.0, -6.0), (0.0, 5.0), (7.0, -2.0)][row % 3];
    let noise = |row: usize, step: f32| ((row as f32 * step).sin() * 43_758.547).fract() * 0.5;
    let a: Vec<f32> = (at..at + n_rows).map(|row| place(row).0 + noise(row, 12.9)).collect();
    let b: Vec<f32> = (at..at + n_rows).map(|row| place(row).1 + noise(row, 78.2)).collect();
    keyed_batch(lane, &vec![None; n_rows], &[("a", &a), ("b", &b)])
}

/// Rows far from those places, each in another direction.
fn faulty(lane: u32, n_rows: usize) -> Batch {
    let angle = |row: usize| row as f32 * 2.4;
    let a: Vec<f32> = (0..n_rows).map(|row| 9.0 * angle(row).cos()).collect();
    let b: Vec<f32> = (0..n_rows).map(|row| 3.0 + 9.0 * angle(row).sin()).collect();
    keyed_batch(lane, &vec![None; n_rows], &[("a", &a), ("b", &b)])
}

fn n_anomalies(scorer: &mut KMeansScorer, batch: Batch) -> usize {
    verdicts(&scorer.score(batch).unwrap()).iter().filter(|verdict| **verdict == Some(true)).count()
}

fn rows(a: Vec<f32>, b: Vec<Option<f32>>) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("a", Arc::new(Float32Array::from(a.clone()))),
        ("other", Arc::new(Float32Array::from(vec![7.0; a.len()]))),
        ("b", Arc::new(Float32Array::from(b))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

#[test]
fn inv_8_conforms_while_it_warms_up_and_while_it_learns() {
    let a: Vec<f32> = (0..300).map(|at| (at as f32 * 0.37).sin() * 3.0).collect();
    let b: Vec<Option<f32>> = (0..300).map(|at| Some((at as f32 * 0.11).cos() * 3.0)).collect();
    for prefix in ["", "online_"] {
        let samples = Samples {
            good: rows(a.clone(), b.clone()),
            bad: vec![
                (rows(vec![f32::NAN], vec![Some(1.0)]), Reason::NonFinite),
                (rows(vec![1.0], vec![None]), Reason::Missing),
                (rows(vec![f32::MAX], vec![Some(1.0)]), Reason::OutOfRange),
            ],
            prefix: prefix.to_owned(),
            // It counts rows, not batches, so that nothing differs.
            tolerance: 0.0,
        };
        let make = || -> Box<dyn Scorer> {
            let scale = Some(Scale::Range { min: -0.3, max: 0.3 });
            let mut config = KMeansScorerConfig::new(vec![feature("a", scale), feature("b", scale)]);
            // The warm-up ends within the rows, and the centres move many times, once in the middle of all.
            (config.warm_up, config.update_rows) = (100, 7);
            config.prefix = prefix.to_owned();
            config.feature_errors = !prefix.is_empty();
            Box::new(KMeansScorer::new(config).unwrap())
        };
        block_on(conforms(make, &samples));
    }
}

#[test]
fn faults_are_told_from_what_is_usual() {
    let mut scorer = scorer(|config| config.threshold.quantile = Some(0.99));
    let warm_up = scorer.score(healthy(0, 0, 300)).unwrap();
    assert!(floats(&warm_up, "score").iter().all(Option::is_none) && verdicts(&warm_up).iter().all(Option::is_none));
    let n_false = n_anomalies(&mut scorer, healthy(0, 300, 6_000));
    assert!(n_false < 120, "{n_false} of 6,000 healthy rows, at most 1 percent or so");
    let n_found = n_anomalies(&mut scorer, faulty(0, 40));
    assert!(n_found >= 38, "{n_found} of 40 faults");
    let n_false = n_anomalies(&mut scorer, healthy(0, 6_300, 600));
    assert!(n_false < 24, "{n_false} of 600 healthy rows after the faults");
}

#[test]
fn what_changes_for_good_becomes_usual_and_a_short_fault_does_not() {
    let fixed = KMeansThreshold { value: Some(0.02), quantile: None };
    // The third place moves away, 5 units in 6,000 rows.
    let drifting = |at: usize| {
        let shift = 5.0 * at as f32 / 6_000.0;
        keyed_batch(0, &[None; 2], &[("a", &[7.0 + shift, -6.0]), ("b", &[-2.0 - shift, -6.0])])
    };
    let mut follows = scorer(|config| {
        config.threshold = fixed;
        config.half_life = 500;
    });
    n_anomalies(&mut follows, healthy(0, 0, 600));
    let n_followed: usize = (0..6_000).map(|at| n_anomalies(&mut follows, drifting(at))).sum();
    assert_eq!(n_followed, 0, "the centre goes along");

    let mut stays = scorer(|config| {
        config.threshold = fixed;
        config.half_life = 1_000_000_000;
        config.warm_up = 6_000;
    });
    n_anomalies(&mut stays, healthy(0, 0, 6_000));
    let n_noticed: usize = (0..6_000).map(|at| n_anomalies(&mut stays, drifting(at))).sum();
    assert!(n_noticed > 1_000, "who forgets nothing notices the drift: {n_noticed}");

    let stuck = || keyed_batch(0, &[None; 500], &[("a", &[9.0; 500]), ("b", &[9.0; 500])]);
    for (learn, is_usual) in [(Learn::Normal, false), (Learn::All, true)] {
        let mut scorer = scorer(|config| {
            config.threshold = fixed;
            config.half_life = 500;
            config.learn = learn;
        });
        n_anomalies(&mut scorer, healthy(0, 0, 600));
        for _ in 0..10 {
            n_anomalies(&mut scorer, stuck());
        }
        assert_eq!(n_anomalies(&mut scorer, stuck()) == 0, is_usual, "{learn:?}");
    }
}

#[test]
fn inv_9_a_restored_partition_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStateStore::new(folder.path());
    // While it warms up, when it has just done so, between two moves of the centres, and long after.
    for n_seen in [100, 300, 1_025, 5_000] {
        let mut before = scorer(|_| {});
        before.score(healthy(0, 0, n_seen)).unwrap();
        before.score(healthy(1, 7, 400)).unwrap();
        let snapshot = before.state().unwrap().snapshot("cars-0").unwrap().unwrap();
        store.put("score", "cars-0", &snapshot).unwrap();
        assert!(before.state().unwrap().snapshot("elsewhere").unwrap().is_none());

        let mut after = scorer(|_| {});
        after.state().unwrap().restore("cars-0", &store.get("score", "cars-0").unwrap().unwrap()).unwrap();
        assert_eq!(after.state().unwrap().snapshot("cars-0").unwrap().unwrap(), snapshot);
        let [went_on, restored] =
            [&mut before, &mut after].map(|scorer| scorer.score(healthy(0, n_seen, 777)).unwrap());
        assert_eq!(went_on.batch.columns(), restored.batch.columns(), "after {n_seen} rows");
        let other = after.score(healthy(1, 407, 10)).unwrap();
        assert!(floats(&other, "score").iter().all(Option::is_none), "the other partition begins anew");

        after.state().unwrap().forget("cars-0");
        assert!(after.state().unwrap().snapshot("cars-0").unwrap().is_none());
    }
}

#[test]
fn damaged_snapshots_are_errors_and_never_panics() {
    for n_seen in [5, 320] {
        let mut scorer = scorer(|_| {});
        scorer.score(healthy(0, 0, n_seen)).unwrap();
        let whole = scorer.state().unwrap().snapshot("cars-0").unwrap().unwrap();
        try_damaged_snapshots(&mut scorer, &whole, |scorer| _ = scorer.score(healthy(1, 0, 400)).unwrap());
        assert_eq!(scorer.state().unwrap().snapshot("cars-0").unwrap().unwrap(), whole, "no attempt has touched it");
    }
}

#[test]
fn what_was_learnt_of_other_features_is_dropped_and_not_misread() {
    let mut old = scorer(|_| {});
    old.score(healthy(0, 0, 400)).unwrap();
    let snapshot = old.state().unwrap().snapshot("cars-0").unwrap().unwrap();
    let mut fewer = scorer(|config| config.centres = 2);
    let mut scaled = scorer(|config| config.features[0].scale = None);
    for new in [&mut fewer, &mut scaled] {
        new.state().unwrap().restore("cars-0", &snapshot).unwrap();
        assert!(new.state().unwrap().snapshot("cars-0").unwrap().is_none());
    }
}

#[test]
fn a_configuration_names_what_it_does_not_know() {
    let table = serde_json::json!({"features": [{"name": "a", "scale": {"min": 0, "max": 1}}], "centres": 4});
    let config: KMeansScorerConfig = serde_json::from_value(table).unwrap();
    assert_eq!((config.centres, config.threshold.quantile), (4, Some(0.999)));
    let wrong = serde_json::json!({"features": [], "centers": 4});
    let error = serde_json::from_value::<KMeansScorerConfig>(wrong).unwrap_err().to_string();
    assert!(error.contains("unknown field `centers`"), "{error}");
}
