//! What models remember of keys, while several score and versions change: it stays with whoever scores them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use iotml_core::arrow::array::AsArray;
use iotml_core::batch::{Lane, LaneInfo};
use iotml_core::model::{Announcement, MemoryFeed, ModelSet, ModelState, Rollout};
use iotml_core::pipeline::{Pipeline, TaskContext};
use iotml_core::score::Scorer;
use iotml_core::state::FileStateStore;
use iotml_model::manifest::{Scale, embed};
use iotml_model::testing::scaled_copy;
use iotml_model::{
    EngineChoice, FollowConfig, Follower, GoldenRule, Kind, LiveScorer, Manifest, OnnxScorer, OnnxScorerConfig,
};

use super::world::{PATIENCE, World, wait};
use crate::setup::{block_on, engines, floats, keyed_batch, scorer, try_damaged_snapshots};

const CANARY: Rollout = Rollout::Canary { percent: 10.0 };
/// A car of the rest, and one of the canary.
const CARS: [&str; 2] = ["car1", "car11"];

fn next_event(version: &str) -> iotml_model::manifest::ManifestBuilder {
    Manifest::builder(Kind::NextEvent, "m").version(version)
}

/// It expects the same again, so that the score is the square of the step, of scaled numbers.
fn scaled(version: &str, scale: Option<Scale>) -> Announcement {
    let manifest = next_event(version).feature("a", scale).build().unwrap();
    Announcement::inline(version, embed(&scaled_copy(1, 1.0).build(), &manifest).unwrap())
}

fn version(version: &str) -> Announcement {
    scaled(version, None)
}

/// A scorer whose cars send one more each time, so that whoever knows a car's last row gives it the score 1.
struct Worker {
    feed: Arc<MemoryFeed>,
    scorer: LiveScorer,
    next: BTreeMap<&'static str, f32>,
}

impl Worker {
    fn new(engine: EngineChoice, announced: Vec<Announcement>) -> Self {
        let feed = Arc::new(MemoryFeed::new());
        let following = OnnxScorerConfig::following(FollowConfig::new("m"));
        let config = OnnxScorerConfig { engine, golden: GoldenRule::None, ..following };
        let follower = Follower::new(config, feed.clone()).unwrap();
        let mut worker = Worker { feed, scorer: follower.scorer(), next: BTreeMap::new() };
        worker.announce(announced);
        block_on(worker.scorer.open(&TaskContext::single("p"))).unwrap();
        let lanes = [LaneInfo { lane: Lane(0), partition: "cars-0".into() }];
        worker.scorer.state().unwrap().assigned(&lanes);
        worker
    }

    /// One that goes on where another was.
    fn restored(engine: EngineChoice, announced: Vec<Announcement>, before: &Worker, snapshot: &[u8]) -> Self {
        let mut worker = Self::new(engine, announced);
        worker.scorer.state().unwrap().restore("cars-0", snapshot).unwrap();
        worker.next = before.next.clone();
        worker
    }

    fn announce(&self, versions: Vec<Announcement>) {
        self.feed.announce(ModelSet { versions, ..ModelSet::new("m") });
    }

    /// Announces, and scores rows of a car of no interest until this was reported once more.
    fn change(&mut self, versions: Vec<Announcement>, version: &str, state: ModelState) {
        let is_it = |report: &iotml_core::model::ModelStatus| report.version == version && report.state == state;
        let count = |worker: &Worker| worker.feed.reports().iter().filter(|report| is_it(report)).count();
        let before = count(self);
        self.announce(versions);
        let begun = Instant::now();
        while count(self) == before {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.feed.reports());
            self.row("another car");
        }
    }

    /// Who scored the next row of a car, and how.
    fn row(&mut self, car: &'static str) -> (String, Option<f32>) {
        let next = self.next.entry(car).or_default();
        *next += 1.0;
        let out = self.scorer.score(keyed_batch(0, &[Some(car)], &[("a", &[*next])])).unwrap();
        let version = out.batch.column("model_version").unwrap().as_string::<i32>().value(0).to_owned();
        (version, floats(&out, "score")[0])
    }

    #[track_caller]
    fn assert_next(&mut self, expected: [(&str, Option<f32>); 2]) {
        for (car, (version, score)) in CARS.into_iter().zip(expected) {
            assert_eq!(self.row(car), (version.to_owned(), score), "{car}");
        }
    }

    /// Asserts that both cars' rows are remembered by the versions that score them.
    #[track_caller]
    fn assert_remembered(&mut self, versions: [&str; 2]) {
        for _ in 0..3 {
            self.assert_next(versions.map(|version| (version, Some(1.0))));
        }
    }

    fn snapshot(&mut self) -> Vec<u8> {
        self.scorer.state().unwrap().snapshot("cars-0").unwrap().unwrap()
    }
}

