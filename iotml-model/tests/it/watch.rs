//! Rows that are no longer like those of training: noticed, reported once, and by version.

use std::sync::Arc;

use iotml_core::model::{Announcement, MemoryFeed, ModelState};
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::HumanDuration;
use iotml_core::score::Scorer;
use iotml_model::manifest::{Distribution, FeatureDistribution, ManifestBuilder, ScoreDistribution, embed};
use iotml_model::testing::scaled_copy;
use iotml_model::{GoldenRule, Kind, Manifest, OnnxScorer, OnnxScorerConfig, WatchConfig, Watcher};

use crate::live::world::{World, graph, manifest, wait};
use crate::setup::{batch, block_on, engines, keyed_batch, open};

/// Numbers from 0 up to, but not including, 1000, evenly spread and in no order.
fn number(at: u64) -> f32 {
    let mut mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) % 1000) as f32
}

/// Numbers from `low` up to `low + 1000`, evenly spread, in ten bins.
fn spread(name: &str, low: f64) -> FeatureDistribution {
    let edges: Vec<f64> = (0..=10).map(|edge| low + 100.0 * f64::from(edge)).collect();
    let shares = (0..12).map(|bin| if bin == 0 || bin == 11 { 0.0 } else { 0.1 }).collect();
    FeatureDistribution { name: name.to_owned(), edges, shares, missing: 0.0 }
}

fn trained_on(features: Vec<FeatureDistribution>) -> Distribution {
    Distribution { rows: Some(100_000), features, score: None }
}

/// A version that was trained on numbers from `low` on.
fn version(n: u32, low: f64) -> Announcement {
    let manifest = manifest(n).distribution(trained_on(vec![spread("a", low)])).build().unwrap();
    Announcement::inline(n.to_string(), embed(&graph(n).build(), &manifest).unwrap())
}

/// Windows of a thousand rows, two of which in a row are reported.
fn config() -> WatchConfig {
    WatchConfig { window_rows: 1000, windows: 2, ..WatchConfig::default() }
}

impl World {
    /// Sends `n` numbers to each task, `shift` added, and waits until all are scored.
    fn send(&self, n: u64, shift: f32) {
        let before: Vec<usize> = self.sinks.iter().map(|sink| sink.n_stored()).collect();
        for (task, log) in self.logs.iter().enumerate() {
            let seed = (before[task] * 7 + task) as u64 * 1_000_003;
            log.publish((0..n).map(|at| (number(seed + at) + shift).to_string()));
        }
        let is_scored = || self.sinks.iter().zip(&before).all(|(sink, before)| sink.n_stored() == before + n as usize);
        wait("scored rows", is_scored, String::new);
    }

    fn metric(&self, start: &str) -> Option<f64> {
        let text = self.metrics.text().unwrap();
        text.lines().find_map(|line| line.strip_prefix(start)?.trim().parse().ok())
    }
}

#[test]
fn drift_is_reported_once_for_all_tasks_and_again_when_it_comes_again() {
    for engine in engines() {
        let world = World::with(engine, 2, MemoryFeed::new(), |scorer| scorer.watch = Some(config()));
        world.announce([version(1, 0.0)]);
        let handle = world.start();
        world.send(5_000, 0.0);
        assert_eq!(world.feed.drifts(), [], "numbers as in training");
        let psi = r#"iotml_score_drift_psi{pipeline="cars",model="m",version="1",feature="a"} "#;
        assert!(world.metric(psi).unwrap() < 0.1, "{:?}", world.metric(psi));

        world.send(5_000, 500.0);
        let drifts = world.feed.drifts();
        assert_eq!(drifts.len(), 1, "one for both tasks and all windows: {drifts:?}");
        let drift = &drifts[0];
        assert_eq!((drift.model.as_str(), drift.version.as_str(), drift.pipeline.as_str()), ("m", "1", "cars"));
        assert_eq!((drift.windows, drift.features.len(), drift.features[0].name.as_str()), (2, 1, "a"));
        assert!((2000..2300).contains(&drift.rows), "two windows that end with a batch: {drift:?}");
        // Half of the numbers are beyond all of training's, and as many bins are empty.
        assert!(drift.features[0].psi > 3.0 && (0.3..0.6).contains(&drift.features[0].ks), "{drift:?}");
        // The drift began behind the 5,000 undrifted rows of each task, of which the rest of a window may be among them.
        let span = drift.log[0].partitions[&0];
        assert_eq!(drift.log[0].topic, "memory");
        assert!(span.0 >= 4_000 && span.1 <= 8_000, "{span:?}");

        world.send(3_000, 0.0);
        world.send(3_000, 500.0);
        assert_eq!(world.feed.drifts().len(), 2, "it went, and came again");
        let reports = r#"iotml_score_drift_reports_total{pipeline="cars",model="m",version="1"} "#;
        assert_eq!(world.metric(reports), Some(2.0));
        world.end(handle);
    }
}

