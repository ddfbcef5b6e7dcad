//! The Avro decoders; apache-avro and arrow-avro are the oracles.

mod cells;
mod oracle;
mod types;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use apache_avro::types::Value;
use apache_avro::{Schema, to_avro_datum};
use iotml_core::arrow::array::AsArray;
use iotml_core::arrow::datatypes::Float32Type;
use iotml_core::decode::{
    AvroDecoder, AvroDecoderConfig, ColumnConfig, ColumnType, ConfluentAvroDecoder, ConfluentAvroDecoderConfig,
    DecodeError, Decoder, SchemaResolver,
};
use iotml_core::error::{Class, Reason, SchemaRegistryError};
use iotml_core::testing::decode::{Samples, conforms};
use iotml_core::testing::rows::{Fate, fates, raw_batch, rows};

use cells::{Cell, decoded, decoder};

const CAR_V1: &str = r#"{"type": "record", "name": "Car", "namespace": "test", "fields": [
    {"name": "speed", "type": "float"}, {"name": "pressure", "type": "int"}, {"name": "id", "type": "string"}]}"#;
const CAR_V2: &str = r#"{"type": "record", "name": "Car", "namespace": "test", "fields": [
    {"name": "id", "type": "string"}, {"name": "speed", "type": "double"},
    {"name": "failure", "type": ["null", "string"], "default": null}, {"name": "pressure", "type": "int"}]}"#;

/// A registry in memory that counts how often it is asked.
#[derive(Default)]
struct Shelf {
    schemas: HashMap<u32, &'static str>,
    down: Mutex<bool>,
    asked: Mutex<Vec<u32>>,
}

#[iotml_core::async_trait]
impl SchemaResolver for Shelf {
    async fn resolve(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError> {
        self.asked.lock().unwrap().push(id);
        if *self.down.lock().unwrap() {
            return Err(SchemaRegistryError::Unavailable { source: "connection refused".into() });
        }
        match id {
            9 => Err(SchemaRegistryError::Unusable { id, message: "it is of type PROTOBUF".into() }),
            _ => self.schemas.get(&id).map(|json| Arc::from(*json)).ok_or(SchemaRegistryError::Unknown { id }),
        }
    }
}

fn shelf() -> Arc<Shelf> {
    Arc::new(Shelf { schemas: HashMap::from([(1, CAR_V1), (2, CAR_V2), (3, "{nonsense")]), ..Shelf::default() })
}

fn confluent(shelf: &Arc<Shelf>) -> ConfluentAvroDecoder {
    ConfluentAvroDecoder::new(shelf.clone(), ConfluentAvroDecoderConfig::default()).unwrap()
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

fn v1(speed: f32, pressure: i32, id: &str) -> Vec<u8> {
    let fields = vec![
        ("speed".into(), Value::Float(speed)),
        ("pressure".into(), Value::Int(pressure)),
        ("id".into(), Value::String(id.into())),
    ];
    to_avro_datum(&Schema::parse_str(CAR_V1).unwrap(), Value::Record(fields)).unwrap()
}

fn v2(speed: f64, pressure: i32, id: &str, failure: Option<&str>) -> Vec<u8> {
    let failure = match failure {
        Some(text) => Value::Union(1, Box::new(Value::String(text.into()))),
        None => Value::Union(0, Box::new(Value::Null)),
    };
    let fields = vec![
        ("id".into(), Value::String(id.into())),
        ("speed".into(), Value::Double(speed)),
        ("failure".into(), failure),
        ("pressure".into(), Value::Int(pressure)),
    ];
    to_avro_datum(&Schema::parse_str(CAR_V2).unwrap(), Value::Record(fields)).unwrap()
}

#[tokio::test]
async fn plain_avro_conforms() {
    let long = v1(1.0, 2, &"x".repeat(600_000));
    let mut not_text = v1(1.0, 2, "ab");
    *not_text.last_mut().unwrap() = 0xff;
    let samples = Samples {
        good: vec![v1(1.5, 30, "car-1"), v1(-2.5, 1_000_000, ""), v1(f32::NAN, -1, "é")],
        bad: vec![
            (None, Reason::Empty),
            (Some(vec![]), Reason::Empty),
            (Some(vec![1, 2, 3]), Reason::Truncated),
            (Some([v1(1.0, 2, "a"), vec![0]].concat()), Reason::TrailingBytes),
            (Some(long), Reason::Oversized),
            (Some(not_text), Reason::NotUtf8),
            (Some(vec![0, 0, 0, 0, 2, 0x80, 0x80, 0x80, 0x80, 0x10]), Reason::Truncated),
            (Some(vec![0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]), Reason::Malformed),
            (Some(vec![0, 0, 0, 0, 2, 1]), Reason::Malformed),
        ],
    };
    conforms(|| decoder(CAR_V1), &samples).await;
}

#[tokio::test]
async fn confluent_avro_conforms() {
    let shelf = shelf();
    let samples = Samples {
        good: vec![framed(1, &v1(1.5, 30, "car-1")), framed(2, &v2(2.5, 31, "car-2", Some("true")))],
        bad: vec![
            (None, Reason::Empty),
            (Some(vec![]), Reason::Empty),
            (Some(vec![0, 0, 0]), Reason::Truncated),
            (Some(vec![7, 0, 0, 0, 1, 2]), Reason::WrongMagicByte),
            (Some(framed(1, &[])), Reason::Truncated),
            (Some(framed(77, &v1(1.0, 2, "a"))), Reason::UnknownSchemaId),
            (Some(framed(9, &v1(1.0, 2, "a"))), Reason::WrongSchema),
            (Some(framed(3, &v1(1.0, 2, "a"))), Reason::WrongSchema),
            (Some(framed(1, &[v1(1.0, 2, "a"), vec![0]].concat())), Reason::TrailingBytes),
        ],
    };
    conforms(|| confluent(&shelf), &samples).await;
}

#[tokio::test]
async fn each_schema_is_fetched_once_and_later_ones_add_columns() {
    let shelf = shelf();
    let mut decoder = confluent(&shelf);
    let raw = raw_batch([framed(1, &v1(1.5, 30, "a")), framed(2, &v2(0.1, 31, "b", Some("true")))].map(Some));
    for _ in 0..3 {
        decoder.prepare(&raw).await.unwrap();
        let output = decoder.decode(&raw).unwrap();
        let names: Vec<_> = output.batch.columns().schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["speed", "pressure", "id", "failure"]);
        let speed = output.batch.column("speed").unwrap().as_primitive::<Float32Type>();
        assert_eq!(speed.values().as_ref(), [1.5, 0.1], "a double is cast to the type seen first");
        let found = rows(&output.batch);
        assert_eq!(found[0].get("failure"), None);
        assert_eq!(found[1]["failure"], "true");
    }
    assert_eq!(*shelf.asked.lock().unwrap(), [1, 2]);
}

#[tokio::test]
async fn a_registry_that_is_down_is_retried_and_an_unknown_id_is_not_asked_for_again_at_once() {
    let shelf = shelf();
    let mut decoder = confluent(&shelf);
    let raw = raw_batch([Some(framed(1, &v1(1.5, 30, "a"))), Some(framed(50, &[1]))]);
    *shelf.down.lock().unwrap() = true;
    let error = decoder.prepare(&raw).await.unwrap_err();
    assert_eq!(error.class(), Class::Retryable);
    assert!(matches!(&error, DecodeError::Retryable { message, .. } if message.contains("schema 1")), "{error}");
    *shelf.down.lock().unwrap() = false;
    decoder.prepare(&raw).await.unwrap();
    decoder.prepare(&raw).await.unwrap();
    let found = fates(&[0, 1], &decoder.decode(&raw).unwrap());
    assert!(matches!(&found[0], Fate::Kept(_)));
    assert_eq!(found[1], Fate::Rejected(Reason::UnknownSchemaId));
    let asked = shelf.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|id| **id == 50).count(), 1 + usize::from(asked[1] == 50), "{asked:?}");
}

