//! Readings in files, tick by tick.

use std::fs::File;
use std::io::{BufWriter, Write};

use apache_avro::types::Value;
use apache_avro::{Schema, Writer};

use super::ToFile;
use crate::process::{Failure, Stop};
use crate::{Reading, avro, csv};

/// Writes a CSV file with a header.
pub(super) fn write_csv(file: &ToFile, stop: &Stop) -> Result<(), Failure> {
    let mut out = BufWriter::new(File::create(&file.out)?);
    writeln!(out, "{}", csv::header())?;
    let mut line = Vec::new();
    for_each_reading(file, stop, |reading| {
        line.clear();
        csv::write(reading, &mut line);
        line.push(b'\n');
        Ok(out.write_all(&line)?)
    })?;
    out.flush()?;
    println!("{} rows in {}", u64::from(file.fleet.cars) * file.ticks, file.out.display());
    Ok(())
}

/// Writes an Avro object container file.
pub(super) fn write_avro(file: &ToFile, stop: &Stop) -> Result<(), Failure> {
    let schema = Schema::parse_str(avro::CARDATA_V2)?;
    let mut writer = Writer::new(&schema, BufWriter::new(File::create(&file.out)?));
    let mut datum = Vec::new();
    for_each_reading(file, stop, |reading| {
        datum.clear();
        avro::write_v2(reading, &mut datum);
        let record: Value = apache_avro::from_avro_datum(&schema, &mut datum.as_slice(), None)?;
        writer.append(record)?;
        Ok(())
    })?;
    writer.flush()?;
    println!("{} records in {}", u64::from(file.fleet.cars) * file.ticks, file.out.display());
    Ok(())
}

fn for_each_reading(
    file: &ToFile,
    stop: &Stop,
    mut write: impl FnMut(&Reading) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut fleet = file.fleet.fleet();
    for _ in 0..file.ticks {
        for reading in fleet.tick() {
            write(&reading)?;
        }
        if stop.is_asked() {
            return Err(format!("interrupted; {} is not complete", file.out.display()).into());
        }
    }
    Ok(())
}