#[test]
fn each_version_is_compared_with_its_own_training() {
    for engine in engines() {
        let world = World::with(engine, 2, MemoryFeed::new(), |scorer| scorer.watch = Some(config()));
        world.announce([version(1, 0.0)]);
        let handle = world.start();
        world.send(2_000, 500.0);
        assert_eq!(world.feed.drifts().len(), 1);
        world.announce([version(2, 500.0)]);
        // A change waits for the next batch after it was loaded.
        while world.states("2").iter().filter(|state| **state == ModelState::Ready).count() < 2 {
            world.send(64, 500.0);
        }
        world.send(4_000, 500.0);
        assert_eq!(world.feed.drifts().len(), 1, "the new one was trained on such rows");
        world.wait_for("1", ModelState::Unloading, 2);
        let text = world.metrics.text().unwrap();
        let drifts: Vec<&str> = text.lines().filter(|line| line.starts_with("iotml_score_drift_")).collect();
        assert!(drifts.iter().all(|line| line.contains("version=\"2\"")) && drifts.len() == 4, "{drifts:?}");
        let gone = text.lines().filter(|line| line.starts_with("iotml_score_") && line.contains("version=\"1\""));
        assert_eq!(gone.collect::<Vec<_>>(), Vec::<&str>::new(), "its series went with it");
        world.send(3_000, 0.0);
        let drifts = world.feed.drifts();
        assert_eq!((drifts.len(), drifts[1].version.as_str()), (2, "2"), "{drifts:?}");
        world.end(handle);
    }
}

#[test]
fn a_version_that_is_announced_again_with_another_distribution_keeps_its_series() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |scorer| scorer.watch = Some(config()));
        world.announce([version(1, 0.0)]);
        let handle = world.start();
        world.send(2_000, 0.0);
        let psi = r#"iotml_score_drift_psi{pipeline="cars",model="m",version="1",feature="a"} "#;
        assert!(world.metric(psi).unwrap() < 0.1);
        world.announce([version(1, 500.0)]);
        // The old one is freed once the task has let it go.
        while !world.states("1").contains(&ModelState::Unloading) {
            world.send(64, 0.0);
        }
        world.send(2_000, 0.0);
        assert!(world.metric(psi).is_some_and(|psi| psi > 3.0), "{:?}", world.metrics.text());
        for series in ["windows", "reports"] {
            let series = format!(r#"iotml_score_drift_{series}_total{{pipeline="cars",model="m",version="1"}} "#);
            assert!(world.metric(&series).is_some_and(|n| n >= 1.0), "{series}");
        }
        world.end(handle);
    }
}

#[test]
fn a_version_without_a_distribution_scores_unwatched() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |scorer| scorer.watch = Some(config()));
        world.announce([crate::live::world::good(1)]);
        let handle = world.start();
        world.send(3_000, 500.0);
        assert_eq!(world.feed.drifts(), []);
        assert!(!world.metrics.text().unwrap().contains("iotml_score_drift"));
        world.end(handle);
    }
}

/// A scorer without a pipeline, whose score is the number `a` itself.
fn scorer(
    distribution: Distribution,
    watch: WatchConfig,
    engine: iotml_model::EngineChoice,
) -> (OnnxScorer, Arc<MemoryFeed>, TaskContext) {
    let model = open(&scaled_copy(1, 1.0), scores(distribution), engine);
    let feed = Arc::new(MemoryFeed::new());
    let config = OnnxScorerConfig { watch: Some(watch.clone()), ..OnnxScorerConfig::new("") };
    let watcher = Watcher::new(watch, Some(feed.clone())).unwrap();
    let mut scorer = OnnxScorer::with_model(model, config).unwrap().watched_by(watcher);
    let task = TaskContext::single("p");
    block_on(scorer.open(&task)).unwrap();
    (scorer, feed, task)
}

fn scores(distribution: Distribution) -> ManifestBuilder {
    Manifest::builder(Kind::Score, "m").feature("a", None).fixed_threshold(990.0).distribution(distribution)
}