/// A thousand rows under random ids, and in between three of a schema that exists and one of another.
#[tokio::test]
async fn inv_7_random_ids_cost_a_bounded_number_of_requests_and_hide_no_schema() {
    let shelf = shelf();
    let config = ConfluentAvroDecoderConfig { max_unknown_ids: 20, ..ConfluentAvroDecoderConfig::default() };
    let mut decoder = ConfluentAvroDecoder::new(shelf.clone(), config).unwrap();
    let random = (0..1_000u32).map(|n| framed(n.wrapping_mul(2_654_435_761) | 1 << 20, &[1]));
    let mut payloads: Vec<_> = random.collect();
    for (at, payload) in [(300, v1(1.0, 1, "a")), (500, v1(2.0, 2, "b")), (990, v1(3.0, 3, "c"))] {
        payloads[at] = framed(1, &payload);
    }
    payloads[999] = framed(2, &v2(4.0, 4, "d", None));
    let raw = raw_batch(payloads.into_iter().map(Some));
    let positions: Vec<_> = (0..1_000).collect();
    for round in 1..=2 {
        decoder.prepare(&raw).await.unwrap();
        let found = fates(&positions, &decoder.decode(&raw).unwrap());
        let count = |fate: Fate| found.iter().filter(|found| **found == fate).count();
        assert_eq!(
            count(Fate::Rejected(Reason::UnknownSchemaId)),
            20 * round,
            "what the registry has said, and no more"
        );
        assert_eq!(count(Fate::Rejected(Reason::SchemaNotAsked)), 996 - 20 * round);
        assert!([300, 500, 990, 999].iter().all(|row| matches!(found[*row], Fate::Kept(_))));
        // Requests on their way when the limit is reached are not waited for.
        let n_asked = shelf.asked.lock().unwrap().len();
        assert!(n_asked <= 2 + round * (20 + 8), "{n_asked} requests after {round} batches");
    }
}

