//! Avro straight into columns.
//!
//! A writer's schema is compiled once into a short program over typed columns; a datum is then read without building values.
//! Records are flattened into columns with dotted names (`engine.temp`), and every scalar field becomes a column, or only those
//! that `columns` names. Arrays, maps and the repeats of a type within itself are stepped over. Unions give nullable columns: of several numbers the
//! widest type, otherwise the type of the first branch. Logical types: `date`, `timestamp-millis` and `timestamp-micros` (UTC)
//! become dates and timestamps, `decimal` the nearest `float64`; `local-timestamp-*`, `timestamp-nanos` and `time-*` stay integers; `uuid`
//! stays text or bytes, and `duration` and `big-decimal` stay bytes. A schema that is no record has one column called `value`.
//!
//! Numbers are cast to a column's type: any number to a float, an integer or a float without fraction to an integer in range, text
//! by parsing it. The set of columns is what `columns` names; without it, it is that of the first writer's schema, and fields that only
//! later schemas have are appended, with null in the rows of the others and cast to the type seen first.

mod bytes;
mod compile;
mod confluent;
mod datum;
mod fields;
mod leaf;
mod names;
mod plain;
mod resolver;
mod run;
mod schema;
mod skip;

pub use confluent::{ConfluentAvroDecoder, ConfluentAvroDecoderConfig, split_frame};
pub use datum::{DatumError, DatumReader};
pub(crate) use plain::read_schema;
pub use plain::{AvroDecoder, AvroDecoderConfig};
pub use resolver::SchemaResolver;
pub use schema::SchemaError;
pub(crate) use schema::WriterSchema;

use std::sync::Arc;

use compile::Program;

use super::DecodeError;
use super::columns::{Columns, Layout};
use crate::batch::{Batch, RawBatch, Rejected, StageOutput};
use crate::error::{Cause, Reason};

/// Decodes every message with the program that `split` finds for it.
#[inline]
fn decode_rows<'p>(
    raw: &Arc<RawBatch>,
    layout: &mut Layout,
    max_bytes: usize,
    mut split: impl for<'m> FnMut(&'m [u8]) -> Result<(&'p Program, &'m [u8]), Cause>,
) -> Result<StageOutput, DecodeError> {
    let n_rows = raw.len();
    let mut columns = Columns::new(layout, n_rows);
    let mut origins = Vec::with_capacity(n_rows);
    let mut rejected = Vec::new();
    for row in 0..n_rows {
        let decoded = payload(raw, row, max_bytes)
            .and_then(&mut split)
            .and_then(|(program, datum)| program.run(datum, &mut columns).map_err(|fault| fault.cause(layout)));
        match decoded {
            Ok(()) => {
                columns.commit();
                origins.push(row as u32);
            }
            Err(cause) => {
                columns.rollback();
                rejected.push(Rejected { row: row as u32, cause });
            }
        }
    }
    let columns = columns.finish(layout).map_err(|source| DecodeError::fatal_from("columns do not fit", source))?;
    Ok(StageOutput { batch: Batch::decoded(raw.clone(), origins, columns), rejected, filtered: Vec::new() })
}

/// The payload of a message, if there is one of an acceptable size.
pub(super) fn payload(raw: &RawBatch, row: usize, max_bytes: usize) -> Result<&[u8], Cause> {
    match raw.messages().payload(row) {
        Some(payload) if payload.len() <= max_bytes => Ok(payload),
        other => Err(unacceptable(other, max_bytes)),
    }
}

#[cold]
fn unacceptable(payload: Option<&[u8]>, max_bytes: usize) -> Cause {
    match payload {
        Some(payload) => {
            let n_bytes = payload.len();
            Cause::new(Reason::Oversized, format!("{n_bytes} bytes, and the limit `max_bytes` is {max_bytes}"))
        }
        None => Cause::new(Reason::Empty, "a tombstone has nothing to decode"),
    }
}
