use std::time::Instant;

use apache_avro::{from_avro_datum, to_avro_datum};
use serde_json::json;

use super::*;

/// Everything that an announcement can say.
fn set() -> ModelSet {
    let inline = |version: &str| Announcement::inline(version, vec![0, 255, 7]);
    let uri = Place::Uri("s3://models/cars/1".into());
    let versions = vec![
        Announcement { manifest: Some(json!({"a": [1.5, null]})), ..Announcement::new("1", uri, Digest::of(b"1")) },
        inline("2").rolled_out(Rollout::Canary { percent: 12.5 }),
        inline("3").rolled_out(Rollout::Shadow),
        Announcement { state: Availability::Unavailable, ..inline("4") }.rolled_out(Rollout::Weighted { weight: 0.5 }),
    ];
    ModelSet { versions, ..ModelSet::new("cars") }
}

fn datum(set: &ModelSet) -> Vec<u8> {
    let value = write(set, 258).unwrap();
    let (id, datum) = unframe(&value).unwrap();
    assert_eq!((id, value[0]), (258, 0));
    datum.to_vec()
}

/// The schema with one part of its text in the place of another.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(SCHEMA.matches(from).count(), 1, "{from}");
    SCHEMA.replace(from, to)
}

/// What a writer of another schema makes of a set in ours.
fn written_with(schema: &str, set: &ModelSet) -> Vec<u8> {
    let (own, other) = (Schema::parse_str(SCHEMA).unwrap(), Schema::parse_str(schema).unwrap());
    to_avro_datum(&other, from_avro_datum(&own, &mut &datum(set)[..], Some(&other)).unwrap()).unwrap()
}

#[test]
fn a_set_comes_back_whole_and_others_read_it() {
    let set = set();
    assert_eq!(read(SCHEMA, &datum(&set)).unwrap(), set);
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let mut rest = &datum(&set)[..];
    let value = from_avro_datum(&schema, &mut rest, None).unwrap();
    assert!(value.validate(&schema) && rest.is_empty(), "{value:?}");
    let json: serde_json::Value = value.try_into().unwrap();
    let told = |at: &str| json.pointer(at).unwrap();
    assert_eq!((told("/format"), told("/model")), (&json!(1), &json!("cars")));
    assert_eq!(told("/versions/0/uri"), "s3://models/cars/1");
    assert_eq!(told("/versions/0/manifest"), r#"{"a":[1.5,null]}"#);
    assert_eq!(told("/versions/1/inline"), &json!([0, 255, 7]));
    assert_eq!(told("/versions/1/sha256"), &json!(Digest::of(&[0, 255, 7]).to_string()));
    assert_eq!(told("/versions/1/rollout"), &json!({"kind": "canary", "percent": 12.5, "weight": null}));
    assert_eq!(told("/versions/3/state"), "UNAVAILABLE");
    assert_eq!(read(SCHEMA, &datum(&ModelSet::new("cars"))).unwrap(), ModelSet::new("cars"));
}

#[test]
fn fields_that_are_added_or_not_there_yet_are_no_obstacle() {
    let added = r#"{"name": "note", "type": {"type": "map", "values": "string"}, "default": {}}, {"name": "sha256","#;
    let newer = changed(r#"{"name": "sha256","#, added);
    assert_eq!(read(&newer, &written_with(&newer, &set())).unwrap(), set());
    assert!(read(SCHEMA, &written_with(&newer, &set())).is_err(), "it is not read by luck");
    let manifest = SCHEMA.lines().find(|line| line.contains(r#""manifest""#)).unwrap();
    let older = changed(manifest, "");
    let mut without = set();
    without.versions[0].manifest = None;
    assert_eq!(read(&older, &written_with(&older, &set())).unwrap(), without);
}

#[test]
fn a_newer_form_and_what_contradicts_itself_say_what_they_are() {
    let newer = r#"{"type": "record", "name": "ModelSet", "fields": [{"name": "format", "type": "long"}, {"name": "versions", "type": "int"}]}"#;
    assert_eq!(read(newer, &[4, 0]), Err(SetError::Format(2)));
    let said = |set: &ModelSet| read(SCHEMA, &datum(set)).unwrap_err();
    assert!(matches!(said(&ModelSet::new("../cars")), SetError::Name { .. }));
    let of = |version: Version<'_>| Announcement::try_from(version).unwrap_err();
    let set = set();
    let [first, canary, ..] = &set.versions[..] else { unreachable!() };
    let twice = Version { inline: Some(&[1]), ..Version::from(first) };
    assert_eq!(of(twice), r#"version "1" needs either `uri` or `inline`"#);
    let nowhere = Version { uri: None, ..Version::from(first) };
    assert_eq!(of(nowhere), r#"version "1" needs either `uri` or `inline`"#);
    let manifest = Version { manifest: Some("{".into()), ..Version::from(first) };
    assert!(of(manifest).contains(r#"`manifest` of version "1" is no JSON"#));
    for (kind, percent, weight) in
        [(Kind::Canary, None, None), (Kind::Canary, Some(1.0), Some(1.0)), (Kind::Full, Some(1.0), None)]
    {
        let unclear = Version { rollout: Share { kind, percent, weight }, ..Version::from(canary) };
        assert!(of(unclear).contains(r#"rollout of version "2""#));
    }
    let other = read(r#"{"type": "record", "name": "Other", "fields": []}"#, &[]).unwrap_err();
    assert!(other.to_string().contains("missing field `format`"), "{other}");
    assert!(matches!(read("{", &[]), Err(SetError::Form(_))));
}

#[test]
fn damaged_bytes_are_refused_or_another_set() {
    let (whole, begun) = (datum(&set()), Instant::now());
    for end in 0..whole.len() {
        let error = read(SCHEMA, &whole[..end]).unwrap_err().to_string();
        assert!(error.contains("the bytes end inside the record"), "{error}");
    }
    let mut n_refused = 0;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            n_refused += usize::from(read(SCHEMA, &damaged).is_err());
        }
    }
    assert!(n_refused > whole.len(), "{n_refused} of {}", whole.len() * 8);
    assert!(read(SCHEMA, &[&whole[..], &[0]].concat()).unwrap_err().to_string().contains("1 bytes are left"));
    for short in [&[0][..], &[0, 0, 0, 1]] {
        assert!(unframe(short).unwrap_err().to_string().contains("too short"));
    }
    // A record of nearly 2^62 versions, and a file as long.
    let count = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let head = [&[2, 8][..], b"cars"].concat();
    for claims in [[&head[..], &count].concat(), [&head[..], &[2, 2, b'1', 0, 2], &count].concat()] {
        assert!(read(SCHEMA, &claims).unwrap_err().to_string().contains("bytes end"));
    }
    assert!(begun.elapsed().as_secs() < 60);
}
