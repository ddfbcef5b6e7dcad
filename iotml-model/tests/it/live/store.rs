//! Models that are fetched from a store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use iotml_core::model::{Announcement, Digest, MemoryFeed, ModelState, Place};
use iotml_model::store::{Store, StoreOptions};

use super::world::{self, World, assert_each_once, good, graph, manifest};
use crate::setup::engines;
use crate::store::server::{Answer, Server, object, status};
use crate::store::signed::Key;
use crate::store::{impatient, unique};

fn put(store: &Store, version: u32) -> Announcement {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stored = runtime.block_on(store.put(graph(version).build(), manifest(version).build().unwrap())).unwrap();
    Announcement::new(version.to_string(), Place::Uri(stored.uri), stored.sha256)
}

#[test]
fn inv_8_a_model_comes_from_the_store_with_its_manifest_and_a_bad_one_changes_nothing() {
    for engine in engines() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let store = Store::open(&url, &StoreOptions::default()).unwrap();
        let world = World::with(engine, 2, MemoryFeed::new(), |config| {
            config.follow.as_mut().unwrap().store = Some(url.clone());
        });
        world.announce([put(&store, 1)]);
        let handle = world.start();
        let load = world.load();
        let second = put(&store, 2);
        world.announce([Announcement { sha256: Digest::of(b"another"), ..second.clone() }]);
        world.wait_for("2", ModelState::Unavailable, 1);
        world.announce([second]);
        world.wait_for("2", ModelState::Ready, 2);
        let missing = Place::Uri(format!("{url}/m/3"));
        world.announce([Announcement { place: missing, ..good(3) }]);
        world.wait_for("3", ModelState::Unavailable, 1);
        let cause = world.reports("3").last().unwrap().cause.clone().unwrap();
        assert!(cause.contains("there is no model m 3 in file:///") && cause.ends_with("version 2 goes on"), "{cause}");
        let n = load.stop();
        world.end(handle);
        for rows in world.rows() {
            assert_each_once(&rows, n);
            assert!(rows.iter().all(|row| row.version == "1" || row.version == "2"));
            assert_eq!(rows.last().unwrap().version, "2");
        }
    }
}

#[test]
fn where_signatures_are_wanted_nothing_else_is_taken() {
    for engine in engines() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (Key::new(1), Key::new(2));
        let url = format!("file://{}", folder.path().join("store").display());
        let signing =
            |signing_key| Store::open(&url, &StoreOptions { signing_key, ..StoreOptions::default() }).unwrap();
        let world = World::with(engine, 1, MemoryFeed::new(), |config| {
            let file = folder.path().join("m.onnx");
            std::fs::write(&file, super::world::file(9)).unwrap();
            config.model = Some(file);
            let follow = config.follow.as_mut().unwrap();
            follow.store = Some(url.clone());
            follow.store_options =
                StoreOptions { trusted_keys: vec![ours.public()], require_signature: true, ..StoreOptions::default() };
        });
        let handle = world.start();
        let bad = [
            (good(1), "only models in the store are signed"),
            (put(&signing(None), 2), "is not signed, and require_signature is set"),
            (
                put(&signing(Some(theirs.private())), 3),
                "is not the signature of this manifest by one of the 1 trusted keys",
            ),
        ];
        for (announcement, says) in bad {
            let version = announcement.version.clone();
            world.announce([announcement]);
            world.wait_for(&version, ModelState::Unavailable, 1);
            let cause = world.reports(&version).last().unwrap().cause.clone().unwrap();
            println!("{cause}");
            assert!(cause.contains(says) && cause.contains("version 9 goes on"), "{cause}");
        }
        world.announce([put(&signing(Some(ours.private())), 4)]);
        let load = world.load();
        world.wait_for("4", ModelState::Ready, 1);
        load.stop();
        world.end(handle);
    }
}

