//! The rows that are timed: plausible cars, the same in every run.

use std::sync::Arc;

use iotml_core::batch::{Coordinate, Lane, Message, Position, RawBatch, RawMessage};

pub const N_ROWS: usize = 1_000;
pub const SCHEMA_ID: u32 = 42;
pub const SCHEMA: &str = include_str!("../../examples/cars/schema/cardata-v1.avsc");
pub const MANIFEST: &str = include_str!("../../testdata/cars/cars-autoencoder.json");

/// Names of the 18 sensors, and whether each is an int.
pub fn fields() -> Vec<(String, bool)> {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let fields = schema["fields"].as_array().unwrap();
    fields.iter().map(|field| (field["name"].as_str().unwrap().to_owned(), field["type"] == "int")).collect()
}

/// The schema as KSQL writes it: every field a union with null.
pub fn nullable_schema() -> String {
    let mut schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    for field in schema["fields"].as_array_mut().unwrap() {
        field["type"] = serde_json::json!(["null", field["type"]]);
    }
    schema.to_string()
}

/// Row by row, the values of all fields.
pub fn values() -> Vec<Vec<f32>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let value = |name: &str, is_int: bool, random: f32| match (name, is_int) {
        ("control_unit_firmware", _) => 1_000.0 + 1_000.0 * random.round(),
        (_, true) => 25.0 + (10.0 * random).round(),
        ("speed", _) => 50.0 * random,
        ("battery_voltage", _) => 200.0 + 50.0 * random,
        ("engine_vibration_amplitude", _) => 5_000.0 * random,
        _ => random * 30.0,
    };
    let fields = fields();
    (0..N_ROWS).map(|_| fields.iter().map(|(name, is_int)| value(name, *is_int, uniform())).collect()).collect()
}

/// One Avro datum, of [`SCHEMA`] or of [`nullable_schema`].
pub fn datum(row: &[f32], nullable: bool, out: &mut Vec<u8>) {
    for (value, (_, is_int)) in row.iter().zip(fields()) {
        if nullable {
            out.push(2);
        }
        match is_int {
            true => {
                let mut zig = (*value as u32) << 1;
                while zig >= 0x80 {
                    out.push(zig as u8 | 0x80);
                    zig >>= 7;
                }
                out.push(zig as u8);
            }
            false => out.extend_from_slice(&value.to_le_bytes()),
        }
    }
}

pub fn framed(row: &[f32], nullable: bool) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&SCHEMA_ID.to_be_bytes());
    datum(row, nullable, &mut out);
    out
}

pub fn json(row: &[f32]) -> Vec<u8> {
    let text = |(value, (name, is_int)): (&f32, (String, bool))| match is_int {
        true => format!("\"{name}\":{}", *value as i32),
        false => format!("\"{name}\":{value}"),
    };
    format!("{{{}}}", row.iter().zip(fields()).map(text).collect::<Vec<_>>().join(",")).into_bytes()
}

pub fn csv(row: &[f32]) -> Vec<u8> {
    row.iter().map(f32::to_string).collect::<Vec<_>>().join(",").into_bytes()
}

/// A batch of these payloads, keyed by car.
pub fn raw(payloads: impl IntoIterator<Item = Vec<u8>>) -> Arc<RawBatch> {
    let mut batch = RawBatch::with_capacity(N_ROWS, N_ROWS * 64);
    for (n, payload) in payloads.into_iter().enumerate() {
        let key = format!("electric-vehicle-{n:05}");
        batch.push(RawMessage {
            message: Message {
                payload: Some(&payload),
                key: Some(key.as_bytes()),
                time: Some(n as i64),
                topic: Some("sensor-data"),
                ..Message::default()
            },
            position: Position { lane: Lane(0), seq: n as u64 },
            coordinate: Coordinate { partition: 0, offset: n as i64 },
        });
    }
    Arc::new(batch)
}
