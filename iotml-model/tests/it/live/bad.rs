//! Announcements that must not be put into force: what runs goes on, and one report says why.

use std::time::Duration;

use iotml_core::model::{Announcement, Digest, MemoryFeed, ModelSet, ModelState, Place, Rollout};
use iotml_core::plugin::HumanDuration;
use iotml_model::manifest::embed;
use iotml_model::testing::{OnnxBuilder, scaled_copy};
use iotml_model::{EngineChoice, GoldenRule, Kind, Manifest};

use super::world::{World, assert_each_once, file, good, graph, manifest};
use crate::setup::engines;

/// What is announced, and what the report must say.
pub struct Bad {
    pub what: &'static str,
    pub announcement: Announcement,
    pub says: &'static str,
}

fn bad(what: &'static str, announcement: Announcement, says: &'static str) -> Bad {
    Bad { what, announcement, says }
}

fn inline(version: &str, bytes: Vec<u8>) -> Announcement {
    Announcement::inline(version, bytes)
}

pub fn with_manifest(version: &str, graph: &OnnxBuilder, manifest: &Manifest) -> Announcement {
    inline(version, embed(&graph.build(), manifest).unwrap())
}

/// A model that gives NaN for what the stream holds, though not for its golden rows: the root of 2.5 - x.
pub fn not_a_number() -> Announcement {
    let axes = [None, Some(1)];
    let graph = OnnxBuilder::new()
        .input("x", &axes)
        .output("y", &axes)
        .weights("c", &[1], &[2.5])
        .node("Sub", &["c", "x"], &["d"])
        .node("Sqrt", &["d"], &["y"]);
    let golden = iotml_model::manifest::Golden {
        input: vec![vec![1.5]],
        score: Some(vec![Some(1.0)]),
        output: None,
        tolerance: 1e-4,
    };
    let manifest = Manifest::builder(Kind::Score, "m").version("105").feature("a", None).golden(golden);
    with_manifest("105", &graph, &manifest.fixed_threshold(1.0).build().unwrap())
}

/// A model that works a wide row over again and again.
fn slow() -> Announcement {
    let (axes, width) = ([None, Some(1)], 65_536usize);
    let mut graph = OnnxBuilder::new()
        .input("x", &axes)
        .output("y", &axes)
        .weights("in", &[1, width as i64], &vec![0.0; width])
        .weights("out", &[width as i64, 1], &vec![0.0; width])
        .node("MatMul", &["x", "in"], &["h0"]);
    for layer in 0..400 {
        let (from, to) = (format!("h{layer}"), format!("h{}", layer + 1));
        graph = graph.node("Tanh", &[&from], &[&to]);
    }
    let graph = graph.node("MatMul", &["h400", "out"], &["y"]);
    let golden = iotml_model::manifest::Golden {
        input: vec![vec![1.0]],
        score: Some(vec![Some(0.0)]),
        output: None,
        tolerance: 1e-4,
    };
    let manifest = Manifest::builder(Kind::Score, "m").version("106").feature("a", None).golden(golden);
    with_manifest("106", &graph, &manifest.fixed_threshold(1.0).build().unwrap())
}

pub fn table() -> Vec<Bad> {
    let digest = Digest::of(b"something else");
    let at = |uri: &str| Announcement::new("110", Place::Uri(uri.to_owned()), digest);
    let truncated = file(102)[..file(102).len() / 2].to_vec();
    let two = manifest(103).feature("b", None);
    let two = Manifest { golden: None, ..two.build().unwrap_or_else(|_| manifest(103).build().unwrap()) };
    let unknown =
        OnnxBuilder::new().input("x", &[None, Some(1)]).output("y", &[None, Some(1)]).node("Teleport", &["x"], &["y"]);
    let external = OnnxBuilder::new()
        .input("x", &[None, Some(1)])
        .output("y", &[None, Some(1)])
        .external("w", &[1, 1], "../../etc/passwd")
        .node("MatMul", &["x", "w"], &["y"]);
    let newer = serde_json::json!({ "manifest_version": 2 });
    let lies = Manifest { threshold: None, ..manifest(7).build().unwrap() };
    let other_golden = Manifest { version: "108".into(), ..manifest(9).build().unwrap() };
    let column = Manifest::builder(Kind::Reconstruction, "m").version("109").feature("pressure", None);
    vec![
        bad("wrong digest", Announcement { sha256: digest, ..good(101) }, "was announced"),
        bad("truncated file", inline("102", truncated), "file ends"),
        bad("wrong width", with_manifest("103", &scaled_copy(5, 0.5), &two), "5"),
        bad(
            "unknown operator",
            with_manifest("104", &unknown, &Manifest { version: "104".into(), ..lies.clone() }),
            "Teleport",
        ),
        bad(
            "external data",
            with_manifest("114", &external, &Manifest { version: "114".into(), ..lies.clone() }),
            "lies in another file",
        ),
        bad("gives NaN", not_a_number(), "no finite number"),
        bad("too slow", slow(), "follow.max_batch_time"),
        bad("newer manifest", Announcement { manifest: Some(newer), ..good(107) }, "manifest_version"),
        bad("golden rows", with_manifest("108", &graph(3), &other_golden), "golden row"),
        bad("another column", with_manifest("109", &graph(3), &column.build().unwrap()), "pressure"),
        bad("manifest of another", Announcement { version: "111".into(), ..good(7) }, "its manifest says"),
        bad("path upwards", at("file:///models/../secret"), "without `..`"),
        bad("no file", Announcement { version: "112".into(), ..at("file:///nowhere/model.onnx") }, "cannot read"),
        bad("no store", Announcement { version: "113".into(), ..at("gopher://models/1") }, "gopher"),
    ]
}

