//! The encoders.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use iotml_core::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, FixedSizeListArray, Float32Array, Float64Array,
    Int8Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray, UInt64Array,
};
use iotml_core::arrow::datatypes::{DataType, Field, Float32Type, Int32Type};
use iotml_core::batch::{Batch, Coordinate, Lane, Message, Position, RawBatch, RawMessage};
use iotml_core::decode::{
    AvroDecoder, AvroDecoderConfig, ConfluentAvroDecoder, ConfluentAvroDecoderConfig, Decoder, SchemaResolver,
};
use iotml_core::encode::{
    AvroEncoder, AvroEncoderConfig, Compatibility, ConfluentAvroEncoder, ConfluentAvroEncoderConfig, Encoder,
    JsonEncoder, JsonEncoderConfig, NonFinite, Nulls, RawEncoder, Registration, SchemaRegistrar, Times,
};
use iotml_core::error::{Class, Reason, SchemaRegistryError};
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use iotml_core::testing::encode::conforms;
use iotml_core::testing::rows::{batch_of, raw_batch, rows};

fn all_types() -> RecordBatch {
    let scores = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        [Some([Some(0.5), Some(1.5)]), None, Some([None, Some(2.0)])],
        2,
    );
    let models: DictionaryArray<Int32Type> = [Some("auto"), Some("auto"), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("f32", Arc::new(Float32Array::from(vec![0.1, -2.0, f32::NAN])), false),
        ("f64", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(1e300)])), true),
        ("small", Arc::new(Int8Array::from(vec![-1, 0, 1])), false),
        ("i32", Arc::new(Int32Array::from(vec![Some(1), None, Some(i32::MIN)])), true),
        ("i64", Arc::new(Int64Array::from(vec![i64::MAX, 0, i64::MIN])), false),
        ("u64", Arc::new(UInt64Array::from(vec![0, 7, u64::MAX])), false),
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])), true),
        ("text", Arc::new(StringArray::from(vec![Some("a\"b\n"), Some(""), None])), true),
        ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[1, 2]), None, Some(&[])])), true),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(20_000), None])), true),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![Some(1_500), Some(-1), None]).with_timezone("UTC")), true),
        ("scores", Arc::new(scores), true),
        ("model", Arc::new(models), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn texts(encoder: &mut impl Encoder, batch: &Batch) -> Vec<String> {
    let encoded = encoder.encode(batch).unwrap();
    (0..batch.len())
        .map(|row| String::from_utf8_lossy(encoded.messages.payload(row).unwrap_or_default()).into())
        .collect()
}

#[tokio::test]
async fn json_conforms() {
    let batch = batch_of(all_types());
    conforms(|| JsonEncoder::new(JsonEncoderConfig::default()), &batch).await;
    let strict = JsonEncoderConfig { non_finite: NonFinite::Reject, nulls: Nulls::Omit, ..Default::default() };
    conforms(|| JsonEncoder::new(strict.clone()), &batch).await;
}

#[tokio::test]
async fn raw_conforms_and_passes_the_payload_on() {
    conforms(|| RawEncoder, &batch_of(all_types())).await;
    let batch = Batch::undecoded(raw_batch([Some("a"), None, Some("")])).take(&[2, 1, 0]).unwrap();
    let encoded = RawEncoder.encode(&batch).unwrap();
    let payloads: Vec<_> = (0..3).map(|row| encoded.messages.payload(row)).collect();
    assert_eq!(payloads, [Some(&b""[..]), None, Some(b"a")]);
}

#[test]
fn json_is_written_with_the_shortest_numbers() {
    let mut encoder = JsonEncoder::new(JsonEncoderConfig::default());
    let found = texts(&mut encoder, &batch_of(all_types()));
    let first = r#"{"f32":0.1,"f64":0.1,"small":-1,"i32":1,"i64":9223372036854775807,"u64":0,"bool":true,"text":"a\"b\n","bytes":"AQI=","day":"1970-01-01","at":1500,"scores":[0.5,1.5],"model":"auto"}"#;
    assert_eq!(found[0], first);
    let third = r#"{"f32":null,"f64":1e+300,"small":1,"i32":-2147483648,"i64":-9223372036854775808,"u64":18446744073709551615,"bool":null,"text":null,"bytes":"","day":null,"at":null,"scores":[null,2.0],"model":null}"#;
    assert_eq!(found[2], third);
    for text in found {
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

#[test]
fn json_options_choose_columns_nulls_times_and_envelope() {
    let config = r#"{"columns": ["at", "text", "i32"], "nulls": "omit", "times": "rfc3339", "key_field": "car", "time_field": "ms"}"#;
    let mut encoder = JsonEncoder::new(serde_json::from_str(config).unwrap());
    let found = texts(&mut encoder, &batch_of(all_types()));
    assert_eq!(found[0], r#"{"car":"key-0","ms":0,"at":"1970-01-01T00:00:01.500Z","text":"a\"b\n","i32":1}"#);
    assert_eq!(found[2], r#"{"car":"key-2","ms":2,"i32":-2147483648}"#);
    let nested: ArrayRef = Arc::new(StructArray::from(vec![(
        Arc::new(Field::new("x", DataType::Float32, true)),
        Arc::new(Float32Array::from(vec![Some(1.0), None])) as ArrayRef,
    )]));
    let batch = batch_of(RecordBatch::try_from_iter([("point", nested)]).unwrap());
    let mut encoder = JsonEncoder::new(JsonEncoderConfig::default());
    assert_eq!(texts(&mut encoder, &batch), [r#"{"point":{"x":1.0}}"#, r#"{"point":{"x":null}}"#]);
    let mut encoder = JsonEncoder::new(JsonEncoderConfig { columns: Some(vec!["y".into()]), ..Default::default() });
    let error = encoder.encode(&batch).unwrap_err();
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (Class::Fatal, "there is no column \"y\": there are point")
    );
    let reject = JsonEncoderConfig { non_finite: NonFinite::Reject, times: Times::Millis, ..Default::default() };
    let encoded = JsonEncoder::new(reject).encode(&batch_of(all_types())).unwrap();
    let rejected: Vec<_> = encoded.rejected.iter().map(|r| (r.row, r.cause.reason)).collect();
    assert_eq!(rejected, [(2, Reason::NonFinite)]);
}

#[test]
fn json_tells_when_a_row_was_encoded() {
    let config = r#"{"columns": ["i32"], "encoded_field": "written"}"#;
    let mut encoder = JsonEncoder::new(serde_json::from_str(config).unwrap());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let before = now();
    let found = texts(&mut encoder, &batch_of(all_types()));
    let row: serde_json::Value = serde_json::from_str(&found[0]).unwrap();
    let written = row["written"].as_i64().unwrap();
    assert!((before..=now()).contains(&written), "{row}");
    assert_eq!(row["i32"], 1);
}

fn without(columns: &RecordBatch, names: &[&str]) -> RecordBatch {
    let schema = columns.schema();
    let kept: Vec<usize> =
        (0..columns.num_columns()).filter(|n| !names.contains(&schema.field(*n).name().as_str())).collect();
    columns.project(&kept).unwrap()
}

#[tokio::test]
async fn avro_with_a_derived_schema_conforms_and_comes_back() {
    let columns = without(&all_types(), &["u64"]);
    let batch = batch_of(columns.clone());
    conforms(|| AvroEncoder::new(AvroEncoderConfig::default()).unwrap(), &batch).await;
    conforms(|| AvroEncoder::new(AvroEncoderConfig::default()).unwrap(), &batch_of(all_types())).await;
    let shelf = Arc::new(Shelf::default());
    let config = ConfluentAvroEncoderConfig { subject: "cars-value".into(), ..Default::default() };
    let mut encoder = ConfluentAvroEncoder::new(shelf.clone(), config).unwrap();
    encoder.prepare(&batch).await.unwrap();
    let encoded = encoder.encode(&batch).unwrap();
    assert!(encoded.rejected.is_empty());
    let raw = raw_batch((0..3).map(|row| encoded.messages.payload(row)));
    let mut decoder = ConfluentAvroDecoder::new(shelf.clone(), ConfluentAvroDecoderConfig::default()).unwrap();
    decoder.prepare(&raw).await.unwrap();
    let output = decoder.decode(&raw).unwrap();
    assert!(output.rejected.is_empty(), "{:?}", output.rejected);
    // Lists are stepped over on the way back.
    let expected = batch_of(without(&columns, &["scores"]));
    assert_eq!(rows(&output.batch), rows(&expected));
    assert_eq!(shelf.log.lock().unwrap().len(), 1, "one registration");
}

#[tokio::test]
async fn avro_with_a_configured_schema_casts_fills_defaults_and_rejects_what_does_not_fit() {
    let schema = r#"{"type": "record", "name": "R", "namespace": "n", "fields": [
        {"name": "f64", "type": ["double", "null"]},
        {"name": "i64", "type": ["null", "int"]},
        {"name": "missing", "type": "string", "default": "none"},
        {"name": "nothing", "type": ["null", "string"]},
        {"name": "small", "type": "double"},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "nested", "type": ["null", {"type": "record", "name": "N", "fields": [
            {"name": "a", "type": ["null", "float"]}, {"name": "kind", "type": ["null", {"type": "enum", "name": "K", "symbols": ["x", "y"]}]}]}]}]}"#;
    let mut columns = without(&all_types(), &[]);
    let extra: Vec<(&str, ArrayRef)> = vec![
        ("nested.a", Arc::new(Float32Array::from(vec![Some(1.0), None, None]))),
        ("nested.kind", Arc::new(StringArray::from(vec![Some("y"), None, Some("z")]))),
    ];
    for (name, array) in extra {
        let field = Field::new(name, array.data_type().clone(), true);
        columns = batch_of(columns).with_column(field, array).unwrap().columns().clone();
    }
    let batch = batch_of(columns);
    let config = AvroEncoderConfig { schema: Some(schema.into()), ..Default::default() };
    conforms(|| AvroEncoder::new(config.clone()).unwrap(), &batch).await;
    let encoded = AvroEncoder::new(config).unwrap().encode(&batch).unwrap();
    let rejected: Vec<_> = encoded.rejected.iter().map(|r| (r.row, r.cause.reason)).collect();
    assert_eq!(rejected, [(0, Reason::OutOfRange), (2, Reason::OutOfRange)], "i64 beyond an int");
    let row = encoded.messages.payload(1).unwrap();
    let mut decoder = AvroDecoder::new(AvroDecoderConfig::new(schema)).unwrap();
    let output = decoder.decode(&raw_batch([Some(row)])).unwrap();
    let mut found = rows(&output.batch).remove(0);
    found.retain(|name, _| !name.starts_with('@'));
    let expected = [("at", "1969-12-31T23:59:59.999"), ("i64", "0"), ("missing", "none"), ("small", "0.0")];
    assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

#[test]
fn a_schema_that_cannot_be_filled_is_refused_by_name() {
    let batch = batch_of(all_types());
    let refuse = |schema: &str| {
        let config = AvroEncoderConfig { schema: Some(schema.into()), ..Default::default() };
        AvroEncoder::new(config).unwrap().encode(&batch).unwrap_err().to_string()
    };
    let field = |field: &str| format!(r#"{{"type": "record", "name": "R", "fields": [{field}]}}"#);
    let error = refuse(&field(r#"{"name": "speed", "type": "float"}"#));
    assert!(error.contains("\"speed\"") && error.contains("f32, f64"), "{error}");
    let error = refuse(&field(r#"{"name": "f32", "type": "int"}"#));
    assert!(error.contains("\"f32\" is of type Float32"), "{error}");
    assert!(AvroEncoder::new(AvroEncoderConfig { schema: Some("\"int\"".into()), ..Default::default() }).is_err());
    assert!(AvroEncoder::new(AvroEncoderConfig { name: Some("a b".into()), ..Default::default() }).is_err());
}

/// A registry in memory.
#[derive(Default)]
struct Shelf {
    schemas: Mutex<HashMap<u32, Arc<str>>>,
    log: Mutex<Vec<String>>,
    down: Mutex<bool>,
}

#[iotml_core::async_trait]
impl SchemaRegistrar for Shelf {
    async fn register(&self, registration: Registration<'_>) -> Result<u32, SchemaRegistryError> {
        if *self.down.lock().unwrap() {
            return Err(SchemaRegistryError::Unavailable { source: "connection refused".into() });
        }
        if !registration.auto_register {
            return Err(SchemaRegistryError::Refused { message: "not there".into(), source: None });
        }
        let compatibility = registration.compatibility.map_or("-", Compatibility::as_str);
        self.log.lock().unwrap().push(format!("{} {compatibility}", registration.subject));
        let mut schemas = self.schemas.lock().unwrap();
        let id = schemas.len() as u32 + 1;
        schemas.insert(id, registration.schema.into());
        Ok(id)
    }
}

#[iotml_core::async_trait]
impl SchemaResolver for Shelf {
    async fn resolve(&self, id: u32) -> Result<Arc<str>, SchemaRegistryError> {
        self.schemas.lock().unwrap().get(&id).cloned().ok_or(SchemaRegistryError::Unknown { id })
    }
}

#[tokio::test]
async fn confluent_avro_conforms_and_registers_once_per_topic() {
    let batch = batch_of(all_types());
    let shelf = Arc::new(Shelf::default());
    let config = || ConfluentAvroEncoderConfig { compatibility: Some(Compatibility::Full), ..Default::default() };
    // One registrar per encoder, so that each gives the same ids.
    conforms(|| ConfluentAvroEncoder::new(Arc::new(Shelf::default()), config()).unwrap(), &batch).await;
    let mut raw = RawBatch::default();
    for (row, target) in [Some("a"), Some("b"), None].into_iter().enumerate() {
        raw.push(RawMessage {
            message: Message { target, ..Message::default() },
            position: Position { lane: Lane(0), seq: row as u64 },
            coordinate: Coordinate::NONE,
        });
    }
    let batch = Batch::decoded(Arc::new(raw), vec![0, 1, 2], without(&all_types(), &["u64"]));
    let mut encoder = ConfluentAvroEncoder::new(shelf.clone(), config()).unwrap();
    *shelf.down.lock().unwrap() = true;
    assert_eq!(encoder.prepare(&batch).await.unwrap_err().class(), Class::Retryable);
    *shelf.down.lock().unwrap() = false;
    encoder.prepare(&batch).await.unwrap();
    encoder.prepare(&batch).await.unwrap();
    let encoded = encoder.encode(&batch).unwrap();
    assert_eq!(*shelf.log.lock().unwrap(), ["a-value FULL", "b-value FULL"]);
    assert_eq!(encoded.messages.payload(0).unwrap()[..5], [0, 0, 0, 0, 1]);
    assert_eq!(encoded.messages.payload(1).unwrap()[..5], [0, 0, 0, 0, 2]);
    let rejected: Vec<_> = encoded.rejected.iter().map(|r| (r.row, r.cause.reason)).collect();
    assert_eq!(rejected, [(2, Reason::NoTarget)]);
    let strict = ConfluentAvroEncoderConfig { auto_register: false, ..Default::default() };
    let mut encoder = ConfluentAvroEncoder::new(shelf, strict).unwrap();
    assert_eq!(encoder.prepare(&batch).await.unwrap_err().class(), Class::Fatal);
}

/// Writes everything about a car to one topic, whatever a row's target is.
struct Garage;

#[iotml_core::async_trait]
impl Sink for Garage {
    fn topic<'a>(&'a self, envelope: &Message<'a>) -> Option<Cow<'a, str>> {
        envelope.key.map(|key| Cow::Owned(format!("garage-{}", String::from_utf8_lossy(key))))
    }

    async fn write(&self, _rows: Outgoing) -> Result<Written, SinkError> {
        Ok(Written::default())
    }
}

#[tokio::test]
async fn a_subject_is_named_after_the_topic_that_the_sink_writes_to() {
    let shelf = Arc::new(Shelf::default());
    let mut encoder = ConfluentAvroEncoder::new(shelf.clone(), ConfluentAvroEncoderConfig::default()).unwrap();
    encoder.bound_for(Arc::new(Garage));
    let mut raw = RawBatch::default();
    for (row, key) in [Some(&b"7"[..]), None, Some(b"8"), Some(b"7")].into_iter().enumerate() {
        raw.push(RawMessage {
            message: Message { key, target: Some("elsewhere"), ..Message::default() },
            position: Position { lane: Lane(0), seq: row as u64 },
            coordinate: Coordinate::NONE,
        });
    }
    let speed: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0]));
    let batch =
        Batch::decoded(Arc::new(raw), vec![0, 1, 2, 3], RecordBatch::try_from_iter([("speed", speed)]).unwrap());
    encoder.prepare(&batch).await.unwrap();
    let encoded = encoder.encode(&batch).unwrap();
    assert_eq!(*shelf.log.lock().unwrap(), ["garage-7-value -", "garage-8-value -"]);
    let ids: Vec<_> = [0, 2, 3].iter().map(|row| encoded.messages.payload(*row).unwrap()[4]).collect();
    assert_eq!(ids, [1, 2, 1]);
    let rejected: Vec<_> = encoded.rejected.iter().map(|r| (r.row, r.cause.reason)).collect();
    assert_eq!(rejected, [(1, Reason::NoTarget)], "a row that goes to no topic has no subject");
}
