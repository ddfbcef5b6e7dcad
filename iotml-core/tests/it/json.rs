//! The JSON decoder.

use iotml_core::decode::{ColumnConfig, ColumnType, Decoder, JsonDecoder, JsonDecoderConfig, UnknownFields};
use iotml_core::error::Reason;
use iotml_core::testing::decode::{Samples, conforms};
use iotml_core::testing::rows::{Fate, fates, raw_batch, rows};
use proptest::prelude::*;

fn columns() -> Option<Vec<ColumnConfig>> {
    Some(vec![
        ColumnConfig { nullable: false, ..ColumnConfig::new("speed", ColumnType::Float32) },
        ColumnConfig::new("engine.temp", ColumnType::Float64),
        ColumnConfig::new("engine.id", ColumnType::Utf8),
        ColumnConfig::new("firmware", ColumnType::Int32),
        ColumnConfig::new("at", ColumnType::TimestampMillis),
        ColumnConfig::new("blob", ColumnType::Binary),
    ])
}

fn configured() -> JsonDecoder {
    JsonDecoder::new(JsonDecoderConfig { columns: columns(), ..JsonDecoderConfig::default() }).unwrap()
}

fn inferring() -> JsonDecoder {
    JsonDecoder::new(JsonDecoderConfig::default()).unwrap()
}

fn one(mut decoder: JsonDecoder, payload: &str) -> Fate {
    fates(&[0], &decoder.decode(&raw_batch([Some(payload)])).unwrap()).remove(0)
}

fn value(decoder: JsonDecoder, payload: &str, column: &str) -> Option<String> {
    match one(decoder, payload) {
        Fate::Kept(rows) => rows[0].get(column).cloned(),
        other => panic!("{payload}: {other:?}"),
    }
}

