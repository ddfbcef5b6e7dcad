//! A reading as a plain Avro datum (no container, no registry frame) of either version of `com.hivemq.avro.CarData`.

use crate::{Reading, is_int};

/// Version 1 of the schema: eighteen sensors as `float`, tyre pressures and firmware as `int`.
pub const CARDATA_V1: &str = include_str!("schema/cardata-v1.avsc");

/// Version 2: the floats are `double`, and the string `failure_occurred` stands at the end.
pub const CARDATA_V2: &str = include_str!("schema/cardata-v2.avsc");

/// Appends the datum of [`CARDATA_V1`] to `out`: 58 bytes at usual pressures.
pub fn write_v1(reading: &Reading, out: &mut Vec<u8>) {
    for (at, value) in reading.values.into_iter().enumerate() {
        if is_int(at) {
            int(value as i32, out);
        } else {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// Appends the datum of [`CARDATA_V2`] to `out`. The doubles are the readings' f32 values, widened.
pub fn write_v2(reading: &Reading, out: &mut Vec<u8>) {
    for (at, value) in reading.values.into_iter().enumerate() {
        if is_int(at) {
            int(value as i32, out);
        } else {
            out.extend_from_slice(&f64::from(value).to_le_bytes());
        }
    }
    let failure = reading.failure_occurred();
    int(failure.len() as i32, out);
    out.extend_from_slice(failure.as_bytes());
}

/// Zigzag, then seven bits a byte, lowest first.
fn int(value: i32, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use apache_avro::{Schema, from_avro_datum, types::Value};

    use super::*;
    use crate::{FIELDS, Fleet, FleetConfig, N_FIELDS};

    fn fields(schema: &Schema, datum: &[u8]) -> Vec<(String, Value)> {
        let mut rest = datum;
        let value = from_avro_datum(schema, &mut rest, None).unwrap();
        assert!(rest.is_empty(), "{} bytes too many", rest.len());
        match value {
            Value::Record(fields) => fields,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn datums_of_both_versions_decode_with_apache_avro_to_the_same_values() {
        let (v1, v2) = (Schema::parse_str(CARDATA_V1).unwrap(), Schema::parse_str(CARDATA_V2).unwrap());
        let mut fleet = Fleet::new(&FleetConfig { n_cars: 100, ..FleetConfig::default() });
        let (mut datum, mut truths) = (Vec::new(), [0, 0]);
        for _ in 0..40 {
            for reading in fleet.tick() {
                datum.clear();
                write_v1(&reading, &mut datum);
                assert!((58..=60).contains(&datum.len()), "{} bytes", datum.len());
                for (at, (name, value)) in fields(&v1, &datum).into_iter().enumerate() {
                    assert_eq!(name, FIELDS[at]);
                    match value {
                        Value::Float(value) => assert_eq!(value, reading.values[at]),
                        Value::Int(value) => assert_eq!(value as f32, reading.values[at]),
                        other => panic!("{name}: {other:?}"),
                    }
                }
                datum.clear();
                write_v2(&reading, &mut datum);
                let decoded = fields(&v2, &datum);
                assert_eq!(decoded.len(), N_FIELDS + 1);
                for (at, (name, value)) in decoded[..N_FIELDS].iter().enumerate() {
                    match value {
                        Value::Double(value) => assert_eq!(*value, f64::from(reading.values[at]), "{name}"),
                        Value::Int(value) => assert_eq!(*value as f32, reading.values[at], "{name}"),
                        other => panic!("{name}: {other:?}"),
                    }
                }
                assert_eq!(decoded[N_FIELDS].1, Value::String(reading.failure_occurred().into()));
                truths[usize::from(reading.fault.is_some())] += 1;
            }
        }
        assert!(truths[0] > 0 && truths[1] > 0, "{truths:?}");
    }

    #[test]
    fn ints_are_zigzag_varints() {
        for (value, bytes) in [(0, &[0u8][..]), (-1, &[1]), (32, &[64]), (64, &[0x80, 1]), (2_000, &[0xa0, 0x1f])] {
            let mut out = Vec::new();
            int(value, &mut out);
            assert_eq!(out, bytes, "{value}");
        }
        let mut out = Vec::new();
        int(i32::MIN, &mut out);
        assert_eq!(out, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    }
}
