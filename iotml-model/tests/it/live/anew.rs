//! Workers that start while something bad is announced: what others refused is refused again.

use std::time::Duration;

use iotml_core::model::{Announcement, Availability, MemoryFeed, ModelState, Place, Rollout};
use iotml_core::pipeline::Pipeline;
use iotml_core::plugin::HumanDuration;
use iotml_model::store::StoreOptions;
use iotml_model::testing::{OnnxBuilder, scaled_copy};
use iotml_model::{GoldenRule, Kind, Manifest};

use super::bad::{Bad, not_a_number, table, with_manifest};
use super::world::{World, assert_each_once, file, good, wait};
use crate::setup::engines;
use crate::store::impatient;
use crate::store::server::{Answer, Server};

/// What publishing the next version makes of the one before.
fn retired(version: u32) -> Announcement {
    Announcement { state: Availability::Unavailable, ..good(version) }
}

#[test]
fn inv_8_a_worker_that_starts_refuses_what_others_refused_and_goes_on_with_the_version_before() {
    for engine in engines() {
        // A file that is not there may come.
        for Bad { what, announcement, says } in table().into_iter().filter(|bad| bad.what != "no file") {
            let world = World::with(engine, 2, MemoryFeed::new(), |config| {
                config.golden = GoldenRule::None;
                let follow = config.follow.as_mut().unwrap();
                follow.max_batch_time = HumanDuration(Duration::from_millis(500));
            });
            let version = announcement.version.clone();
            world.announce([retired(1), announcement]);
            let handle = world.start();
            let load = world.load();
            wait("rows", || world.sinks.iter().all(|sink| sink.n_stored() > 1000), || handle.health().detail);
            world.wait_for(&version, ModelState::Unavailable, 1);
            let refusals = world.refusals(&version);
            let cause = refusals[0].cause.clone().unwrap();
            println!("{what}: {cause}");
            assert!(cause.contains(says), "{what}: {cause}");
            assert_eq!(refusals.len(), 1, "{what}: {refusals:?}");
            let n = load.stop();
            let health = handle.health();
            assert!(health.is_healthy && health.is_ready && health.detail.contains(says), "{what}: {}", health.detail);
            let summary = world.end(handle);
            assert!(summary.audit.balances() && summary.audit.dead_lettered == 0, "{what}: {}", summary.audit);
            for rows in world.rows() {
                assert_each_once(&rows, n);
                assert!(rows.iter().all(|row| row.version == "1"), "{what}");
            }
        }
    }
}

#[test]
fn a_worker_that_starts_waits_for_what_is_only_out_of_reach() {
    for engine in engines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        let world = World::new(engine, 1);
        let place = Place::Uri(format!("file://{}", path.display()));
        // After a roll-back, the version before is the one that was withdrawn.
        world.announce([retired(2), Announcement { place, ..good(1) }]);
        let starting = {
            let (spec, metrics) = (world.spec(), world.metrics.clone());
            std::thread::spawn(move || Pipeline::start(spec, metrics).unwrap())
        };
        world.wait_for("1", ModelState::Unavailable, 1);
        std::fs::write(&path, file(1)).unwrap();
        let handle = starting.join().unwrap();
        let load = world.load();
        wait("rows", || world.sinks[0].n_stored() > 1000, || handle.health().detail);
        let n = load.stop();
        world.end(handle);
        let rows = world.rows();
        assert_each_once(&rows[0], n);
        assert!(rows[0].iter().all(|row| row.version == "1"));
    }
}

#[test]
fn a_shadow_that_does_not_fit_lets_the_first_rows_pass() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |config| config.golden = GoldenRule::None);
        let shadow = not_a_number().rolled_out(Rollout::Shadow);
        let version = shadow.version.clone();
        world.announce([good(1), shadow]);
        let handle = world.start();
        let load = world.load();
        world.wait_for(&version, ModelState::Unavailable, 1);
        wait("rows", || world.sinks[0].n_stored() > 1000, || handle.health().detail);
        let n = load.stop();
        let summary = world.end(handle);
        assert!(summary.audit.balances() && summary.audit.dead_lettered == 0, "{}", summary.audit);
        assert_each_once(&world.rows()[0], n);
    }
}

