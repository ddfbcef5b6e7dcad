//! Everything that may be wrong with a message, between good ones: each goes to the dead letters with its cause, its place and its
//! bytes, is counted by reason, and its neighbours are scored.

use std::collections::BTreeMap;
use std::sync::Arc;

use cars::{Fleet, FleetConfig, Reading, avro, json};
use iotml_core::async_trait;
use iotml_core::decode::{
    ConfluentAvroDecoder, ConfluentAvroDecoderConfig, Decoder, JsonDecoder, JsonDecoderConfig, SchemaResolver,
};
use iotml_core::encode::{JsonEncoder, JsonEncoderConfig};
use iotml_core::error::SchemaRegistryError;
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineOptions, PipelineSpec, Route, TaskStages, Tolerance, header};
use iotml_core::testing::{MemoryLog, MemorySink};
use iotml_model::{OnnxScorer, OnnxScorerConfig};

/// A broken payload (`None` is a tombstone) and the reason it must be given.
type Bad = (&'static str, Option<Vec<u8>>, &'static str);

/// Runs good and bad messages in turn through decoder and model, and checks what became of each.
fn run(good: &[Vec<u8>], bad: Vec<Bad>, decoder: impl Fn() -> Box<dyn Decoder> + Send + Sync + 'static) {
    let (log, scored, letters) = (MemoryLog::default(), MemorySink::new(), MemorySink::new());
    for (good, (name, payload, _)) in good.iter().zip(&bad) {
        log.publish_keyed([(Some(b"good".to_vec()), Some(good.clone()))]);
        log.publish_keyed([(Some(name.as_bytes().to_vec()), payload.clone())]);
    }
    log.end();
    let (source, out, dead) = (log.clone(), scored.clone(), letters.clone());
    let mut spec = PipelineSpec::new("bad-input", move |_| {
        let model = crate::checkout().join("testdata/cars/cars-autoencoder.onnx");
        let encoder = JsonEncoder::new(JsonEncoderConfig::default());
        let route = Route::required("scored", Some(Box::new(encoder)), out.clone());
        Ok(TaskStages {
            scorer: Some(Box::new(OnnxScorer::new(OnnxScorerConfig::new(model))?)),
            dead_letter: Some(dead.clone()),
            ..TaskStages::new(Box::new(source.source(1000)), decoder(), vec![route])
        })
    });
    spec.options = PipelineOptions { tolerance: Tolerance::All, ..PipelineOptions::default() };
    let metrics = Metrics::default();
    let audit = Pipeline::start(spec, metrics.clone()).unwrap().wait().unwrap().audit;
    let n_bad = bad.len() as u64;
    assert_eq!((audit.delivered, audit.dead_lettered, audit.in_flight), (n_bad, n_bad, 0), "{audit}");

    for text in scored.texts() {
        let row: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(row["score"].as_f64().is_some_and(f64::is_finite), "{text}");
    }
    let letters = letters.stored();
    let value =
        |row, name| String::from_utf8(letters.headers().last(row, name).unwrap().value.unwrap().to_vec()).unwrap();
    let mut places = BTreeMap::new();
    for row in 0..letters.len() {
        places.insert(String::from_utf8(letters.key(row).unwrap().to_vec()).unwrap(), row);
    }
    let text = metrics.text().unwrap();
    for (at, (name, payload, reason)) in bad.iter().enumerate() {
        let row = places[*name];
        assert_eq!(value(row, header::REASON), *reason, "{name}: {}", value(row, header::MESSAGE));
        assert_eq!(letters.payload(row), payload.as_deref(), "{name} keeps its bytes");
        assert_eq!(value(row, header::OFFSET), (2 * at + 1).to_string(), "{name} keeps its place");
        assert!(text.contains(&format!("reason=\"{reason}\"")), "{reason} is not counted in\n{text}");
    }
}