#[test]
fn inv_9_after_a_restart_each_key_goes_on_with_the_rows_of_whoever_scored_it() {
    for engine in engines() {
        let both = || vec![version("1"), version("2").rolled_out(CANARY)];
        let mut before = Worker::new(engine, vec![version("1")]);
        before.assert_next([("1", None), ("1", None)]);
        before.change(both(), "2", ModelState::Ready);
        before.assert_remembered(["1", "2"]);
        let snapshot = before.snapshot();
        Worker::restored(engine, both(), &before, &snapshot).assert_remembered(["1", "2"]);
        // Whatever was announced meanwhile.
        Worker::restored(engine, vec![version("1")], &before, &snapshot).assert_remembered(["1", "1"]);
        let shadow = vec![version("3"), version("4").rolled_out(Rollout::Shadow)];
        let mut after = Worker::restored(engine, shadow, &before, &snapshot);
        after.change(vec![version("4")], "3", ModelState::Unloading);
        after.assert_remembered(["4", "4"]);
        // What one remembers since the restart counts, not what it knew of others' keys then.
        let mut after = Worker::restored(engine, both(), &before, &snapshot);
        after.assert_remembered(["1", "2"]);
        after.change(vec![version("2")], "1", ModelState::Unloading);
        after.assert_remembered(["2", "2"]);
    }
}

#[test]
fn inv_9_what_is_remembered_moves_with_the_keys() {
    for engine in engines() {
        let mut worker = Worker::new(engine, vec![version("1")]);
        worker.assert_next([("1", None), ("1", None)]);
        let both = || vec![version("1"), version("2").rolled_out(CANARY)];
        worker.change(both(), "2", ModelState::Ready);
        worker.assert_remembered(["1", "2"]);
        worker.change(vec![version("1")], "2", ModelState::Unloading);
        worker.assert_remembered(["1", "1"]);
        worker.change(both(), "2", ModelState::Ready);
        worker.assert_remembered(["1", "2"]);
        worker.change(vec![version("2")], "1", ModelState::Unloading);
        worker.assert_remembered(["2", "2"]);
        // What becomes a shadow remembers, and so does what takes its place.
        let beside = vec![version("3"), version("2").rolled_out(Rollout::Shadow)];
        worker.change(beside, "3", ModelState::Ready);
        worker.assert_remembered(["3", "3"]);
        worker.change(vec![version("2")], "3", ModelState::Unloading);
        worker.assert_remembered(["2", "2"]);
        // A shadow that begins in the middle knows less than what acts.
        worker.change(vec![version("2"), version("5").rolled_out(Rollout::Shadow)], "5", ModelState::Ready);
        worker.change(vec![version("5")], "2", ModelState::Unloading);
        worker.assert_remembered(["5", "5"]);
    }
}

#[test]
fn inv_9_versions_whose_numbers_differ_each_keep_their_own_rows() {
    for engine in engines() {
        let halves = || scaled("2", Some(Scale::Standard { mean: 0.0, std: 2.0 })).rolled_out(CANARY);
        let both = || vec![version("1"), halves()];
        let mut before = Worker::new(engine, vec![version("1")]);
        before.assert_next([("1", None), ("1", None)]);
        before.change(both(), "2", ModelState::Ready);
        before.assert_next([("1", Some(1.0)), ("2", None)]);
        before.assert_next([("1", Some(1.0)), ("2", Some(0.25))]);
        let snapshot = before.snapshot();
        let mut after = Worker::restored(engine, both(), &before, &snapshot);
        after.assert_next([("1", Some(1.0)), ("2", Some(0.25))]);
        let whole = after.snapshot();
        try_damaged_snapshots(&mut after.scorer, &whole, |_| {});
        after.assert_next([("1", Some(1.0)), ("2", Some(0.25))]);
        // Better no score than one against a row from before the canary began.
        after.change(vec![version("1")], "2", ModelState::Unloading);
        after.assert_next([("1", Some(1.0)), ("1", None)]);
        after.assert_remembered(["1", "1"]);
    }
}