/// Messages that no decoder of JSON objects takes.
fn bad() -> Vec<(Option<Vec<u8>>, Reason)> {
    let mut cases: Vec<(Option<Vec<u8>>, Reason)> = [
        ("", Reason::Empty),
        (r#"{"speed": 1"#, Reason::Truncated),
        (r#"{"speed": "#, Reason::Truncated),
        (r#"{"speed": 1} {"speed": 2}"#, Reason::TrailingBytes),
        (r#"{"speed": NaN}"#, Reason::NonFinite),
        (r#"{"speed": 1, "x": -Infinity}"#, Reason::NonFinite),
        ("{\"speed\":\n Infinity}", Reason::NonFinite),
        (r#"{"speed": 1e999}"#, Reason::OutOfRange),
        (r#"{"speed": 1, "speed": 2}"#, Reason::Malformed),
        (r#"{speed: 1}"#, Reason::Malformed),
        (r#"[1]"#, Reason::WrongSchema),
        (r#"null"#, Reason::WrongSchema),
        (r#"3"#, Reason::WrongSchema),
        (r#"{"speed": "fast"}"#, Reason::WrongSchema),
        (r#"{"speed": {"x": 1}}"#, Reason::WrongSchema),
        (r#"{"speed": [1]}"#, Reason::WrongSchema),
    ]
    .map(|(text, reason)| (Some(text.as_bytes().to_vec()), reason))
    .to_vec();
    cases.push((None, Reason::Empty));
    cases.push((Some(b"{\"speed\": 1, \"name\": \"\xff\"}".to_vec()), Reason::NotUtf8));
    cases.push((
        Some(format!("{{\"speed\": 1, \"x\": \"{}\"}}", "x".repeat(1_000_000)).into_bytes()),
        Reason::Oversized,
    ));
    for depth in [40, 50_000] {
        let deep = format!("{{\"speed\": 1, \"deep\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        cases.push((Some(deep.into_bytes()), Reason::TooDeep));
        let deep = format!("{{\"speed\": 1, \"deep\": {}1{}}}", "{\"a\":".repeat(depth), "}".repeat(depth));
        cases.push((Some(deep.into_bytes()), Reason::TooDeep));
    }
    cases
}

#[tokio::test]
async fn json_with_configured_columns_conforms() {
    let good = [
        r#"{"speed": 12.5, "engine": {"temp": 90, "id": "e\n1"}, "firmware": 2000, "unknown": [1, {"a": null}]}"#,
        r#"{"firmware": 1000.0, "speed": 3, "at": "2026-01-31T12:00:00Z", "engine": null, "blob": "AQI="}"#,
        r#" {"speed": -0.0, "engine": {"id": null}} "#,
    ];
    let mut bad = bad();
    for (text, reason) in [
        (r#"{}"#, Reason::Missing),
        (r#"{"speed": null}"#, Reason::Missing),
        (r#"{"speed": 1, "firmware": 1.5}"#, Reason::WrongSchema),
        (r#"{"speed": 1, "firmware": 3000000000}"#, Reason::OutOfRange),
        (r#"{"speed": 1, "at": "noon"}"#, Reason::Malformed),
        (r#"{"speed": 1, "blob": "?"}"#, Reason::Malformed),
        (r#"{"speed": 1e300}"#, Reason::OutOfRange),
    ] {
        bad.push((Some(text.as_bytes().to_vec()), reason));
    }
    let good = good.map(|text| text.as_bytes().to_vec()).to_vec();
    conforms(configured, &Samples { good, bad }).await;
}

#[tokio::test]
async fn json_with_inferred_columns_conforms() {
    let good = [r#"{"speed": 1, "ok": true, "name": "a", "engine": {"temp": 2.5}}"#, r#"{"engine": {}, "speed": 2}"#];
    let good = good.map(|text| text.as_bytes().to_vec()).to_vec();
    conforms(inferring, &Samples { good, bad: bad() }).await;
}

#[test]
fn columns_are_inferred_from_the_first_row_that_decodes() {
    let mut decoder = inferring();
    let payloads = [
        "garbage",
        r#"{"b": 1, "b": 2, "never": "seen"}"#,
        r#"{"b": 1, "a": "x", "deep": {"c": true}, "later": null, "list": [1]}"#,
        r#"{"a": "y", "b": 2.5, "later": 4}"#,
    ];
    let output = decoder.decode(&raw_batch(payloads.map(Some))).unwrap();
    let schema = output.batch.columns().schema();
    let found: Vec<String> = schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
    assert_eq!(found, ["b: Float64", "a: Utf8", "deep.c: Boolean"]);
    assert_eq!(output.rejected.iter().map(|r| r.row).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(rows(&output.batch)[1]["b"], "2.5");
}

#[test]
fn options_decide_on_unknown_fields_and_on_numbers_as_text() {
    let strict = || {
        let config =
            JsonDecoderConfig { columns: columns(), unknown_fields: UnknownFields::Reject, ..Default::default() };
        JsonDecoder::new(config).unwrap()
    };
    assert_eq!(one(strict(), r#"{"speed": 1, "x": 1}"#), Fate::Rejected(Reason::WrongSchema));
    assert_eq!(one(strict(), r#"{"speed": 1, "engine": {"x": 1}}"#), Fate::Rejected(Reason::WrongSchema));
    assert_eq!(value(strict(), r#"{"speed": 1}"#, "speed").as_deref(), Some("1.0"));
    let parsing =
        || JsonDecoder::new(JsonDecoderConfig { columns: columns(), parse_text: true, ..Default::default() }).unwrap();
    assert_eq!(value(parsing(), r#"{"speed": "1.5", "firmware": " 7"}"#, "speed").as_deref(), Some("1.5"));
    assert_eq!(one(parsing(), r#"{"speed": "NaN"}"#), Fate::Rejected(Reason::NonFinite));
    assert_eq!(one(parsing(), r#"{"speed": "x"}"#), Fate::Rejected(Reason::Malformed));
}

#[test]
fn wrong_configuration_is_refused() {
    let untyped = JsonDecoderConfig { columns: Some(vec![ColumnConfig::named("a")]), ..Default::default() };
    assert!(JsonDecoder::new(untyped).err().unwrap().to_string().contains("\"a\" needs a type"));
    assert!(JsonDecoder::new(JsonDecoderConfig { max_depth: 500, ..Default::default() }).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn floats_come_back_as_serde_json_reads_them(values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..20)) {
        let mut decoder = inferring();
        let payloads: Vec<String> = values.iter().map(|v| serde_json::json!({ "v": v }).to_string()).collect();
        let output = decoder.decode(&raw_batch(payloads.iter().map(Some))).unwrap();
        prop_assert!(output.rejected.is_empty());
        let column = output.batch.column("v").unwrap();
        let column = iotml_core::arrow::array::AsArray::as_primitive::<iotml_core::arrow::datatypes::Float64Type>(column);
        prop_assert_eq!(column.values().to_vec(), values);
    }

    #[test]
    fn random_text_never_panics(text in "[\\[\\]{}:,\"a-c0-9eE.\\\\ u+-]{0,60}") {
        let output = inferring().decode(&raw_batch([Some(&text)])).unwrap();
        prop_assert_eq!(output.batch.len() + output.rejected.len(), 1);
        let output = configured().decode(&raw_batch([Some(&text)])).unwrap();
        prop_assert_eq!(output.batch.len() + output.rejected.len(), 1);
    }
}
