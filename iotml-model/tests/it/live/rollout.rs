//! Several versions at once: canaries, weights, shadows.

use std::collections::BTreeMap;

use iotml_core::model::{Announcement, MemoryFeed, ModelState, Rollout};
use iotml_model::EngineChoice;

use super::world::{Row, World, assert_each_once, good, rows};
use crate::setup::engines;

const CANARY: Rollout = Rollout::Canary { percent: 10.0 };

/// The versions that scored rows of each key.
fn by_key(rows: &[Row]) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows {
        let versions = keys.entry(row.key.clone()).or_default();
        if versions.last() != Some(&row.version) {
            versions.push(row.version.clone());
        }
    }
    keys
}

/// Runs a pipeline under load with these announcements in force from the first row on.
fn run(engine: EngineChoice, n_tasks: usize, announcements: Vec<Announcement>) -> (World, u32) {
    let world = World::new(engine, n_tasks);
    world.announce(announcements);
    let handle = world.start();
    let load = world.load();
    super::world::wait("rows", || world.sinks.iter().all(|sink| sink.n_stored() > 2000), String::new);
    let n = load.stop();
    let summary = world.end(handle);
    assert!(summary.audit.balances(), "{}", summary.audit);
    (world, n)
}

#[test]
fn inv_8_a_canary_scores_its_share_of_the_keys_in_every_worker_and_after_a_restart() {
    for engine in engines() {
        let set = || vec![good(3), good(4).rolled_out(CANARY)];
        let (world, n) = run(engine, 2, set());
        let keys: Vec<_> = world.rows().iter().map(|rows| by_key(rows)).collect();
        world.rows().iter().for_each(|rows| assert_each_once(rows, n));
        let canaries: Vec<&String> =
            keys[0].iter().filter(|(_, versions)| **versions == ["4"]).map(|(key, _)| key).collect();
        assert_eq!(
            canaries,
            ["car11", "car13", "car21", "car29", "car34", "car37", "car44", "car71", "car86", "car98"]
        );
        assert!(keys[0].values().all(|versions| versions.len() == 1), "a key stays with its version: {keys:?}");
        assert_eq!(keys[0], keys[1], "in every task");
        let (again, _) = run(engine, 1, set());
        assert_eq!(by_key(&again.rows()[0]), keys[0], "after a restart");
    }
}

#[test]
fn inv_8_a_canary_that_is_promoted_takes_over_without_a_gap() {
    for engine in engines() {
        let world = World::new(engine, 2);
        world.announce([good(3)]);
        let handle = world.start();
        let load = world.load();
        super::world::wait("rows", || world.sinks.iter().all(|sink| sink.n_stored() > 1000), String::new);
        world.announce([good(3), good(4).rolled_out(CANARY)]);
        world.wait_for("4", ModelState::Ready, 2);
        world.announce([good(3), good(4).rolled_out(Rollout::Canary { percent: 50.0 })]);
        world.announce([good(4)]);
        world.wait_for("3", ModelState::Unloading, 2);
        let n = load.stop();
        world.end(handle);
        for rows in world.rows() {
            assert_each_once(&rows, n);
            assert!(by_key(&rows).values().all(|versions| *versions == ["3", "4"]), "nobody goes back");
        }
        assert_eq!(world.states("4").iter().filter(|state| **state == ModelState::Loading).count(), 1, "loaded once");
    }
}

#[test]
fn inv_8_weights_share_all_keys_out() {
    for engine in engines() {
        let weighted = |version, weight| good(version).rolled_out(Rollout::Weighted { weight });
        let (world, n) = run(engine, 1, vec![weighted(1, 3.0), weighted(2, 1.0)]);
        assert_each_once(&world.rows()[0], n);
        let keys = by_key(&world.rows()[0]);
        assert!(keys.values().all(|versions| versions.len() == 1), "{keys:?}");
        let n_second = keys.values().filter(|versions| **versions == ["2"]).count();
        assert!((15..=35).contains(&n_second), "{n_second} of 100 keys are with the lighter one");
    }
}

#[test]
fn inv_8_a_shadow_scores_beside_and_is_seen_on_its_own_route_only() {
    for engine in engines() {
        let (world, n) = run(engine, 1, vec![good(1), good(2).rolled_out(Rollout::Shadow)]);
        assert!(world.rows()[0].iter().all(|row| row.version == "1"));
        assert_each_once(&world.rows()[0], n);
        let shadows = rows(&world.shadows);
        assert!(shadows.iter().all(|row| row.version == "2"));
        assert_each_once(&shadows, n);
    }
}

#[test]
fn rows_that_no_version_can_score_are_rejected_whoever_has_them() {
    for engine in engines() {
        let world = World::with(engine, 1, MemoryFeed::new(), |_| {});
        world.announce([
            good(1),
            good(2).rolled_out(Rollout::Canary { percent: 50.0 }),
            good(3).rolled_out(Rollout::Shadow),
        ]);
        let handle = world.start();
        let value = |n: u32| if n % 7 == 3 { "NaN".to_owned() } else { n.to_string() };
        let message = |n: u32| (Some(format!("car{n}").into_bytes()), Some(value(n).into_bytes()));
        world.logs[0].publish_keyed((0..700).map(message));
        let summary = world.end(handle);
        assert_eq!((summary.audit.delivered, summary.audit.dead_lettered), (600, 100), "{}", summary.audit);
        let found: Vec<u32> = world.rows()[0].iter().map(|row| row.a as u32).collect();
        assert_eq!(found, (0..700).filter(|n| n % 7 != 3).collect::<Vec<_>>(), "in order");
        assert_eq!(world.dead.texts().len(), 100);
        let versions: std::collections::BTreeSet<_> = world.rows()[0].iter().map(|row| row.version.clone()).collect();
        assert_eq!(versions.into_iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}

#[test]
fn a_canary_that_is_refused_is_left_out_and_the_others_score() {
    for engine in engines() {
        let mut bad = good(4).rolled_out(CANARY);
        bad.sha256 = iotml_core::model::Digest::of(b"another");
        let (world, n) = run(engine, 1, vec![good(3), bad]);
        assert_each_once(&world.rows()[0], n);
        assert!(world.rows()[0].iter().all(|row| row.version == "3"));
        let reports = world.reports("4");
        let cause = reports.last().unwrap().cause.clone().unwrap();
        assert!(cause.contains("SHA-256"), "{cause}");
    }
}

#[test]
fn inv_8_a_worker_that_refuses_a_canary_moves_no_car_of_the_others() {
    for engine in engines() {
        let by_worker = [false, true].map(|refuses| {
            let mut first = good(4).rolled_out(CANARY);
            if refuses {
                first.sha256 = iotml_core::model::Digest::of(b"another");
            }
            let (world, n) = run(engine, 1, vec![good(3), first, good(5).rolled_out(CANARY)]);
            assert_each_once(&world.rows()[0], n);
            by_key(&world.rows()[0])
        });
        let [all, without] = by_worker;
        for (key, versions) in &all {
            let expected = if *versions == ["4"] { vec!["3".to_owned()] } else { versions.clone() };
            assert_eq!(without[key], expected, "{key}");
        }
        let n_of = |version: &str| all.values().filter(|versions| **versions == [version]).count();
        assert_eq!((n_of("4"), n_of("5")), (10, 10), "{all:?}");
    }
}