#[test]
fn inv_9_snapshots_go_from_a_scorer_that_does_not_follow_to_one_that_does_and_back() {
    for engine in engines() {
        let fixed = || -> OnnxScorer {
            let mut scorer = scorer(&scaled_copy(1, 1.0), next_event("1").feature("a", None), engine, |_| {});
            scorer.state().unwrap().assigned(&[LaneInfo { lane: Lane(0), partition: "cars-0".into() }]);
            scorer
        };
        let mut before = fixed();
        for car in CARS {
            before.score(keyed_batch(0, &[Some(car)], &[("a", &[0.0])])).unwrap();
        }
        let snapshot = before.state().unwrap().snapshot("cars-0").unwrap().unwrap();
        let mut following = Worker::new(engine, vec![version("1"), version("2").rolled_out(CANARY)]);
        following.scorer.state().unwrap().restore("cars-0", &snapshot).unwrap();
        following.assert_remembered(["1", "2"]);
        let mut after = fixed();
        after.state().unwrap().restore("cars-0", &following.snapshot()).unwrap();
        for car in CARS {
            let out = after.score(keyed_batch(0, &[Some(car)], &[("a", &[5.0])])).unwrap();
            assert_eq!(floats(&out, "score"), [Some(4.0)], "{car}");
        }
    }
}

#[test]
fn inv_9_a_pipeline_with_a_canary_goes_on_after_a_restart_with_the_rows_of_every_car() {
    let folder = tempfile::tempdir().unwrap();
    for (engine, name) in engines().into_iter().zip(["one", "other"]) {
        let n_rows = std::cell::Cell::new(0u32);
        // Each car sends one more each time.
        let run = |announced: Vec<Vec<Announcement>>| {
            let world = World::with(engine, 1, MemoryFeed::new(), |config| config.golden = GoldenRule::None);
            let mut spec = world.spec();
            spec.state = Some(Arc::new(FileStateStore::new(folder.path().join(name))));
            world.announce(announced[0].clone());
            let handle = Pipeline::start(spec, world.metrics.clone()).unwrap();
            let mut n_sent = 0;
            let mut send = || {
                let value = n_rows.replace(n_rows.get() + 1).to_string();
                let row = |car: &str| (Some(car.as_bytes().to_vec()), Some(value.clone().into_bytes()));
                world.logs[0].publish_keyed(CARS.map(row));
                n_sent += CARS.len();
                wait("rows", || world.sinks[0].n_stored() == n_sent, String::new);
            };
            send();
            for versions in &announced[1..] {
                let newest = versions.last().unwrap().version.clone();
                world.announce(versions.clone());
                let begun = Instant::now();
                while !world.states(&newest).contains(&ModelState::Ready) {
                    assert!(begun.elapsed() < PATIENCE, "{:?}", world.feed.reports());
                    send();
                }
            }
            (0..5).for_each(|_| send());
            let summary = world.end(handle);
            assert!(summary.audit.balances(), "{}", summary.audit);
            world.rows().remove(0)
        };
        let both = || vec![version("1"), version("2").rolled_out(CANARY)];
        let before = run(vec![vec![version("1")], both()]);
        let (first, others) = before.split_at(CARS.len());
        assert!(first.iter().all(|row| row.score.is_nan()), "{first:?}");
        assert!(others.iter().all(|row| row.score == 1.0), "{others:?}");
        let after = run(vec![both()]);
        assert!(after.iter().all(|row| row.score == 1.0), "{after:?}");
        let versions: Vec<&str> = after[..2].iter().map(|row| row.version.as_str()).collect();
        assert_eq!(versions, ["1", "2"]);
    }
}
