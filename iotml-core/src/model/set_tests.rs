use super::*;
use crate::model::{Digest, Place};

fn version(version: &str, rollout: Rollout) -> Announcement {
    let place = Place::Uri(format!("file:///models/{version}.onnx"));
    Announcement::new(version, place, Digest::of(version.as_bytes())).rolled_out(rollout)
}

fn set(rollouts: &[Rollout]) -> ModelSet {
    let versions = rollouts.iter().enumerate().map(|(at, rollout)| version(&at.to_string(), *rollout));
    ModelSet { versions: versions.collect(), ..ModelSet::new("cars") }
}

const CANARY: Rollout = Rollout::Canary { percent: 60.0 };
const HALF: Rollout = Rollout::Weighted { weight: 1.0 };

#[test]
fn the_documented_form_reads_and_round_trips() {
    let text = format!(
        r#"{{"format": 1, "model": "cars", "versions": [
            {{"version": "3", "uri": "file:///m.onnx", "sha256": "{0}"}},
            {{"version": "4", "inline": "YWJj", "sha256": "{0}", "manifest": {{"kind": "score"}}, "state": "READY",
              "rollout": {{"kind": "canary", "percent": 10}}}},
            {{"version": "2", "uri": "s3://b/m.onnx", "sha256": "{0}", "state": "UNAVAILABLE"}}]}}"#,
        Digest::of(b"abc")
    );
    let set = ModelSet::from_json(text.as_bytes()).unwrap();
    assert_eq!(set.versions[0].rollout, Rollout::Full);
    assert_eq!(set.versions[1].place, Place::Inline(b"abc".to_vec()));
    assert_eq!(set.acting().map(|acting| acting.version.as_str()).collect::<Vec<_>>(), ["3", "4"]);
    assert_eq!(ModelSet::from_json(&set.to_json()).unwrap(), set);
}

