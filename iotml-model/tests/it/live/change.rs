//! Changes of models: between batches, in every task, newest first.

use std::time::Instant;

use iotml_core::model::{Announcement, MemoryFeed, ModelSet, ModelState, Place};
use iotml_core::pipeline::Pipeline;
use iotml_model::manifest::{Scale, embed};
use iotml_model::testing::scaled_copy;
use iotml_model::{GoldenRule, Kind, Manifest};

use super::world::{World, assert_each_once, file, good, manifest, wait};
use crate::setup::engines;

#[test]
fn inv_8_a_swap_under_load_scores_every_row_once_by_the_version_that_it_names() {
    for engine in engines() {
        let world = World::new(engine, 3);
        world.announce([good(1)]);
        let handle = world.start();
        let load = world.load();
        wait("rows", || world.sinks.iter().all(|sink| sink.n_stored() > 0), String::new);
        for version in 2..=20 {
            world.announce([good(version)]);
            world.wait_for(&version.to_string(), ModelState::Ready, 3);
        }
        world.wait_for("19", ModelState::Unloading, 3);
        let n = load.stop();
        let summary = world.end(handle);
        assert!(summary.audit.balances() && summary.audit.delivered == u64::from(n) * 3, "{}", summary.audit);
        for rows in world.rows() {
            assert_each_once(&rows, n);
            let mut seen: Vec<u32> = rows.iter().map(|row| row.version.parse().unwrap()).collect();
            assert!(seen.is_sorted(), "a version that was replaced does not come back");
            seen.dedup();
            assert_eq!(seen, (1..=20).collect::<Vec<_>>(), "every version scored rows in every task");
        }
        let text = world.metrics.text().unwrap();
        let infos = text.lines().filter(|line| line.starts_with("iotml_score_model_info{")).collect::<Vec<_>>();
        assert_eq!(infos.len(), 3, "only what is in force is shown: {infos:?}");
        assert!(infos.iter().all(|line| line.contains("version=\"20\"")), "{infos:?}");
        assert!(text.contains("iotml_score_swaps_total{pipeline=\"cars\",task=\"0\"} 20"), "{text}");
    }
}

#[test]
fn inv_8_a_storm_of_announcements_ends_with_the_last_and_tries_few() {
    for engine in engines() {
        let world = World::new(engine, 2);
        world.announce([good(1)]);
        let handle = world.start();
        let load = world.load();
        let files: Vec<Announcement> = (2..=300).map(good).collect();
        files.into_iter().for_each(|announcement| world.announce([announcement]));
        world.wait_for("300", ModelState::Ready, 2);
        let n = load.stop();
        world.end(handle);
        world.rows().iter().for_each(|rows| assert_each_once(rows, n));
        let n_tried = world.feed.reports().iter().filter(|report| report.state == ModelState::Loading).count();
        assert!(n_tried < 250, "{n_tried} of 300 were loaded");
    }
}

#[test]
fn what_is_announced_last_counts_whichever_version_is_higher() {
    for engine in engines() {
        let world = World::new(engine, 1);
        world.announce([good(5)]);
        let handle = world.start();
        world.announce([good(2)]);
        // Idle streams change at their next batch.
        let load = world.load();
        world.wait_for("2", ModelState::Ready, 1);
        world.announce([good(2)]);
        world.announce([good(5)]);
        world.wait_for("5", ModelState::Ready, 2);
        let n = load.stop();
        world.end(handle);
        assert_each_once(&world.rows()[0], n);
        assert_eq!(world.states("2").iter().filter(|state| **state == ModelState::Loading).count(), 1, "known already");
    }
}

#[test]
fn the_same_version_with_another_file_is_another_model() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |config| config.golden = GoldenRule::None);
        world.announce([good(3)]);
        let handle = world.start();
        let load = world.load();
        world.wait_for("3", ModelState::Ready, 1);
        let other =
            embed(&super::world::graph(7).build(), &manifest(7).version("3").fixed_threshold(70.0).build().unwrap());
        world.announce([Announcement::inline("3", other.unwrap())]);
        world.wait_for("3", ModelState::Unloading, 1);
        let n = load.stop();
        world.end(handle);
        let rows = world.rows().remove(0);
        assert_eq!(rows.len(), n as usize);
        assert!(rows.iter().all(|row| row.version == "3"));
        let last = rows.last().unwrap();
        assert_eq!(last.threshold, 70.0);
        let text = world.metrics.text().unwrap();
        assert!(text.contains("iotml_score_rows_total{"), "the series of the version go on: {text}");
    }
}

