//! What a next_event model remembers, by partition.

use iotml_core::batch::{Batch, Lane, LaneInfo};
use iotml_core::score::Scorer;
use iotml_core::state::{FileStateStore, StateStore};
use iotml_model::manifest::Scale;
use iotml_model::testing::scaled_copy;
use iotml_model::{EngineChoice, Kind, Manifest, OnnxScorer};

use crate::setup::{engines, floats, keyed_batch, score, scorer, try_damaged_snapshots};

fn next_event(engine: EngineChoice, scale: Option<Scale>, max_keys: usize) -> OnnxScorer {
    let manifest = Manifest::builder(Kind::NextEvent, "m").feature("a", scale);
    let mut scorer = scorer(&scaled_copy(1, 1.0), manifest, engine, |config| config.max_keys = max_keys);
    let lanes = [(0, "cars-0"), (1, "cars-1")];
    let lanes = lanes.map(|(lane, partition)| LaneInfo { lane: Lane(lane), partition: partition.into() });
    scorer.state().unwrap().assigned(&lanes);
    scorer
}

fn row(lane: u32, key: &str, value: f32) -> Batch {
    keyed_batch(lane, &[Some(key)], &[("a", &[value])])
}

#[test]
fn inv_9_a_restored_partition_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStateStore::new(folder.path());
    for engine in engines() {
        let mut before = next_event(engine, None, 100);
        score(&mut before, row(0, "k", 1.0));
        score(&mut before, row(1, "k", 10.0));
        for partition in ["cars-0", "cars-1"] {
            let snapshot = before.state().unwrap().snapshot(partition).unwrap().unwrap();
            store.put("score", partition, &snapshot).unwrap();
        }
        assert!(before.state().unwrap().snapshot("elsewhere").unwrap().is_none());

        let mut after = next_event(engine, None, 100);
        let snapshot = store.get("score", "cars-1").unwrap().unwrap();
        after.state().unwrap().restore("cars-1", &snapshot).unwrap();
        assert_eq!(floats(&score(&mut after, row(1, "k", 12.0)), "score"), [Some(4.0)]);
        assert_eq!(floats(&score(&mut after, row(0, "k", 2.0)), "score"), [None]);

        after.state().unwrap().forget("cars-1");
        assert!(after.state().unwrap().snapshot("cars-1").unwrap().is_none());
        assert!(after.state().unwrap().snapshot("cars-0").unwrap().is_some());
    }
}

#[test]
fn a_partition_that_comes_back_on_another_lane_is_the_same_partition() {
    for engine in engines() {
        let mut scorer = next_event(engine, None, 100);
        score(&mut scorer, row(0, "k", 1.0));
        scorer.state().unwrap().assigned(&[LaneInfo { lane: Lane(7), partition: "cars-0".into() }]);
        assert_eq!(floats(&score(&mut scorer, row(7, "k", 3.0)), "score"), [Some(4.0)]);
    }
}

#[test]
fn damaged_snapshots_are_errors_and_never_panics() {
    for engine in engines() {
        let mut scorer = next_event(engine, None, 100);
        for (key, value) in [("k", 1.0), ("another key", 2.0)] {
            score(&mut scorer, row(0, key, value));
        }
        let whole = scorer.state().unwrap().snapshot("cars-0").unwrap().unwrap();
        try_damaged_snapshots(&mut scorer, &whole, |_| {});
        // None of the attempts has touched what is there.
        assert_eq!(floats(&score(&mut scorer, row(0, "k", 3.0)), "score"), [Some(4.0)]);
    }
}

#[test]
fn windows_of_other_features_are_dropped_and_not_misread() {
    for engine in engines() {
        let mut old = next_event(engine, None, 100);
        score(&mut old, row(0, "k", 1.0));
        let snapshot = old.state().unwrap().snapshot("cars-0").unwrap().unwrap();
        let mut new = next_event(engine, Some(Scale::Range { min: 0.0, max: 9.0 }), 100);
        new.state().unwrap().restore("cars-0", &snapshot).unwrap();
        assert_eq!(floats(&score(&mut new, row(0, "k", 3.0)), "score"), [None]);
    }
}

#[test]
fn inv_6_keys_are_bounded_and_the_oldest_go_first() {
    for engine in engines() {
        let mut scorer = next_event(engine, None, 4);
        for number in 0..50 {
            score(&mut scorer, row(0, &format!("k{number}"), 0.0));
            assert_eq!(floats(&score(&mut scorer, row(0, "steady", 0.0)), "score").len(), 1);
        }
        assert_eq!(floats(&score(&mut scorer, row(0, "k0", 0.0)), "score"), [None]);
        assert_eq!(floats(&score(&mut scorer, row(0, "steady", 0.0)), "score"), [Some(0.0)]);
        let snapshot = scorer.state().unwrap().snapshot("cars-0").unwrap().unwrap();
        assert!(snapshot.len() < 200, "{}", snapshot.len());
    }
}
