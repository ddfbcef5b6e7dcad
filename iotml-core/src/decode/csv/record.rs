//! Splits a row into fields, in buffers that are used again.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use crate::error::{Cause, Reason};

pub(super) struct Record {
    reader: Reader,
    delimiter: u8,
    max_fields: usize,
    text: Vec<u8>,
    ends: Vec<usize>,
    n_fields: usize,
}

impl Record {
    pub fn new(delimiter: u8, max_fields: usize) -> Self {
        let reader = ReaderBuilder::new().delimiter(delimiter).build();
        Self { reader, delimiter, max_fields, text: vec![0; 1_024], ends: vec![0; 64], n_fields: 0 }
    }

    /// An empty one for the same rows.
    pub fn another(&self) -> Self {
        Self::new(self.delimiter, self.max_fields)
    }

    /// Reads one row and leaves `rest` behind it.
    fn next(&mut self, rest: &mut &[u8]) -> Result<(), Cause> {
        self.reader.reset();
        let (mut n_text, mut n_ends) = (0, 0);
        loop {
            let (result, n_read, n_written, n_ended) =
                self.reader.read_record(rest, &mut self.text[n_text..], &mut self.ends[n_ends..]);
            *rest = &rest[n_read..];
            n_text += n_written;
            n_ends += n_ended;
            match result {
                // The next call, with nothing left to read, tells the reader that the row ends here.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() > self.max_fields => return Err(self.too_many()),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record if n_ends > self.max_fields => return Err(self.too_many()),
                ReadRecordResult::Record => {
                    self.n_fields = n_ends;
                    return Ok(());
                }
                ReadRecordResult::End => return Err(Cause::new(Reason::Empty, "no row")),
            }
        }
    }

    #[cold]
    fn too_many(&self) -> Cause {
        Cause::new(Reason::Oversized, format!("more fields than `max_fields`, which is {}", self.max_fields))
    }

    /// Reads the names in the first line.
    pub fn names(&mut self, rest: &mut &[u8]) -> Result<Vec<String>, Cause> {
        self.next(rest)?;
        let name = |n| String::from_utf8(self.field(n).trim_ascii().to_vec());
        let names: Result<Vec<String>, _> = (0..self.len()).map(name).collect();
        names.map_err(|_| Cause::new(Reason::NotUtf8, "a header that is not UTF-8"))
    }

    /// Reads one row, behind which nothing but line ends may stand.
    pub fn last(&mut self, mut rest: &[u8]) -> Result<(), Cause> {
        self.next(&mut rest)?;
        match rest.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            true => Ok(()),
            false => Err(Cause::new(Reason::TrailingBytes, "more than one row")),
        }
    }

    pub fn len(&self) -> usize {
        self.n_fields
    }

    pub fn field(&self, n: usize) -> &[u8] {
        match self.ends[..self.n_fields].get(n) {
            Some(&end) => &self.text[if n == 0 { 0 } else { self.ends[n - 1] }..end],
            None => &[],
        }
    }
}