#[test]
fn what_cannot_be_read_is_named() {
    let read = |text: &str| ModelSet::from_json(text.as_bytes()).unwrap_err().to_string();
    assert!(read("{").contains("not of the expected form"));
    assert!(read(r#"{"format": 2, "anything": []}"#).contains("update this worker"));
    assert!(read(r#"{"format": 1, "model": "../x", "versions": []}"#).contains("\"../x\""));
    let digest = Digest::of(b"");
    let one = |fields: &str| format!(r#"{{"format": 1, "model": "m", "versions": [{{"version": "1", {fields}}}]}}"#);
    assert!(read(&one(&format!(r#""sha256": "{digest}""#))).contains("expected form"));
    assert!(read(&one(&format!(r#""sha256": "{digest}", "inline": "?""#))).contains("base64"));
    assert!(read(&one(r#""sha256": "12", "uri": "file:///m""#)).contains("SHA-256"));
}

#[test]
fn sets_that_contradict_themselves_are_refused() {
    for wrong in [
        vec![Rollout::Full, Rollout::Full],
        vec![Rollout::Full, HALF],
        vec![HALF, Rollout::Full],
        vec![Rollout::Full, CANARY, CANARY],
        vec![CANARY],
        vec![Rollout::Full, Rollout::Shadow, Rollout::Shadow],
        vec![Rollout::Full, Rollout::Canary { percent: 0.0 }],
        vec![Rollout::Full, Rollout::Canary { percent: f64::NAN }],
        vec![Rollout::Full, Rollout::Canary { percent: 101.0 }],
        vec![Rollout::Weighted { weight: -1.0 }],
    ] {
        assert!(set(&wrong).check().is_err(), "{wrong:?}");
    }
    for right in [
        vec![],
        vec![Rollout::Full],
        vec![Rollout::Full, CANARY, Rollout::Shadow],
        vec![HALF, HALF, CANARY],
        vec![Rollout::Canary { percent: 100.0 }],
        vec![Rollout::Shadow],
    ] {
        set(&right).check().unwrap();
    }
    let mut twice = set(&[Rollout::Full]);
    twice.versions.push(version("0", Rollout::Shadow));
    assert_eq!(twice.check(), Err(SetError::Twice("0".to_owned())));
    let mut hidden = set(&[Rollout::Full]);
    hidden.versions[0].version = "a/../b".to_owned();
    assert!(matches!(hidden.check(), Err(SetError::Name { what: "version", .. })));
}

#[test]
fn announcing_promoting_and_retiring_keep_one_way_back() {
    let mut set = ModelSet::new("cars");
    set.announce(version("1", Rollout::Full));
    set.announce(version("2", Rollout::Full));
    set.announce(version("3", Rollout::Canary { percent: 5.0 }));
    set.check().unwrap();
    let acting = |set: &ModelSet| set.acting().map(|acting| acting.version.clone()).collect::<Vec<_>>();
    assert_eq!(acting(&set), ["2", "3"]);
    set.promote("3").unwrap();
    assert_eq!(acting(&set), ["3"]);
    assert!(set.version("2").is_some() && set.version("1").is_none(), "the way back is to 2");
    set.promote("2").unwrap();
    assert_eq!(acting(&set), ["2"]);
    set.announce(version("4", HALF));
    assert_eq!(acting(&set), ["2", "4"]);
    set.check().unwrap();
    set.announce(version("5", Rollout::Shadow));
    set.announce(version("6", Rollout::Shadow));
    assert_eq!(set.shadow().unwrap().version, "6");
    set.retire("4").unwrap();
    set.check().unwrap();
    assert!(set.retire("9").unwrap_err().to_string().contains("there are"), "{set:?}");
}

#[test]
fn a_version_that_is_announced_again_keeps_its_place_among_its_kind() {
    let canary = |name: &str, percent| version(name, Rollout::Canary { percent });
    let order = |set: &ModelSet| set.versions.iter().map(|it| it.version.clone()).collect::<Vec<_>>().concat();
    let mut set = ModelSet::new("cars");
    for announced in [version("1", Rollout::Full), canary("2", 10.0), canary("3", 10.0), canary("2", 20.0)] {
        set.announce(announced);
    }
    assert_eq!(order(&set), "123");
    assert_eq!(set.version("2").unwrap().rollout, Rollout::Canary { percent: 20.0 });
    // As another kind it is the youngest of that kind, and so it is after it was retired.
    set.announce(version("2", Rollout::Shadow));
    set.announce(canary("2", 10.0));
    assert_eq!(order(&set), "132");
    set.retire("3").unwrap();
    set.announce(canary("4", 10.0));
    set.announce(canary("3", 10.0));
    assert_eq!(order(&set), "1243");
    set.check().unwrap();
    let mut arms = ModelSet::new("cars");
    ["1", "2"].into_iter().for_each(|name| arms.announce(version(name, HALF)));
    arms.announce(version("1", Rollout::Weighted { weight: 3.0 }));
    assert_eq!(order(&arms), "12");
}

#[test]
fn a_canary_that_is_announced_again_with_a_larger_share_takes_nearly_no_keys_of_the_others() {
    let announce = |set: &mut ModelSet, name: &str, percent| {
        set.announce(version(name, Rollout::Canary { percent }));
        let (plan, acting) = (set.plan(), set.acting().map(|it| it.version.clone()).collect::<Vec<_>>());
        (0..10_000).map(|key| acting[plan.version_of(Some(format!("car{key}").as_bytes()))].clone()).collect::<Vec<_>>()
    };
    let mut set = ModelSet::single("cars", version("1", Rollout::Full));
    announce(&mut set, "2", 10.0);
    let before = announce(&mut set, "3", 10.0);
    let after = announce(&mut set, "2", 20.0);
    let n_moved = |from: &str, to: &str| {
        before.iter().zip(&after).filter(|(b, a)| (b.as_str(), a.as_str()) == (from, to)).count()
    };
    assert_eq!((n_moved("2", "1"), n_moved("2", "3")), (0, 0), "a larger share holds all keys of the smaller one");
    assert!((50..200).contains(&n_moved("3", "2")), "{}", n_moved("3", "2"));
    assert_eq!(n_moved("3", "1"), 0);
}

#[test]
fn a_canary_or_shadow_that_was_retired_is_none_to_go_back_to() {
    let mut set = ModelSet::new("cars");
    set.announce(version("1", Rollout::Full));
    set.announce(version("2", Rollout::Canary { percent: 5.0 }));
    set.retire("2").unwrap();
    assert!(matches!(set.roll_back(), Err(SetError::NothingBefore { .. })));
    set.announce(version("3", Rollout::Full));
    set.announce(version("4", Rollout::Shadow));
    set.announce(version("5", Rollout::Shadow));
    let retired: Vec<_> = set.versions.iter().filter(|it| !it.is_ready()).map(|it| it.version.as_str()).collect();
    assert_eq!(retired, ["1", "4"], "one to go back to, and the last that has not proved itself");
    set.roll_back().unwrap();
    assert_eq!(set.acting().map(|acting| acting.version.as_str()).collect::<Vec<_>>(), ["1"]);
    set.promote("4").unwrap();
    set.roll_back().unwrap();
    assert_eq!(set.acting().map(|acting| acting.version.as_str()).collect::<Vec<_>>(), ["1"]);
}
