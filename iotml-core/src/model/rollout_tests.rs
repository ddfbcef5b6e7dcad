use super::*;

const FULL: Rollout = Rollout::Full;
const N_KEYS: u32 = 100_000;

fn canary(percent: f64) -> Rollout {
    Rollout::Canary { percent }
}

fn weighted(weight: f64) -> Rollout {
    Rollout::Weighted { weight }
}

/// The plan of a place that has all versions, each known by its name's place in the alphabet.
fn plan(announced: &[(&str, Rollout)]) -> Plan {
    without(announced, "")
}

/// The same of a place that has refused one.
fn without(announced: &[(&str, Rollout)], refused: &str) -> Plan {
    Plan::of(announced, |version| (version != refused).then(|| usize::from(version.as_bytes()[0] - b'a')))
}

fn keys() -> impl Iterator<Item = String> {
    (0..N_KEYS).map(|key| format!("car{key}"))
}

/// Of all keys, the percents that go from one version to another, by their letters, if the plan is changed.
fn moved(before: &Plan, after: &Plan) -> std::collections::BTreeMap<String, f64> {
    let mut moved = std::collections::BTreeMap::new();
    let letter = |plan: &Plan, key: &str| char::from(b'a' + plan.version_of(Some(key.as_bytes())) as u8);
    for key in keys() {
        let (from, to) = (letter(before, &key), letter(after, &key));
        if from != to {
            *moved.entry(format!("{from}{to}")).or_default() += 100.0 / f64::from(N_KEYS);
        }
    }
    moved
}

#[track_caller]
fn assert_moved(before: &Plan, after: &Plan, expected: &[(&str, f64)]) {
    let moved = moved(before, after);
    assert_eq!(moved.keys().collect::<Vec<_>>(), expected.iter().map(|(way, _)| way).collect::<Vec<_>>(), "{moved:?}");
    for (way, percent) in expected {
        assert!((moved[*way] - percent).abs() < 0.3, "{moved:?} is not {expected:?}");
    }
}

#[track_caller]
fn assert_shares(rollouts: &[Rollout], expected: &[f64]) {
    let names = ["a", "b", "c", "d"];
    let announced: Vec<(&str, Rollout)> = names.into_iter().zip(rollouts.iter().copied()).collect();
    let plan = plan(&announced);
    let mut shares = vec![0.0; rollouts.len()];
    keys().for_each(|key| shares[plan.version_of(Some(key.as_bytes()))] += 100.0 / f64::from(N_KEYS));
    for (share, expected) in shares.iter().zip(expected) {
        assert!((share - expected).abs() < 0.5, "{shares:?} are not {expected} percent");
    }
}

#[test]
fn every_version_gets_its_share_of_the_keys() {
    assert_shares(&[FULL], &[100.0]);
    assert_shares(&[FULL, canary(10.0)], &[90.0, 10.0]);
    assert_shares(&[FULL, canary(100.0)], &[0.0, 100.0]);
    assert_shares(&[canary(100.0)], &[100.0]);
    assert_shares(&[weighted(3.0), weighted(1.0)], &[75.0, 25.0]);
    assert_shares(&[weighted(1.0), weighted(1.0), canary(20.0)], &[40.0, 40.0, 20.0]);
    assert_shares(&[FULL, canary(10.0), canary(20.0), canary(30.0)], &[40.0, 10.0, 20.0, 30.0]);
    assert_shares(&[weighted(1.0), canary(60.0), weighted(1.0), canary(20.0)], &[10.0, 60.0, 10.0, 20.0]);
    assert_shares(&[canary(50.0), canary(30.0), canary(20.0)], &[50.0, 30.0, 20.0]);
    // No key is left over where the percents' sum is not exact.
    assert_shares(&[FULL, canary(33.3), canary(33.3), canary(33.4)], &[0.0, 33.3, 33.3, 33.4]);
}

