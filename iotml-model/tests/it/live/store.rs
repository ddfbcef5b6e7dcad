//! Models that are fetched from a store.

use iotml_core::model::{Announcement, Digest, MemoryFeed, ModelState, Place};
use iotml_model::store::{Store, StoreOptions};

use super::world::{World, assert_each_once, good, graph, manifest};
use crate::setup::engines;

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
fn where_signatures_are_wanted_nothing_unsigned_is_taken() {
    for engine in engines() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key.pub");
        std::fs::write(&key, "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=").unwrap();
        let url = format!("file://{}", folder.path().join("store").display());
        let store = Store::open(&url, &StoreOptions::default()).unwrap();
        let world = World::with(engine, 1, MemoryFeed::new(), |config| {
            let file = folder.path().join("m.onnx");
            std::fs::write(&file, super::world::file(9)).unwrap();
            config.model = Some(file);
            let follow = config.follow.as_mut().unwrap();
            follow.store = Some(url.clone());
            follow.store_options =
                StoreOptions { trusted_keys: vec![key.clone()], require_signature: true, ..StoreOptions::default() };
        });
        let handle = world.start();
        for (announcement, says) in [(good(1), "only models in the store are signed"), (put(&store, 2), "sign")] {
            let version = announcement.version.clone();
            world.announce([announcement]);
            world.wait_for(&version, ModelState::Unavailable, 1);
            let cause = world.reports(&version).last().unwrap().cause.clone().unwrap();
            assert!(cause.contains(says) && cause.contains("version 9 goes on"), "{cause}");
        }
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