#[test]
fn the_manifest_in_the_store_counts_whatever_the_announcement_says() {
    for engine in engines() {
        let store = Store::open("memory://a-manifest-of-its-own", &StoreOptions::default()).unwrap();
        let world = World::with(engine, 1, MemoryFeed::new(), |config| {
            config.follow.as_mut().unwrap().store = Some(store.url().to_owned());
        });
        let mut forged = put(&store, 5);
        forged.manifest = serde_json::to_value(manifest(6).build().unwrap()).ok();
        world.announce([forged]);
        let handle = world.start();
        let load = world.load();
        let n = load.stop();
        world.end(handle);
        world.rows().iter().for_each(|rows| assert_each_once(rows, n));
    }
}

/// What a bucket says that has these objects.
fn answer(request: &str, objects: &HashMap<String, Vec<u8>>) -> Answer {
    let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches("/models/");
    objects.get(path).map_or_else(|| status("404 Not Found", ""), |content| object(content, content.len()))
}

#[test]
fn inv_8_a_bucket_that_fails_or_hangs_leaves_what_runs_and_is_asked_again() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for engine in engines() {
        let objects = Store::open("memory://", &StoreOptions::default()).unwrap();
        let announced: Vec<Announcement> = (1..=5).map(|version| put(&objects, version)).collect();
        let paths =
            (1..=5).flat_map(|version| ["manifest.json", "model.onnx"].map(|file| format!("m/{version}/{file}")));
        let objects: HashMap<String, Vec<u8>> =
            paths.map(|path| (path.clone(), runtime.block_on(objects.dig(&path)).unwrap().to_vec())).collect();
        // `None`: it does what a bucket should.
        let trouble = Arc::new(Mutex::new(None::<Answer>));
        let told = trouble.clone();
        let answering = Server::answering(move |request| {
            let told = told.lock().unwrap().clone();
            told.unwrap_or_else(|| answer(request, &objects))
        });
        let server = runtime.block_on(answering);
        let password = unique("password");
        let world = World::with(engine, 2, MemoryFeed::new(), |config| {
            let follow = config.follow.as_mut().unwrap();
            follow.store = Some("s3://models".to_owned());
            follow.store_options = impatient(&server.endpoint, &password);
        });
        let announce = |at: usize| {
            let place = Place::Uri(format!("s3://models/m/{}", at + 1));
            world.announce([Announcement { place, ..announced[at].clone() }]);
        };
        announce(0);
        let handle = world.start();
        let load = world.load();
        world::wait("rows", || world.sinks.iter().all(|sink| sink.n_stored() > 1000), String::new);
        let denied = "<Error><Code>AccessDenied</Code><Message>not you</Message></Error>";
        let troubles = [
            ("500", status("500 Internal Server Error", "out of order")),
            ("access is denied; check the credentials", status("403 Forbidden", denied)),
            ("timed out", Answer::Nothing),
            ("there is no model m 5", status("404 Not Found", "")),
        ];
        for (at, (says, answer)) in troubles.into_iter().enumerate() {
            let (before, version) = ((at + 1).to_string(), (at + 2).to_string());
            *trouble.lock().unwrap() = Some(answer);
            announce(at + 1);
            world.wait_for(&version, ModelState::Unavailable, 1);
            let n_then = world.sinks[0].n_stored();
            world::wait("rows go on", || world.sinks[0].n_stored() > n_then + 1000, String::new);
            let n_asked = server.n_requests();
            world::wait("it is asked again", || server.n_requests() > n_asked, || format!("{n_asked} requests"));
            let refusals = world.refusals(&version);
            let cause = refusals[0].cause.clone().unwrap();
            println!("{says}: {cause}");
            assert!(cause.contains(says) && cause.ends_with(&format!("version {before} goes on")), "{cause}");
            assert!(!cause.contains(&password), "{cause}");
            assert_eq!(refusals.len(), 1, "it is said once: {refusals:?}");
            *trouble.lock().unwrap() = None;
            world.wait_for(&version, ModelState::Ready, 2);
        }
        let n = load.stop();
        let summary = world.end(handle);
        assert!(summary.audit.balances(), "{}", summary.audit);
        for rows in world.rows() {
            assert_each_once(&rows, n);
            assert_eq!(rows.last().unwrap().version, "5");
        }
    }
}