#[test]
fn a_key_stays_with_its_version_while_a_canary_grows() {
    let plan = |percent| plan(&[("a", FULL), ("b", canary(percent))]);
    let (small, large) = (plan(10.0), plan(50.0));
    for key in (0..10_000u32).map(|key| key.to_string()) {
        let key = Some(key.as_bytes());
        assert!(small.version_of(key) <= large.version_of(key));
        assert_eq!(small.version_of(key), plan(10.0).version_of(key));
    }
    // These numbers are a promise: another build of a worker must share out the same.
    let canaries = (0..100u32).filter(|key| small.version_of(Some(format!("car{key}").as_bytes())) == 1);
    assert_eq!(canaries.collect::<Vec<_>>(), [11, 13, 21, 29, 34, 37, 44, 71, 86, 98]);
    let two = self::plan(&[("a", FULL), ("b", canary(10.0)), ("c", canary(10.0))]);
    let second = (0..100u32).filter(|key| two.version_of(Some(format!("car{key}").as_bytes())) == 2);
    assert_eq!(second.collect::<Vec<_>>(), [15, 19, 52, 53, 61, 63]);
}

#[test]
fn of_several_canaries_one_that_comes_grows_or_goes_moves_few_keys_of_the_others() {
    let two = |b, c| plan(&[("a", FULL), ("b", canary(b)), ("c", canary(c))]);
    let three = plan(&[("a", FULL), ("b", canary(10.0)), ("c", canary(10.0)), ("d", canary(10.0))]);
    // One that comes takes from the rest alone.
    assert_moved(&plan(&[("a", FULL), ("b", canary(10.0))]), &two(10.0, 10.0), &[("ac", 10.0)]);
    assert_moved(&two(10.0, 10.0), &three, &[("ad", 10.0)]);
    // One that grows takes from the others what falls to it by chance, and the others take that from the rest.
    assert_moved(&two(10.0, 10.0), &two(20.0, 10.0), &[("ab", 8.9), ("ac", 1.1), ("cb", 1.1)]);
    assert_moved(&two(10.0, 10.0), &two(10.0, 20.0), &[("ac", 10.0)]);
    // The same where one goes that is not the first.
    let without_c = plan(&[("a", FULL), ("b", canary(10.0)), ("d", canary(10.0))]);
    assert_moved(&three, &without_c, &[("ca", 8.9), ("cd", 1.1), ("da", 1.1)]);
    // A lone canary has the keys that are promised, so that the second one must have them once the first is gone.
    let alone = plan(&[("a", FULL), ("c", canary(10.0))]);
    assert_moved(&two(10.0, 10.0), &alone, &[("bc", 10.0), ("ca", 10.0)]);
}

#[test]
fn keys_of_a_version_that_was_refused_go_to_the_rest_and_nobody_else_moves() {
    let set = [("a", FULL), ("b", canary(10.0)), ("c", canary(20.0)), ("d", canary(30.0))];
    assert_moved(&plan(&set), &without(&set, "b"), &[("ba", 10.0)]);
    assert_moved(&plan(&set), &without(&set, "d"), &[("da", 30.0)]);
    let arms = [("a", weighted(1.0)), ("b", weighted(1.0)), ("c", weighted(2.0)), ("d", canary(20.0))];
    assert_moved(&plan(&arms), &without(&arms, "d"), &[("da", 5.0), ("db", 5.0), ("dc", 10.0)]);
    assert_moved(&plan(&arms), &without(&arms, "c"), &[("ca", 20.0), ("cb", 20.0)]);
    // Where all are canaries, the first that is here has what the one that is not here leaves.
    let canaries = [("a", canary(50.0)), ("b", canary(50.0))];
    assert_moved(&plan(&canaries), &without(&canaries, "b"), &[("ba", 50.0)]);
    assert!(without(&set[..2], "b").is_single());
}

#[test]
fn rows_without_a_key_are_one_devices() {
    let all = plan(&[("a", FULL), ("b", canary(100.0))]);
    assert_eq!(all.version_of(None), 1);
    assert!(plan(&[("a", FULL)]).is_single());
    assert!(!all.is_single());
}