#[test]
fn wanted_columns_come_in_the_order_and_types_asked_for() {
    let mut config = AvroDecoderConfig::new(CAR_V2);
    config.columns = Some(vec![
        ColumnConfig::new("pressure", ColumnType::Float32),
        ColumnConfig::new("failure", ColumnType::Boolean),
        ColumnConfig::named("speed"),
        ColumnConfig::new("humidity", ColumnType::Float32),
    ]);
    let data = [v2(0.5, 30, "a", Some("true")), v2(0.5, 30, "a", Some("maybe")), v2(0.5, 30, "a", None)];
    let output = AvroDecoder::new(config).unwrap().decode(&raw_batch(data.map(Some))).unwrap();
    assert_eq!(output.rejected.len(), 1);
    assert_eq!(output.rejected[0].cause.to_string(), "malformed: column \"failure\": neither true nor false");
    let found = decoded(&output.batch, 0);
    assert_eq!(found["pressure"], Cell::F32(30f32.to_bits()));
    assert_eq!(found["failure"], Cell::Bool(true));
    assert_eq!(found["speed"], Cell::F64(0.5f64.to_bits()));
    assert_eq!(found["humidity"], Cell::Null);
    assert_eq!(decoded(&output.batch, 1)["failure"], Cell::Null);
}

#[test]
fn a_required_column_rejects_rows_without_a_value() {
    let mut config = AvroDecoderConfig::new(CAR_V2);
    config.columns = Some(vec![ColumnConfig { nullable: false, ..ColumnConfig::named("failure") }]);
    let data = [v2(0.5, 30, "a", Some("x")), v2(0.5, 30, "a", None)];
    let output = AvroDecoder::new(config).unwrap().decode(&raw_batch(data.map(Some))).unwrap();
    assert_eq!(output.rejected.len(), 1);
    assert_eq!(output.rejected[0].cause.reason, Reason::Missing);
    assert!(!output.batch.columns().schema().field(0).is_nullable());
}

#[test]
fn wrong_configuration_says_what_is_there() {
    let mut config = AvroDecoderConfig::new(CAR_V1);
    config.columns = Some(vec![ColumnConfig::named("sped")]);
    let error = AvroDecoder::new(config.clone()).err().unwrap().to_string();
    assert!(error.contains("\"sped\"") && error.contains("speed, pressure, id"), "{error}");
    config.columns = Some(vec![ColumnConfig::new("speed", ColumnType::Date)]);
    let error = AvroDecoder::new(config).err().unwrap().to_string();
    assert!(error.contains("is float in the writer's schema and cannot become Date"), "{error}");
    assert!(AvroDecoder::new(AvroDecoderConfig::new("{")).is_err());
    assert!(AvroDecoder::new(AvroDecoderConfig::new(r#"{"type": "record"}"#)).is_err());
}

#[test]
fn a_type_within_itself_is_stepped_over_to_a_limit() {
    let schema = r#"{"type": "record", "name": "Node", "fields": [
        {"name": "a", "type": "int"}, {"name": "next", "type": ["null", "Node"]}, {"name": "b", "type": "int"}]}"#;
    // Each level is: a, branch 1, ... branch 0, b.
    let nested = |depth: usize| [[2, 2].repeat(depth), vec![2, 0], [4].repeat(depth + 1)].concat();
    let raw = raw_batch([nested(0), nested(3), nested(64), nested(70), nested(100_000)].map(Some));
    let output = decoder(schema).decode(&raw).unwrap();
    let reasons: Vec<_> = output.rejected.iter().map(|r| (r.row, r.cause.reason)).collect();
    assert_eq!(reasons, [(3, Reason::TooDeep), (4, Reason::TooDeep)]);
    for row in 0..3 {
        assert_eq!(decoded(&output.batch, row)["b"], Cell::Int(2), "row {row}");
    }
}

#[test]
fn blocks_with_sizes_are_stepped_over_and_huge_counts_cost_nothing() {
    let schema = r#"{"type": "record", "name": "R", "fields": [
        {"name": "nulls", "type": {"type": "array", "items": "null"}},
        {"name": "texts", "type": {"type": "array", "items": "string"}}, {"name": "last", "type": "int"}]}"#;
    let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let sized = [&huge[..], &[0], &[3, 4, 0, 2], &[0], &[6]].concat();
    let endless = [&[0][..], &huge, &[0, 0, 0]].concat();
    let output = decoder(schema).decode(&raw_batch([Some(sized), Some(endless)])).unwrap();
    assert_eq!(decoded(&output.batch, 0)["last"], Cell::Int(3));
    assert_eq!(output.rejected[0].cause.reason, Reason::Truncated);
}
