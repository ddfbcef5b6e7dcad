use std::collections::BTreeMap;
use std::time::Instant;

use apache_avro::to_avro_datum;
use apache_avro::types::Value;

use super::*;

const SCHEMA: &str = r#"{"type": "record", "name": "Car", "namespace": "it", "fields": [
    {"name": "id", "type": "string"},
    {"name": "speed", "type": ["null", "double"]},
    {"name": "engine", "type": {"type": "record", "name": "Engine", "fields": [
        {"name": "gear", "type": "int"}, {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["PETROL", "OTHER"]}}]}},
    {"name": "spare", "type": ["null", "Engine"]},
    {"name": "trace", "type": "bytes"},
    {"name": "tags", "type": {"type": "map", "values": "long"}},
    {"name": "is_new", "type": "boolean"},
    {"name": "laps", "type": {"type": "array", "items": "float"}},
    {"name": "later", "type": ["string", "Engine"]}
]}"#;

#[derive(Debug, PartialEq, Deserialize)]
struct Car<'a> {
    id: &'a str,
    #[serde(default = "nothing")]
    missing: u8,
    speed: Option<f64>,
    engine: Engine,
    spare: Option<Engine>,
    #[serde(borrow)]
    trace: &'a [u8],
    tags: BTreeMap<String, i64>,
    is_new: bool,
    laps: Vec<f32>,
}

fn nothing() -> u8 {
    7
}

#[derive(Debug, PartialEq, Deserialize)]
struct Engine {
    gear: u32,
    kind: Kind,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Petrol,
    Diesel,
}

fn engine(gear: i32, kind: (u32, &str)) -> Value {
    Value::Record(vec![("gear".into(), Value::Int(gear)), ("kind".into(), Value::Enum(kind.0, kind.1.into()))])
}

fn datum(gear: i32, kind: (u32, &str)) -> Vec<u8> {
    let of = |name: &str, value| (name.to_owned(), value);
    let laps = [1.5, -2.0].map(Value::Float).to_vec();
    let car = Value::Record(vec![
        of("id", Value::String("car1".into())),
        of("speed", Value::Union(1, Box::new(Value::Double(2.5)))),
        of("engine", engine(gear, kind)),
        of("spare", Value::Union(1, Box::new(engine(-gear, kind)))),
        of("trace", Value::Bytes(vec![0, 255])),
        of("tags", Value::Map([("a".to_owned(), Value::Long(-1))].into())),
        of("is_new", Value::Boolean(true)),
        of("laps", Value::Array(laps)),
        of("later", Value::Union(1, Box::new(engine(9, kind)))),
    ]);
    to_avro_datum(&Schema::parse_str(SCHEMA).unwrap(), car).unwrap()
}

fn reader() -> DatumReader {
    DatumReader::new(SCHEMA).unwrap()
}

#[test]
fn fields_are_found_by_name_and_all_others_stepped_over() {
    let datum = datum(0, (0, "PETROL"));
    let car: Car<'_> = reader().read(&datum).unwrap();
    let engine = || Engine { gear: 0, kind: Kind::Petrol };
    assert_eq!(
        car,
        Car {
            id: "car1",
            missing: 7,
            speed: Some(2.5),
            engine: engine(),
            spare: Some(engine()),
            trace: &[0, 255],
            tags: [("a".to_owned(), -1)].into(),
            is_new: true,
            laps: vec![1.5, -2.0],
        }
    );
}

#[test]
fn what_does_not_fit_the_type_says_why() {
    let said = |gear, kind| reader().read::<Car<'_>>(&datum(gear, kind)).unwrap_err().to_string();
    assert_eq!(said(3, (0, "PETROL")), "invalid value: integer `-3`, expected u32");
    assert_eq!(said(0, (1, "OTHER")), "unknown variant `OTHER`, expected `PETROL` or `DIESEL`");
    let lacking = DatumReader::new(r#"{"type": "record", "name": "R", "fields": []}"#).unwrap();
    assert_eq!(lacking.read::<Car<'_>>(&[]).unwrap_err().to_string(), "missing field `id`");
}

#[test]
fn damaged_bytes_are_refused_or_another_datum() {
    let (reader, whole) = (reader(), datum(0, (0, "PETROL")));
    for end in 0..whole.len() {
        assert_eq!(reader.read::<Car<'_>>(&whole[..end]), Err(DatumError("the bytes end inside the record".into())));
    }
    let mut n_refused = 0;
    for at in 0..whole.len() {
        for byte in 0..=u8::MAX {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            n_refused += u32::from(reader.read::<Car<'_>>(&damaged).is_err());
            damaged.push(0);
            assert!(reader.read::<Car<'_>>(&damaged).is_err() || byte != whole[at], "bytes are left");
        }
    }
    assert!(n_refused > 0);
}

#[test]
fn a_few_bytes_cost_no_more_than_a_few_bytes() {
    let begun = Instant::now();
    let nulls = DatumReader::new(r#"{"type": "array", "items": "null"}"#).unwrap();
    // A count of nearly 2^62, in both forms, and no items.
    let count: &[u8] = &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(nulls.read::<Vec<()>>(count).unwrap_err().to_string().contains("100000 values"));
    let numbers = DatumReader::new(r#"{"type": "array", "items": "long"}"#).unwrap();
    let negative = [&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 2][..], &[2]].concat();
    for datum in [count, &negative] {
        assert!(numbers.read::<Vec<i64>>(datum).unwrap_err().to_string().contains("bytes end"));
    }
    let text = DatumReader::new(r#""bytes""#).unwrap();
    assert!(text.read::<Vec<u8>>(count).is_err());
    // A type that contains itself, and types that contain ten of each other.
    let nested = r#"{"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"]}]}"#;
    let nested = DatumReader::new(nested).unwrap();
    let deep = nested.read::<serde::de::IgnoredAny>(&[2; 1_000_000]).unwrap_err().to_string();
    assert!(deep.contains("deeper than 64"), "{deep}");
    let ten = |inner: &str| {
        let fields = (1..10).map(|n| format!(r#", {{"name": "f{n}", "type": "{inner}"}}"#)).collect::<String>();
        move |of: &str, name: &str| {
            format!(r#"{{"type": "record", "name": "{name}", "fields": [{{"name": "f0", "type": {of}}}{fields}]}}"#)
        }
    };
    let schema = (0..12)
        .fold(ten("null")(r#""null""#, "T0"), |schema, n| ten(&format!("T{n}"))(&schema, &format!("T{}", n + 1)));
    let many = DatumReader::new(&schema).unwrap().read::<serde::de::IgnoredAny>(&[]).unwrap_err().to_string();
    assert!(many.contains("100000 values"), "{many}");
    assert!(begun.elapsed().as_secs() < 20);
}
