//! A reading as one line of JSON: the schema's field names, then the ground truth.

use std::io::Write;

use crate::{FIELDS, Reading, is_int};

/// Appends the reading to `out` as one JSON object without a line feed: the eighteen sensors in schema order, integers without
/// a point, then `failure_occurred` as `"true"` or `"false"`. About 520 bytes; clear and reuse the buffer between readings.
pub fn write(reading: &Reading, out: &mut Vec<u8>) {
    let mut before = b'{';
    for (at, (name, value)) in FIELDS.iter().zip(reading.values).enumerate() {
        out.push(before);
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        number(at, value, out);
        before = b',';
    }
    out.extend_from_slice(b",\"failure_occurred\":\"");
    out.extend_from_slice(reading.failure_occurred().as_bytes());
    out.extend_from_slice(b"\"}");
}

/// Appends a sensor value in the shortest form that reads back to the same f32.
pub(crate) fn number(field: usize, value: f32, out: &mut Vec<u8>) {
    let written = if is_int(field) { write!(out, "{}", value as i32) } else { write!(out, "{value}") };
    debug_assert!(written.is_ok(), "a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fleet, FleetConfig, N_FIELDS};

    #[test]
    fn a_line_reads_back_to_the_same_values() {
        let mut line = Vec::new();
        for reading in Fleet::new(&FleetConfig { n_cars: 50, ..FleetConfig::default() }).tick() {
            line.clear();
            write(&reading, &mut line);
            assert!(!line.contains(&b'\n') && line.len() < 700);
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).unwrap();
            assert_eq!(object.len(), N_FIELDS + 1);
            for (at, name) in FIELDS.iter().enumerate() {
                assert_eq!(object[*name].as_f64().unwrap() as f32, reading.values[at], "{name}");
                assert!(!is_int(at) || object[*name].is_i64(), "{name}");
            }
            assert_eq!(object["failure_occurred"], reading.failure_occurred());
        }
    }
}
