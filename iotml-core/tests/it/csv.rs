//! The CSV decoder.

use iotml_core::decode::{ColumnConfig, ColumnType, CsvDecoder, CsvDecoderConfig, Decoder};
use iotml_core::error::Reason;
use iotml_core::testing::decode::{Samples, conforms};
use iotml_core::testing::rows::{raw_batch, rows};

fn configured() -> CsvDecoder {
    CsvDecoder::new(CsvDecoderConfig {
        fields: Some(["time", "car", "speed", "ok"].map(String::from).to_vec()),
        columns: Some(vec![
            ColumnConfig::new("car", ColumnType::Utf8),
            ColumnConfig { nullable: false, ..ColumnConfig::new("speed", ColumnType::Float32) },
            ColumnConfig::new("ok", ColumnType::Boolean),
        ]),
        ..CsvDecoderConfig::default()
    })
    .unwrap()
}

fn with_header() -> CsvDecoder {
    CsvDecoder::new(CsvDecoderConfig { header: true, delimiter: ';', null: "-".into(), ..Default::default() }).unwrap()
}

fn payloads(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn csv_with_configured_columns_conforms() {
    let good = payloads(&["1,car-1,12.5,true", "2,\"a \"\"quoted\"\", car\",-3,\r\n", "3,,1e3,0\n"]);
    let mut bad: Vec<(Option<Vec<u8>>, Reason)> = [
        ("", Reason::Empty),
        ("\n\n", Reason::Empty),
        ("1,car-1,12.5", Reason::WrongSchema),
        ("1,car-1,12.5,true,9", Reason::WrongSchema),
        ("1,car-1,,true", Reason::Missing),
        ("1,car-1,fast,true", Reason::Malformed),
        ("1,car-1,NaN,true", Reason::NonFinite),
        ("1,car-1,-inf,true", Reason::NonFinite),
        ("1,car-1,1e300,true", Reason::OutOfRange),
        ("1,car-1,12.5,maybe", Reason::Malformed),
        ("1,car-1,12.5,true\n2,car-2,12.5,true", Reason::TrailingBytes),
    ]
    .map(|(text, reason)| (Some(text.as_bytes().to_vec()), reason))
    .to_vec();
    bad.push((None, Reason::Empty));
    bad.push((Some(b"1,\xff\xfe,1,true".to_vec()), Reason::NotUtf8));
    bad.push((Some(vec![b','; 600_000]), Reason::Oversized));
    bad.push((Some(vec![b','; 10_000]), Reason::Oversized));
    conforms(configured, &Samples { good, bad }).await;
}

#[tokio::test]
async fn csv_with_a_header_conforms() {
    let good = payloads(&["speed;car;ok\n1.5;a;true", "car;speed\nb;2\n", "ok;car;speed\n-;\"x;y\";-"]);
    let bad = vec![
        (Some(b"speed;car\n1;2;3".to_vec()), Reason::WrongSchema),
        (Some(b"speed;car".to_vec()), Reason::Empty),
        (Some(b"\xff;car\n1;2".to_vec()), Reason::NotUtf8),
    ];
    conforms(with_header, &Samples { good, bad }).await;
}

#[test]
fn types_are_inferred_and_names_found_in_any_order() {
    let raw = raw_batch(payloads(&["speed;car;ok\n1.5;a;true", "car;speed;new\nb;2;9\n"]).into_iter().map(Some));
    let output = with_header().decode(&raw).unwrap();
    let schema = output.batch.columns().schema();
    let found: Vec<String> = schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
    assert_eq!(found, ["speed: Float64", "car: Utf8", "ok: Boolean"]);
    let found = rows(&output.batch);
    assert_eq!((found[1]["speed"].as_str(), found[1]["car"].as_str(), found[1].get("ok")), ("2.0", "b", None));
}

#[test]
fn wrong_configuration_is_refused() {
    let refuse = |config| CsvDecoder::new(config).err().unwrap().to_string();
    assert!(refuse(CsvDecoderConfig::default()).contains("name the fields"));
    let both = CsvDecoderConfig { header: true, fields: Some(vec!["a".into()]), ..Default::default() };
    assert!(refuse(both).contains("leave one out"));
    let unknown = CsvDecoderConfig {
        fields: Some(vec!["a".into()]),
        columns: Some(vec![ColumnConfig::new("b", ColumnType::Utf8)]),
        ..Default::default()
    };
    assert!(refuse(unknown).contains("\"b\" is none of the fields a"));
    let wide = CsvDecoderConfig { header: true, delimiter: '→', ..Default::default() };
    assert!(refuse(wide).contains("one ASCII character"));
}