#[test]
fn nothing_is_scored_before_the_feed_is_read_to_its_end() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::held(), |_| {});
        world.announce([good(1)]);
        world.logs[0].publish_keyed([(None, Some(b"0".to_vec()))]);
        let (spec, metrics) = (world.spec(), world.metrics.clone());
        let (give, given) = std::sync::mpsc::channel();
        let starting = std::thread::spawn(move || {
            Pipeline::start_controlled(spec, metrics, |control| give.send(control).unwrap()).unwrap()
        });
        let control = given.recv().unwrap();
        let waits = || control.health().detail.contains("waits until what is announced of model m has been read");
        wait("word that it waits", waits, || control.health().detail);
        assert!(!control.health().is_ready);
        world.announce([good(2)]);
        world.feed.complete();
        let handle = starting.join().unwrap();
        assert!(control.health().is_ready, "{}", control.health().detail);
        world.end(handle);
        assert_eq!(world.rows()[0][0].version, "2");
        assert_eq!(world.states("1"), [], "what was replaced before the end was read is not even loaded");
    }
}

#[test]
fn without_a_model_the_pipeline_waits_says_why_and_can_be_ended() {
    for engine in engines() {
        let world = World::new(engine, 2);
        let (spec, metrics) = (world.spec(), world.metrics.clone());
        let (give, given) = std::sync::mpsc::channel();
        let starting = std::thread::spawn(move || {
            Pipeline::start_controlled(spec, metrics, |control| give.send(control).unwrap())
        });
        let control = given.recv().unwrap();
        let waits = || control.health().detail.contains("waits for model m: none is announced; publish one");
        wait("word that it waits", waits, || control.health().detail);
        assert!(!control.health().is_ready);
        control.end();
        assert!(starting.join().unwrap().is_err(), "it never ran");
    }
}

#[test]
fn the_configured_model_scores_until_one_is_announced() {
    for engine in engines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, file(9)).unwrap();
        let world = World::with(engine, 1, MemoryFeed::new(), |config| config.model = Some(path));
        let handle = world.start();
        world.logs[0].publish_keyed([(None, Some(b"0".to_vec()))]);
        wait("first row", || world.sinks[0].n_stored() == 1, String::new);
        let elsewhere = folder.path().join("announced.onnx");
        std::fs::write(&elsewhere, file(4)).unwrap();
        let place = Place::Uri(format!("file://{}", elsewhere.display()));
        world.announce([Announcement { place, ..good(4) }]);
        let begun = Instant::now();
        let mut n = 1u32;
        while world.states("4").last() != Some(&ModelState::Ready) {
            assert!(begun.elapsed() < super::world::PATIENCE, "{:?}", world.feed.reports());
            world.logs[0].publish_keyed([(None, Some(n.to_string().into_bytes()))]);
            n += 1;
            let stored = n as usize;
            wait("row", || world.sinks[0].n_stored() == stored, String::new);
        }
        world.feed.announce(ModelSet::new("m"));
        wait("word", || world.states("").last() == Some(&ModelState::Unavailable), String::new);
        // It is reported first and shown a moment later.
        let says = || handle.health().detail.contains("version 4 goes on");
        wait("word that it goes on", says, || handle.health().detail);
        assert!(handle.health().is_ready);
        world.end(handle);
        let versions: Vec<String> = world.rows()[0].iter().map(|row| row.version.clone()).collect();
        assert_eq!((versions.first().unwrap().as_str(), versions.last().unwrap().as_str()), ("9", "4"));
    }
}

#[test]
fn inv_9_a_model_that_remembers_rows_inherits_them_from_the_one_before() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |config| config.golden = GoldenRule::None);
        // It expects the same again, so that the score is the square of the step.
        let next = |version: &str, scale: Option<Scale>| {
            let manifest = Manifest::builder(Kind::NextEvent, "m").version(version).feature("a", scale);
            let file = embed(&scaled_copy(1, 1.0).build(), &manifest.build().unwrap()).unwrap();
            Announcement::inline(version, file)
        };
        world.announce([next("1", None)]);
        let handle = world.start();
        let mut n = 0u32;
        let mut send = |until: &dyn Fn() -> bool| {
            let begun = Instant::now();
            while !until() {
                assert!(begun.elapsed() < super::world::PATIENCE, "{:?}", world.feed.reports());
                let values = (n..n + 10).map(|n| (Some(b"car".to_vec()), Some(n.to_string().into_bytes())));
                world.logs[0].publish_keyed(values);
                n += 10;
                let stored = n as usize;
                wait("rows", || world.sinks[0].n_stored() == stored, String::new);
            }
        };
        send(&|| world.sinks[0].n_stored() > 0);
        world.announce([next("2", None)]);
        send(&|| world.states("1").contains(&ModelState::Unloading));
        world.announce([next("3", Some(Scale::Standard { mean: 0.0, std: 2.0 }))]);
        send(&|| world.states("2").contains(&ModelState::Unloading));
        world.announce([good(4)]);
        send(&|| world.states("4").contains(&ModelState::Unavailable));
        let cause = world.reports("4").last().unwrap().cause.clone().unwrap();
        assert!(cause.contains("cannot take each other's place"), "{cause}");
        world.end(handle);
        let rows = world.rows().remove(0);
        let unknown: Vec<&str> = rows.iter().filter(|row| row.score.is_nan()).map(|row| row.version.as_str()).collect();
        assert_eq!(unknown, ["1", "3"], "only a first row, and the first after numbers have another meaning");
        assert!(rows.iter().filter(|row| row.version == "2").all(|row| row.score == 1.0));
    }
}