#[test]
fn anomalies_that_are_far_more_than_expected_are_reported() {
    for engine in engines() {
        let score = ScoreDistribution { edges: vec![500.0], shares: vec![0.5, 0.5], anomalies: Some(0.01) };
        let distribution = Distribution { score: Some(score), ..Distribution::default() };
        let watch = WatchConfig { anomaly_ratio: Some(3.0), windows: 1, ..config() };
        let (mut scorer, feed, _) = scorer(distribution, watch, engine);
        let values = |of: &dyn Fn(u64) -> f32| (0..1000).map(of).collect::<Vec<f32>>();
        scorer.score(batch(&[("a", &values(&number))])).unwrap();
        assert_eq!(feed.drifts(), [], "one in a hundred reaches the limit");
        scorer.score(batch(&[("a", &values(&|at| if at % 25 == 0 { 995.0 } else { 1.0 }))])).unwrap();
        let drifts = feed.drifts();
        let rate = drifts[0].anomaly_rate.unwrap();
        assert_eq!((drifts.len(), rate.found, rate.expected), (1, 0.04, 0.01));
        assert!(drifts[0].features.is_empty());
    }
}

#[test]
fn rows_without_a_value_count_as_such() {
    for engine in engines() {
        let watch = WatchConfig { windows: 1, ..config() };
        let (mut scorer, feed, task) = scorer(trained_on(vec![spread("a", 0.0)]), watch, engine);
        let value = |at: u64| if at.is_multiple_of(4) { f32::NAN } else { number(at) };
        let output = scorer.score(batch(&[("a", &(0..1000).map(value).collect::<Vec<f32>>())])).unwrap();
        assert_eq!(output.rejected.len(), 250);
        let drifts = feed.drifts();
        assert_eq!((drifts.len(), drifts[0].features[0].missing), (1, 0.25));
        assert!(drifts[0].features[0].psi > 1.0 && drifts[0].features[0].ks < 0.1, "{drifts:?}");
        let text = task.metrics.text().unwrap();
        let labels = r#"pipeline="p",task="0",model="m",version="1""#;
        for line in [
            format!("iotml_score_errors_total{{{labels},kind=\"row\"}} 250"),
            format!("iotml_score_value_count{{{labels}}} 750"),
            format!("iotml_score_batch_seconds_count{{{labels}}} 1"),
        ] {
            assert!(text.contains(&line), "no {line}: {text}");
        }
    }
}

#[test]
fn each_nth_batch_alone_is_looked_at_if_that_is_asked() {
    for engine in engines() {
        let watch = WatchConfig { every: 3, windows: 1, min_rows: 100, window_rows: 200, ..config() };
        let (mut scorer, feed, _) = scorer(trained_on(vec![spread("a", 0.0)]), watch, engine);
        for n in 1..=6 {
            scorer.score(keyed_batch(0, &vec![None; 100], &[("a", &[2000.0; 100])])).unwrap();
            assert_eq!(feed.drifts().len(), usize::from(n >= 4), "batches 1 and 4 make a window: {n}");
        }
    }
}

#[test]
fn what_cannot_be_watched_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    let write = |manifest: ManifestBuilder| {
        std::fs::write(&file, embed(&scaled_copy(1, 1.0).build(), &manifest.build().unwrap()).unwrap()).unwrap();
    };
    let refused = |watch: WatchConfig| {
        let config = OnnxScorerConfig { watch: Some(watch), golden: GoldenRule::None, ..OnnxScorerConfig::new(&file) };
        let error = OnnxScorer::new(config).err().unwrap();
        (error.key.clone(), error.to_string())
    };
    write(Manifest::builder(Kind::Score, "m").feature("a", None));
    let (key, says) = refused(config());
    assert_eq!(key.as_deref(), Some("watch"));
    assert!(says.contains("m 1: its manifest has no distribution") && says.contains("export it again"), "{says}");
    write(scores(Distribution::default()));
    assert_eq!(refused(config()).0.as_deref(), Some("watch"), "no feature, and no rate of anomalies");
    write(scores(trained_on(vec![spread("a", 0.0)])));
    for (watch, key, why) in [
        (WatchConfig { min_rows: 5, ..config() }, "watch.min_rows", "is 5, but at least 100"),
        (WatchConfig { window_rows: 500, ..config() }, "watch.window_rows", "is 500, less than `min_rows`, 1000"),
        (WatchConfig { window: HumanDuration::from_secs(0), ..config() }, "watch.window", "longer than 0"),
        (WatchConfig { max_psi: -1.0, ..config() }, "watch.max_psi", "is -1"),
        (WatchConfig { max_ks: 1.5, ..config() }, "watch.max_ks", "is 1.5"),
        (WatchConfig { anomaly_ratio: Some(1.0), ..config() }, "watch.anomaly_ratio", "above 1"),
        (WatchConfig { windows: 0, ..config() }, "watch.windows", "is 0"),
        (WatchConfig { every: 0, ..config() }, "watch.every", "is 0"),
    ] {
        let (found, says) = refused(watch);
        assert_eq!(found.as_deref(), Some(key));
        assert!(says.contains(why), "{says}");
    }
}
