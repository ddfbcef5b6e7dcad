//! A reading as a row of comma-separated values, as the training script reads it.

use std::io::Write;

use crate::{FIELDS, Reading, json};

/// The header line without a line feed: `time,car`, the eighteen sensors, then the ground truth `failure_occurred,fault`.
pub fn header() -> String {
    format!("time,car,{},failure_occurred,fault", FIELDS.join(","))
}

/// Appends the reading to `out` as one row without a line feed; `fault` is the kind's name, or empty on a healthy row.
pub fn write(reading: &Reading, out: &mut Vec<u8>) {
    let written = write!(out, "{},electric-vehicle-{:05}", reading.time, reading.car);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
    for (at, value) in reading.values.into_iter().enumerate() {
        out.push(b',');
        json::number(at, value, out);
    }
    out.push(b',');
    out.extend_from_slice(reading.failure_occurred().as_bytes());
    out.push(b',');
    out.extend_from_slice(reading.fault.map_or("", |kind| kind.name()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fleet, FleetConfig, N_FIELDS, car_name};

    #[test]
    fn a_row_has_the_columns_of_the_header_and_reads_back() {
        let header = header();
        let names: Vec<&str> = header.split(',').collect();
        assert_eq!(names.len(), 2 + N_FIELDS + 2);
        let mut fleet = Fleet::new(&FleetConfig { n_cars: 100, ..FleetConfig::default() });
        let mut n_faults = 0;
        for _ in 0..40 {
            for reading in fleet.tick() {
                let mut row = Vec::new();
                write(&reading, &mut row);
                let row = String::from_utf8(row).unwrap();
                let cells: Vec<&str> = row.split(',').collect();
                assert_eq!(cells.len(), names.len());
                assert_eq!((cells[0], cells[1]), (reading.time.to_string().as_str(), car_name(reading.car).as_str()));
                for (cell, value) in cells[2..].iter().zip(reading.values) {
                    assert_eq!(cell.parse::<f32>().unwrap(), value);
                }
                assert_eq!(cells[20], reading.failure_occurred());
                assert_eq!(cells[21].parse().ok(), reading.fault);
                n_faults += usize::from(reading.fault.is_some());
            }
        }
        assert!(n_faults > 0);
    }
}
