//! Avro against apache-avro as the oracle.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use iotml_core::arrow::array::{Array, ArrayRef, AsArray};
use iotml_core::arrow::datatypes::{
    DataType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType,
};
use iotml_core::decode::{
    AvroDecoder, AvroDecoderConfig, ColumnConfig, ColumnType, ConfluentAvroDecoder, ConfluentAvroDecoderConfig,
    DecodeError, Decoder, ResolveError, SchemaResolver,
};
use iotml_core::error::{Class, Reason};
use iotml_core::testing::decode::{Samples, conforms};
use iotml_core::testing::rows::{Fate, fates, raw_batch, rows};
use proptest::prelude::*;

/// A schema, to be written as JSON and filled with values.
#[derive(Clone, Debug)]
enum Type {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Text,
    Bytes,
    Fixed(usize),
    Enum(usize),
    Date,
    Millis,
    Micros,
    Decimal(u32),
    Nullable(Box<Type>, bool),
    Numbers,
    Array(Box<Type>),
    Map(Box<Type>),
    Record(Vec<Type>),
}

fn any_type() -> impl Strategy<Value = Type> {
    use Type::*;
    let scalar = prop_oneof![
        1 => Just(Null),
        1 => Just(Bool),
        3 => Just(Int),
        2 => Just(Long),
        4 => Just(Float),
        2 => Just(Double),
        2 => Just(Text),
        1 => Just(Bytes),
        1 => (0usize..20).prop_map(Fixed),
        1 => (1usize..5).prop_map(Enum),
        1 => Just(Date),
        1 => Just(Millis),
        1 => Just(Micros),
        1 => (0u32..4).prop_map(Decimal),
        1 => Just(Numbers),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        let not_null =
            inner.clone().prop_filter("no union in a union", |t| !matches!(t, Null | Nullable(..) | Numbers));
        prop_oneof![
            2 => (not_null, any::<bool>()).prop_map(|(t, first)| Nullable(Box::new(t), first)),
            1 => inner.clone().prop_map(|t| Array(Box::new(t))),
            1 => inner.clone().prop_map(|t| Map(Box::new(t))),
            2 => prop::collection::vec(inner, 0..6).prop_map(Record),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Type> {
    prop::collection::vec(any_type(), 1..8).prop_map(Type::Record)
}

/// Names are numbered so that each is used once.
fn json(t: &Type, n: &mut usize) -> String {
    *n += 1;
    let name = *n;
    match t {
        Type::Null => "\"null\"".into(),
        Type::Bool => "\"boolean\"".into(),
        Type::Int => "\"int\"".into(),
        Type::Long => "\"long\"".into(),
        Type::Float => "\"float\"".into(),
        Type::Double => "\"double\"".into(),
        Type::Text => "\"string\"".into(),
        Type::Bytes => "\"bytes\"".into(),
        Type::Fixed(size) => format!(r#"{{"type":"fixed","name":"F{name}","size":{size}}}"#),
        Type::Enum(k) => {
            let symbols: Vec<String> = (0..*k).map(|s| format!("\"S{s}\"")).collect();
            format!(r#"{{"type":"enum","name":"E{name}","symbols":[{}]}}"#, symbols.join(","))
        }
        Type::Date => r#"{"type":"int","logicalType":"date"}"#.into(),
        Type::Millis => r#"{"type":"long","logicalType":"timestamp-millis"}"#.into(),
        Type::Micros => r#"{"type":"long","logicalType":"timestamp-micros"}"#.into(),
        Type::Decimal(scale) => format!(r#"{{"type":"bytes","logicalType":"decimal","precision":12,"scale":{scale}}}"#),
        Type::Nullable(inner, true) => format!(r#"["null",{}]"#, json(inner, n)),
        Type::Nullable(inner, false) => format!(r#"[{},"null"]"#, json(inner, n)),
        Type::Numbers => r#"["int","null","double"]"#.into(),
        Type::Array(inner) => format!(r#"{{"type":"array","items":{}}}"#, json(inner, n)),
        Type::Map(inner) => format!(r#"{{"type":"map","values":{}}}"#, json(inner, n)),
        Type::Record(fields) => {
            let fields: Vec<String> =
                fields.iter().enumerate().map(|(f, t)| format!(r#"{{"name":"f{f}","type":{}}}"#, json(t, n))).collect();
            format!(r#"{{"type":"record","name":"R{name}","fields":[{}]}}"#, fields.join(","))
        }
    }
}

/// A small generator of numbers, so that values shrink with their schema.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Integers of every length on the wire.
    fn long(&mut self) -> i64 {
        let shift = self.roll() % 64;
        self.roll() as i64 >> shift
    }

    fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }
}

fn value(t: &Type, dice: &mut Dice) -> Value {
    match t {
        Type::Null => Value::Null,
        Type::Bool => Value::Boolean(dice.roll() & 1 == 1),
        Type::Int => Value::Int(dice.long() as i32),
        Type::Long => Value::Long(dice.long()),
        Type::Float => Value::Float(f32::from_bits(dice.roll() as u32)),
        Type::Double => Value::Double(f64::from_bits(dice.roll())),
        Type::Text => Value::String("aé€😀z".chars().cycle().skip(dice.below(5)).take(dice.below(9)).collect()),
        Type::Bytes => Value::Bytes((0..dice.below(9)).map(|_| dice.roll() as u8).collect()),
        Type::Fixed(size) => Value::Fixed(*size, (0..*size).map(|_| dice.roll() as u8).collect()),
        Type::Enum(k) => {
            let symbol = dice.below(*k);
            Value::Enum(symbol as u32, format!("S{symbol}"))
        }
        Type::Date => Value::Date(dice.long() as i32),
        Type::Millis => Value::TimestampMillis(dice.long()),
        Type::Micros => Value::TimestampMicros(dice.long()),
        Type::Decimal(_) => Value::Decimal((dice.long() as i32 as i64).to_be_bytes().to_vec().into()),
        Type::Nullable(inner, null_first) => match (dice.roll() % 3 == 0, null_first) {
            (true, true) => Value::Union(0, Box::new(Value::Null)),
            (true, false) => Value::Union(1, Box::new(Value::Null)),
            (false, true) => Value::Union(1, Box::new(value(inner, dice))),
            (false, false) => Value::Union(0, Box::new(value(inner, dice))),
        },
        Type::Numbers => match dice.below(3) {
            0 => Value::Union(0, Box::new(Value::Int(dice.long() as i32))),
            1 => Value::Union(1, Box::new(Value::Null)),
            _ => Value::Union(2, Box::new(Value::Double(f64::from_bits(dice.roll())))),
        },
        Type::Array(inner) => Value::Array((0..dice.below(4)).map(|_| value(inner, dice)).collect()),
        Type::Map(inner) => {
            Value::Map((0..dice.below(4)).map(|k| (format!("k{k}"), value(inner, dice))).collect::<HashMap<_, _>>())
        }
        Type::Record(fields) => {
            Value::Record(fields.iter().enumerate().map(|(f, t)| (format!("f{f}"), value(t, dice))).collect())
        }
    }
}

/// A value in a column, comparable bit by bit.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    F32(u32),
    F64(u64),
    Text(String),
    Bytes(Vec<u8>),
}

/// What the columns of a value must be.
fn cells(t: &Type, value: Option<&Value>, path: &str, out: &mut BTreeMap<String, Cell>) {
    let path = if path.is_empty() && !matches!(t, Type::Record(_)) { "value" } else { path };
    let value = match value {
        Some(Value::Union(_, inner)) => Some(&**inner),
        other => other,
    };
    let cell = match (t, value) {
        (Type::Nullable(inner, _), Some(Value::Null) | None) => return cells(inner, None, path, out),
        (Type::Nullable(inner, _), value) => return cells(inner, value, path, out),
        (Type::Null | Type::Array(_) | Type::Map(_), _) => return,
        (Type::Record(fields), value) => {
            for (f, t) in fields.iter().enumerate() {
                let value = match value {
                    Some(Value::Record(values)) => Some(&values[f].1),
                    _ => None,
                };
                let name = if path.is_empty() { format!("f{f}") } else { format!("{path}.f{f}") };
                cells(t, value, &name, out);
            }
            return;
        }
        (_, None | Some(Value::Null)) => Cell::Null,
        (Type::Numbers, Some(Value::Int(v))) => Cell::F64(f64::from(*v).to_bits()),
        (Type::Decimal(scale), Some(Value::Decimal(decimal))) => {
            let bytes: Vec<u8> = decimal.try_into().unwrap();
            let number = bytes.iter().fold(i64::from(bytes[0] as i8 >> 7), |n, b| n << 8 | i64::from(*b));
            Cell::F64((number as f64 / 10f64.powi(*scale as i32)).to_bits())
        }
        (_, Some(Value::Boolean(v))) => Cell::Bool(*v),
        (_, Some(Value::Int(v) | Value::Date(v))) => Cell::Int(i64::from(*v)),
        (_, Some(Value::Long(v) | Value::TimestampMillis(v) | Value::TimestampMicros(v))) => Cell::Int(*v),
        (_, Some(Value::Float(v))) => Cell::F32(v.to_bits()),
        (_, Some(Value::Double(v))) => Cell::F64(v.to_bits()),
        (_, Some(Value::String(v) | Value::Enum(_, v))) => Cell::Text(v.clone()),
        (_, Some(Value::Bytes(v) | Value::Fixed(_, v))) => Cell::Bytes(v.clone()),
        other => panic!("no expectation for {other:?}"),
    };
    out.insert(path.to_owned(), cell);
}

fn cell(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => Cell::Int(array.as_primitive::<Date32Type>().value(row).into()),
        DataType::Timestamp(iotml_core::arrow::datatypes::TimeUnit::Millisecond, _) => {
            Cell::Int(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        DataType::Timestamp(..) => Cell::Int(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Float32 => Cell::F32(array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => Cell::F64(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        other => panic!("a column of type {other}"),
    }
}

fn decoded(batch: &iotml_core::batch::Batch, row: usize) -> BTreeMap<String, Cell> {
    let columns = batch.columns();
    let names = columns.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    names.into_iter().zip(columns.columns()).map(|(name, array)| (name, cell(array, row))).collect()
}

fn expected(t: &Type, value: &Value) -> BTreeMap<String, Cell> {
    let mut out = BTreeMap::new();
    cells(t, Some(value), "", &mut out);
    out
}

fn decoder(schema: &str) -> AvroDecoder {
    AvroDecoder::new(AvroDecoderConfig::new(schema)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn columns_equal_what_apache_avro_reads(t in any_record(), seed: u64) {
        let schema_json = json(&t, &mut 0);
        let schema = Schema::parse_str(&schema_json).unwrap();
        let mut dice = Dice(seed);
        let values: Vec<Value> = (0..5).map(|_| value(&t, &mut dice)).collect();
        let data: Vec<Vec<u8>> = values.iter().map(|v| to_avro_datum(&schema, v.clone()).unwrap()).collect();
        // A datum may be empty when the schema has nothing but nulls; an empty payload is rejected by contract.
        prop_assume!(data.iter().all(|datum| !datum.is_empty()));
        let output = decoder(&schema_json).decode(&raw_batch(data.iter().map(Some))).unwrap();
        prop_assert!(output.rejected.is_empty(), "{:?}", output.rejected);
        for (row, datum) in data.iter().enumerate() {
            let oracle = from_avro_datum(&schema, &mut &datum[..], None).unwrap();
            prop_assert_eq!(decoded(&output.batch, row), expected(&t, &oracle));
        }
    }

    #[test]
    fn inv_7_a_datum_cut_anywhere_is_rejected_and_its_neighbours_are_intact(t in any_record(), seed: u64) {
        let schema_json = json(&t, &mut 0);
        let schema = Schema::parse_str(&schema_json).unwrap();
        let mut dice = Dice(seed);
        let values: Vec<Value> = (0..2).map(|_| value(&t, &mut dice)).collect();
        let data: Vec<Vec<u8>> = values.iter().map(|v| to_avro_datum(&schema, v.clone()).unwrap()).collect();
        prop_assume!(data.iter().all(|datum| !datum.is_empty()));
        let cuts: Vec<Vec<u8>> = (0..data[1].len()).map(|at| data[1][..at].to_vec()).collect();
        let mixed = cuts.iter().flat_map(|cut| [&data[0], cut]).chain([&data[1]]);
        let output = decoder(&schema_json).decode(&raw_batch(mixed.map(Some))).unwrap();
        prop_assert_eq!(output.rejected.len(), cuts.len());
        for (n, rejected) in output.rejected.iter().enumerate() {
            prop_assert_eq!(rejected.row as usize, 2 * n + 1);
            let reason = if n == 0 { Reason::Empty } else { Reason::Truncated };
            prop_assert_eq!(rejected.cause.reason, reason, "cut at {}: {}", n, rejected.cause);
        }
        for row in 0..cuts.len() {
            prop_assert_eq!(decoded(&output.batch, row), expected(&t, &values[0]));
        }
        prop_assert_eq!(decoded(&output.batch, cuts.len()), expected(&t, &values[1]));
    }

    #[test]
    fn inv_7_mutated_bytes_never_reach_the_neighbours(
        t in any_record(),
        seed: u64,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let schema_json = json(&t, &mut 0);
        let schema = Schema::parse_str(&schema_json).unwrap();
        let sound = value(&t, &mut Dice(seed));
        let datum = to_avro_datum(&schema, sound.clone()).unwrap();
        prop_assume!(!datum.is_empty());
        let mut mutated = datum.clone();
        for (at, byte) in changes {
            let at = at.index(mutated.len());
            mutated[at] = byte;
        }
        let raw = raw_batch([&datum, &mutated, &datum].map(Some));
        let output = decoder(&schema_json).decode(&raw).unwrap();
        let last = output.batch.len() - 1;
        prop_assert_eq!(output.batch.len() + output.rejected.len(), 3);
        prop_assert_eq!(decoded(&output.batch, 0), expected(&t, &sound));
        prop_assert_eq!(decoded(&output.batch, last), expected(&t, &sound));
    }

    #[test]
    fn random_bytes_never_panic(t in any_record(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let output = decoder(&json(&t, &mut 0)).decode(&raw_batch([Some(bytes)])).unwrap();
        prop_assert_eq!(output.batch.len() + output.rejected.len(), 1);
    }
}

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
    async fn resolve(&self, id: u32) -> Result<Arc<str>, ResolveError> {
        self.asked.lock().unwrap().push(id);
        if *self.down.lock().unwrap() {
            return Err(ResolveError::Unavailable { source: "connection refused".into() });
        }
        match id {
            9 => Err(ResolveError::Unusable { id, message: "it is of type PROTOBUF".into() }),
            _ => self.schemas.get(&id).map(|json| Arc::from(*json)).ok_or(ResolveError::Unknown { id }),
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
