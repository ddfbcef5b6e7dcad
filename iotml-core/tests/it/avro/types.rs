//! Schemas and values of every kind, from one seed.

use std::collections::HashMap;

use apache_avro::types::Value;
use proptest::prelude::*;

/// A schema, to be written as JSON and filled with values.
#[derive(Clone, Debug)]
pub enum Type {
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

pub fn any_type() -> impl Strategy<Value = Type> {
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

pub fn any_record() -> impl Strategy<Value = Type> {
    prop::collection::vec(any_type(), 1..8).prop_map(Type::Record)
}

/// Names are numbered so that each is used once.
pub fn json(t: &Type, n: &mut usize) -> String {
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
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Integers of every length on the wire.
    pub fn long(&mut self) -> i64 {
        let shift = self.roll() % 64;
        self.roll() as i64 >> shift
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }
}

pub fn value(t: &Type, dice: &mut Dice) -> Value {
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
        Type::Nullable(inner, null_first) => match (dice.roll().is_multiple_of(3), null_first) {
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

/// A record of scalars that both libraries give the same Arrow types.
pub fn any_flat_record() -> impl Strategy<Value = Type> {
    use Type::*;
    let scalar = || {
        prop_oneof![
            Just(Bool),
            Just(Int),
            Just(Long),
            Just(Float),
            Just(Double),
            Just(Text),
            Just(Bytes),
            Just(Date),
            Just(Millis),
            Just(Micros)
        ]
    };
    let field = prop_oneof![scalar(), (scalar(), any::<bool>()).prop_map(|(t, first)| Nullable(Box::new(t), first))];
    prop::collection::vec(field, 1..12).prop_map(Record)
}
