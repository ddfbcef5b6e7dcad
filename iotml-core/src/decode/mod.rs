//! Stage two: raw bytes to columns.

mod avro;
mod columns;
mod csv;
mod inferred;
mod json;

pub use avro::{
    AvroDecoder, AvroDecoderConfig, ConfluentAvroDecoder, ConfluentAvroDecoderConfig, DatumError, DatumReader,
    SchemaError, SchemaResolver, split_frame,
};
pub(crate) use avro::{WriterSchema, read_schema};
pub use columns::{ColumnConfig, ColumnType};
pub use csv::{CsvDecoder, CsvDecoderConfig};
pub use json::{JsonDecoder, JsonDecoderConfig, UnknownFields};

use std::sync::Arc;

use async_trait::async_trait;

use crate::batch::{RawBatch, StageOutput};
use crate::pipeline::TaskContext;

crate::error::stage_error! {
    /// Why a decoder cannot decode at all. A bad row is not an error: it is rejected by itself.
    DecodeError
}

/// Turns raw messages into columns: after the source, before the preprocessors.
///
/// # Contract
/// 1. [`decode`](Decoder::decode) does no I/O. [`prepare`](Decoder::prepare), called before it with the same messages, is
///    the one place that may: it fetches schemas that are not known yet.
/// 2. A bad row is rejected with its cause and never stops or hides its neighbours (invariant 7): what was half read of
///    it is rolled back.
/// 3. Row order is kept. A decoder filters nothing.
/// 4. No input makes it panic, hang or allocate without limit.
///
/// # Errors
/// `Retryable` from `prepare` (the registry is down) makes the pipeline try the same messages again; `Fatal` ends the task.
///
/// # Example
/// ```
/// use std::sync::Arc;
/// use iotml_core::arrow::array::{ArrayRef, Float32Array, RecordBatch};
/// use iotml_core::batch::{Batch, RawBatch, Rejected, StageOutput};
/// use iotml_core::decode::{DecodeError, Decoder};
/// use iotml_core::error::{Cause, Reason};
///
/// /// One number per message, as text.
/// struct Number;
///
/// impl Decoder for Number {
///     fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
///         let (mut origins, mut values, mut rejected) = (vec![], vec![], vec![]);
///         for row in 0..raw.len() as u32 {
///             let payload = raw.messages().payload(row as usize).unwrap_or_default();
///             match str::from_utf8(payload).ok().and_then(|text| text.parse::<f32>().ok()) {
///                 Some(value) => (origins.push(row), values.push(value)).0,
///                 None => rejected.push(Rejected { row, cause: Cause::new(Reason::Malformed, "not a number") }),
///             }
///         }
///         let values = Arc::new(Float32Array::from(values)) as ArrayRef;
///         let columns = RecordBatch::try_from_iter([("value", values)])
///             .map_err(|source| DecodeError::fatal_from("columns do not fit", source))?;
///         let batch = Batch::decoded(raw.clone(), origins, columns);
///         Ok(StageOutput { batch, rejected, filtered: vec![] })
///     }
/// }
/// ```
///
/// Checked by `iotml_core::testing::decode`.
#[async_trait]
pub trait Decoder: Send {
    /// Called once, first.
    async fn open(&mut self, _task: &TaskContext) -> Result<(), DecodeError> {
        Ok(())
    }

    /// Fetches what `decode` will need for these messages, such as schemas by id.
    async fn prepare(&mut self, _raw: &Arc<RawBatch>) -> Result<(), DecodeError> {
        Ok(())
    }

    /// Decodes all messages; `rejected` counts rows of `raw`.
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError>;
}

/// The default of `max_bytes`: 512 KiB. Telemetry is smaller by orders of magnitude.
pub const DEFAULT_MAX_BYTES: usize = 512 * 1024;

fn default_max_bytes() -> usize {
    DEFAULT_MAX_BYTES
}

/// The default of `max_fields`: 1,024. Each field that becomes a column costs room in every row of a batch, so a sender must not
/// be free to choose how many there are.
pub const DEFAULT_MAX_FIELDS: usize = 1_024;

fn default_max_fields() -> usize {
    DEFAULT_MAX_FIELDS
}

/// Passes raw messages through undecoded, for pipelines that only move bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassThrough;

impl Decoder for PassThrough {
    fn decode(&mut self, raw: &Arc<RawBatch>) -> Result<StageOutput, DecodeError> {
        Ok(StageOutput::all(crate::batch::Batch::undecoded(raw.clone())))
    }
}
