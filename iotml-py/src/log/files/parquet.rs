//! Parquet files.

use std::path::Path;

use iotml_kafka::Span;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{Batches, open as open_file};
use crate::log::failure::Failure;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Number of rows, from the footer.
pub fn n_rows(path: &Path) -> Result<i64, Failure> {
    Ok(builder(path)?.metadata().file_metadata().num_rows())
}

/// The rows `rows`, with the columns that `roots` names; without any, all.
pub fn open(path: &Path, roots: &[String], rows: Span) -> Result<Batches, Failure> {
    let builder = builder(path)?;
    let fields = builder.schema().fields();
    let wanted = fields.iter().enumerate().filter(|(_, field)| roots.iter().any(|root| root == field.name()));
    let mask = match roots {
        [] => ProjectionMask::all(),
        _ => ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(at, _)| at).collect::<Vec<_>>()),
    };
    let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
    let reader = builder.with_offset(rows.start as usize).with_limit(rows.len() as usize).build();
    let reader = reader.map_err(|error| Failure::file(path, "cannot be read", Some(error.into())))?;
    Ok(Box::new(reader))
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<std::fs::File>, Failure> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(open_file(path)?);
    builder.map_err(|error| Failure::file(path, "is no sound Parquet file", Some(error.into())))
}