#[test]
fn inv_8_each_bad_model_leaves_what_runs_and_is_reported_once() {
    for engine in engines() {
        let world = World::with(engine, 2, MemoryFeed::new(), |config| {
            config.golden = GoldenRule::None;
            let follow = config.follow.as_mut().unwrap();
            follow.max_batch_time = HumanDuration(Duration::from_millis(500));
        });
        world.announce([good(1)]);
        let handle = world.start();
        let load = world.load();
        super::world::wait("rows", || world.sinks.iter().all(|sink| sink.n_stored() > 1000), String::new);
        for Bad { what, announcement, says } in table() {
            let version = announcement.version.clone();
            world.announce([announcement]);
            world.wait_for(&version, ModelState::Unavailable, 1);
            let refusals = world.refusals(&version);
            let cause = refusals[0].cause.clone().unwrap();
            println!("{what}: {cause}");
            assert!(cause.contains(says), "{what}: {cause}");
            assert!(cause.ends_with("version 1 goes on"), "{what}: {cause}");
            assert_eq!((refusals.len(), refusals[0].instance.as_str()), (1, "local"), "{what}: {refusals:?}");
            let health = handle.health();
            super::world::wait("notice", || handle.health().detail.contains(says), || handle.health().detail);
            assert!(health.is_ready && health.is_healthy, "{what}: {}", health.detail);
        }
        world.feed.trouble("m", "the announcement at offset 7 cannot be read");
        world.wait_for("", ModelState::Unavailable, 1);
        world.announce([good(2)]);
        world.wait_for("2", ModelState::Ready, 2);
        super::world::wait("quiet", || !handle.health().detail.contains("UNAVAILABLE"), || handle.health().detail);
        let n = load.stop();
        let summary = world.end(handle);
        assert!(summary.audit.balances(), "{}", summary.audit);
        for rows in world.rows() {
            assert_each_once(&rows, n);
            assert!(rows.iter().all(|row| row.version == "1" || row.version == "2"));
        }
        let text = world.metrics.text().unwrap();
        let failures = text.lines().find(|line| line.starts_with("iotml_score_failed_swaps_total{")).unwrap();
        assert!(failures.ends_with(&format!(" {}", table().len() + 1)), "{failures}");
    }
}

#[test]
fn a_model_that_would_append_other_columns_waits_for_a_restart() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |config| config.golden = GoldenRule::None);
        world.announce([good(1)]);
        let handle = world.start();
        let classifier = Manifest::builder(Kind::Classifier, "m").version("2").feature("a", None);
        let classifier = classifier.classes(["ok", "broken"], "broken").build().unwrap();
        let axes = [None, Some(1)];
        let graph = OnnxBuilder::new()
            .input("x", &axes)
            .output("y", &[None, Some(2)])
            .weights("w", &[1, 2], &[0.5, 0.5])
            .node("MatMul", &["x", "w"], &["h"])
            .node("Softmax", &["h"], &["y"]);
        world.announce([with_manifest("2", &graph, &classifier)]);
        world.wait_for("2", ModelState::Unavailable, 1);
        let cause = world.reports("2").last().unwrap().cause.clone().unwrap();
        assert!(cause.contains("label") && cause.contains("restart the pipeline"), "{cause}");
        world.announce([good(1), with_manifest("2", &graph, &classifier).rolled_out(Rollout::Shadow)]);
        world.logs[0].publish_keyed([(None, Some(b"1".to_vec()))]);
        world.end(handle);
        assert_eq!(world.rows()[0][0].version, "1");
    }
}

#[test]
fn sets_that_contradict_themselves_change_nothing() {
    for engine in engines() {
        let world = World::new(engine, 1);
        world.announce([good(1)]);
        let handle = world.start();
        world.announce([good(2), good(3)]);
        world.wait_for("", ModelState::Unavailable, 1);
        let cause = world.reports("").last().unwrap().cause.clone().unwrap();
        assert!(cause.contains("already scores all rows") && cause.contains("version 1 goes on"), "{cause}");
        world.feed.announce(ModelSet { format: 9, ..ModelSet::new("m") });
        world.wait_for("", ModelState::Unavailable, 2);
        world.end(handle);
    }
}

#[test]
fn at_the_start_a_bad_model_is_waited_out() {
    let engine = engines().first().copied().unwrap_or(EngineChoice::Auto);
    let world = World::new(engine, 1);
    world.announce([Announcement { sha256: Digest::of(b"another"), ..good(1) }]);
    let (spec, metrics) = (world.spec(), world.metrics.clone());
    let (give, given) = std::sync::mpsc::channel();
    let starting = std::thread::spawn(move || {
        iotml_core::pipeline::Pipeline::start_controlled(spec, metrics, |control| give.send(control).unwrap()).unwrap()
    });
    let control = given.recv().unwrap();
    let says = || control.health().detail.contains("waits for model m: model m 1 is UNAVAILABLE: its file");
    super::world::wait("word", says, || control.health().detail);
    assert!(!control.health().is_ready);
    world.announce([good(2)]);
    let handle = starting.join().unwrap();
    assert!(handle.health().is_ready, "{}", handle.health().detail);
    world.end(handle);
}
