//! Avro container files.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow_avro::reader::ReaderBuilder;
use iotml_kafka::Span;

use super::{Batches, open as open_file};
use crate::log::failure::Failure;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// Number of rows, by the counts before the blocks: nothing is unpacked.
pub fn n_rows(path: &Path) -> Result<i64, Failure> {
    let size = super::size(path)?;
    let mut blocks = Blocks { file: BufReader::new(open_file(path)?), size };
    blocks.count().map_err(|error| Failure::file(path, "is no sound Avro container file", Some(error.into())))
}

/// The rows `rows`, all columns.
pub fn open(path: &Path, rows: Span) -> Result<Batches, Failure> {
    let reader = ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(BufReader::new(open_file(path)?));
    let reader = reader.map_err(|error| Failure::file(path, "is no sound Avro container file", Some(error.into())))?;
    Ok(Box::new(Part { reader, skip: rows.start as usize, left: rows.len() as usize }))
}

/// A stretch of the rows of a reader.
struct Part<R> {
    reader: R,
    skip: usize,
    left: usize,
}

impl<R: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for Part<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left > 0 {
            let batch = match self.reader.next()? {
                Ok(batch) => batch,
                error => return Some(error),
            };
            let n_skipped = self.skip.min(batch.num_rows());
            self.skip -= n_skipped;
            let n_rows = self.left.min(batch.num_rows() - n_skipped);
            if n_rows > 0 {
                self.left -= n_rows;
                return Some(Ok(batch.slice(n_skipped, n_rows)));
            }
        }
        None
    }
}

/// The frame of a container file: a header, then blocks of a count, a size, as many bytes, and a mark.
struct Blocks {
    file: BufReader<File>,
    size: u64,
}

/// The mark behind each block.
const MARK: i64 = 16;

impl Blocks {
    fn count(&mut self) -> std::io::Result<i64> {
        // Behind the magic bytes stands a map of names and values, in blocks of entries.
        self.file.seek(SeekFrom::Start(4))?;
        loop {
            let n = self.long()?;
            if n == 0 {
                break;
            }
            if n < 0 {
                self.long()?;
            }
            for _ in 0..n.unsigned_abs() * 2 {
                let n_bytes = self.long()?;
                self.skip(n_bytes)?;
            }
        }
        self.skip(MARK)?;
        let mut n_rows = 0i64;
        while self.file.stream_position()? < self.size {
            let (n, n_bytes) = (self.long()?, self.long()?);
            if n < 0 {
                return Err(damaged("a block has a negative number of rows"));
            }
            n_rows = n_rows.saturating_add(n);
            self.skip(n_bytes)?;
            self.skip(MARK)?;
        }
        Ok(n_rows)
    }

    fn skip(&mut self, n_bytes: i64) -> std::io::Result<()> {
        let at = self.file.stream_position()?;
        if n_bytes < 0 || u64::try_from(n_bytes).is_ok_and(|n| n > self.size.saturating_sub(at)) {
            return Err(damaged("it ends in the middle of a block"));
        }
        self.file.seek_relative(n_bytes)
    }

    fn long(&mut self) -> std::io::Result<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(damaged("a number is too long"))
    }
}

fn damaged(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}