#[test]
fn without_a_version_before_rows_wait_for_one_that_can_score_them() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |config| config.golden = GoldenRule::None);
        let column = Manifest::builder(Kind::Reconstruction, "m").version("2").feature("pressure", None);
        world.announce([with_manifest("2", &scaled_copy(1, 0.5), &column.build().unwrap())]);
        let handle = world.start();
        let load = world.load();
        let waits = || handle.health().detail.contains("waits for model m: model m 2 is UNAVAILABLE: it does not fit");
        wait("word that rows wait", waits, || handle.health().detail);
        assert!(!handle.health().is_ready);
        assert_eq!(world.sinks[0].n_stored(), 0);
        world.announce([good(3)]);
        world.wait_for("3", ModelState::Ready, 1);
        let n = load.stop();
        let summary = world.end(handle);
        assert!(summary.audit.balances() && summary.audit.dead_lettered == 0, "{}", summary.audit);
        assert_each_once(&world.rows()[0], n);
    }
}

#[test]
fn at_the_start_versions_that_append_different_columns_do_not_score_side_by_side() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |config| config.golden = GoldenRule::None);
        let classifier = Manifest::builder(Kind::Classifier, "m").version("2").feature("a", None);
        let classifier = classifier.classes(["ok", "broken"], "broken").build().unwrap();
        let graph = OnnxBuilder::new()
            .input("x", &[None, Some(1)])
            .output("y", &[None, Some(2)])
            .weights("w", &[1, 2], &[0.5, 0.5])
            .node("MatMul", &["x", "w"], &["h"])
            .node("Softmax", &["h"], &["y"]);
        let canary = with_manifest("2", &graph, &classifier).rolled_out(Rollout::Canary { percent: 50.0 });
        world.announce([good(1), canary]);
        let handle = world.start();
        let load = world.load();
        world.wait_for("2", ModelState::Unavailable, 1);
        let cause = world.reports("2").last().unwrap().cause.clone().unwrap();
        assert!(cause.contains("label") && cause.contains("restart the pipeline"), "{cause}");
        wait("rows", || world.sinks[0].n_stored() > 1000, || handle.health().detail);
        let n = load.stop();
        world.end(handle);
        assert_each_once(&world.rows()[0], n);
    }
}

#[test]
fn one_device_that_sends_monstrous_numbers_keeps_no_model_out() {
    for engine in engines() {
        let world = World::new(engine, 1);
        world.announce([good(2)]);
        let handle = world.start();
        // Its score is more than any number.
        world.logs[0].publish_keyed([(None, Some(b"3e38".to_vec()))]);
        wait("dead letter", || world.dead.n_stored() == 1, || handle.health().detail);
        let load = world.load();
        wait("rows", || world.sinks[0].n_stored() > 1000, || handle.health().detail);
        let n = load.stop();
        let summary = world.end(handle);
        assert_each_once(&world.rows()[0], n);
        assert_eq!(summary.audit.dead_lettered, 1);
    }
}

#[test]
fn a_file_that_was_announced_while_it_was_being_copied_is_looked_at_again() {
    for engine in engines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.onnx");
        std::fs::write(&path, &file(2)[..100]).unwrap();
        let world = World::new(engine, 1);
        world.announce([good(1)]);
        let handle = world.start();
        let load = world.load();
        let place = Place::Uri(format!("file://{}", path.display()));
        world.announce([Announcement { place, ..good(2) }]);
        world.wait_for("2", ModelState::Unavailable, 1);
        std::fs::write(&path, file(2)).unwrap();
        world.wait_for("2", ModelState::Ready, 1);
        let n = load.stop();
        world.end(handle);
        assert_each_once(&world.rows()[0], n);
    }
}

#[test]
fn a_bucket_that_hangs_keeps_nobody_from_what_is_announced_next() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = engines()[0];
    let server = runtime.block_on(Server::answering(|_| Answer::Nothing));
    let world = World::with(engine, 1, MemoryFeed::new(), |config| {
        let follow = config.follow.as_mut().unwrap();
        follow.store = Some("s3://models".to_owned());
        // It would wait for longer than this test does.
        let patient = HumanDuration(super::world::PATIENCE * 5);
        follow.store_options = StoreOptions {
            request_timeout: patient,
            retry_timeout: patient,
            ..impatient(&server.endpoint, "password")
        };
        follow.max_check_time = patient;
    });
    world.announce([good(1)]);
    let handle = world.start();
    let load = world.load();
    world.announce([Announcement { place: Place::Uri("s3://models/m/2".to_owned()), ..good(2) }]);
    wait("request", || server.n_requests() > 0, || handle.health().detail);
    world.announce([good(3)]);
    world.wait_for("3", ModelState::Ready, 1);
    let n = load.stop();
    world.end(handle);
    assert_each_once(&world.rows()[0], n);
    assert_eq!(world.rows()[0].last().unwrap().version, "3");
}