fn readings(n: usize) -> Vec<Reading> {
    let mut fleet = Fleet::new(&FleetConfig { n_cars: n as u32, ..FleetConfig::default() });
    fleet.tick().collect()
}

fn json_of(reading: &Reading) -> Vec<u8> {
    let mut payload = Vec::new();
    json::write(reading, &mut payload);
    payload
}

#[test]
fn inv_7_bad_json_between_good() {
    let good: Vec<Vec<u8>> = readings(12).iter().map(json_of).collect();
    let text = String::from_utf8(good[0].clone()).unwrap();
    let with = |field: &str, value: &str| {
        let start = text.find(&format!("\"{field}\":")).unwrap() + field.len() + 3;
        let end = start + text[start..].find([',', '}']).unwrap();
        Some(format!("{}{value}{}", &text[..start], &text[end..]).into_bytes())
    };
    let huge = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20)).into_bytes();
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000)).into_bytes();
    let bad = vec![
        ("truncated", Some(good[0][..good[0].len() / 2].to_vec()), "truncated"),
        ("wrong schema", with("speed", "\"fast\""), "wrong_schema"),
        ("missing", Some(b"{\"speed\": 1}".to_vec()), "missing"),
        ("null", with("speed", "null"), "missing"),
        ("infinite", with("speed", "1e999"), "out_of_range"),
        ("nan", with("speed", "NaN"), "non_finite"),
        ("not utf-8", Some(b"{\"speed\": \"\xff\xfe\"}".to_vec()), "not_utf8"),
        ("empty", Some(Vec::new()), "empty"),
        ("tombstone", None, "empty"),
        ("one megabyte", Some(huge), "oversized"),
        ("deep", Some(deep), "too_deep"),
        ("not an object", Some(b"[1, 2]".to_vec()), "wrong_schema"),
    ];
    run(&good, bad, || {
        let columns =
            cars::FIELDS.map(|name| serde_json::json!({ "name": name, "type": "float32", "nullable": false }));
        let config: JsonDecoderConfig = serde_json::from_value(serde_json::json!({ "columns": columns })).unwrap();
        Box::new(JsonDecoder::new(config).unwrap())
    });
}

/// Knows schema 1 only.
struct OneSchema;

#[async_trait]
impl SchemaResolver for OneSchema {
    async fn resolve(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError> {
        if id == 1 { Ok(avro::CARDATA_V1.into()) } else { Err(SchemaRegistryError::Unknown { id }) }
    }
}

#[test]
fn inv_7_bad_avro_between_good() {
    let framed = |reading: &Reading, id: u32| {
        let mut payload = vec![0];
        payload.extend_from_slice(&id.to_be_bytes());
        avro::write_v1(reading, &mut payload);
        payload
    };
    let readings = readings(9);
    let good: Vec<Vec<u8>> = readings.iter().map(|reading| framed(reading, 1)).collect();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut payload = good[0].clone();
        change(&mut payload);
        Some(payload)
    };
    let bad = vec![
        ("truncated", changed(&|payload| payload.truncate(40)), "truncated"),
        ("only a frame", changed(&|payload| payload.truncate(5)), "truncated"),
        ("wrong magic byte", changed(&|payload| payload[0] = 7), "wrong_magic_byte"),
        ("unknown schema", Some(framed(&readings[0], 99)), "unknown_schema_id"),
        ("trailing bytes", changed(&|payload| payload.push(0)), "trailing_bytes"),
        ("nan", changed(&|payload| payload[5..9].copy_from_slice(&f32::NAN.to_le_bytes())), "non_finite"),
        ("empty", Some(Vec::new()), "empty"),
        ("tombstone", None, "empty"),
        ("one megabyte", changed(&|payload| payload.resize(1 << 20, 0)), "oversized"),
    ];
    run(&good, bad, || {
        Box::new(ConfluentAvroDecoder::new(Arc::new(OneSchema), ConfluentAvroDecoderConfig::default()).unwrap())
    });
}
