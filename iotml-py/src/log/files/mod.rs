//! Rows from Parquet files and Avro container files.

mod avro;
mod columns;
mod parquet;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use iotml_kafka::Span;

use self::columns::{Columns, keys};
use super::failure::Failure;
use super::range::{FileRange, FileSpan};
use super::rows::{Decoded, Envelope, Progress, RowSource, Step};

/// Batches of a file, the columns that are needed of the rows that are wanted.
type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Parquet,
    Avro,
}

impl Kind {
    fn of(path: &Path) -> Result<Self, Failure> {
        let mut magic = [0; 4];
        let mut file = open(path)?;
        file.read_exact(&mut magic)
            .map_err(|error| Failure::file(path, "is too short to be a file of rows", Some(error.into())))?;
        match &magic {
            b"PAR1" => Ok(Kind::Parquet),
            b"Obj\x01" => Ok(Kind::Avro),
            _ => Err(Failure::file(path, "is neither a Parquet file nor an Avro container file", None)),
        }
    }
}

/// The rows of `paths` that are meant.
pub fn resolve(
    paths: &[PathBuf],
    last: Option<u64>,
    offsets: Option<BTreeMap<i32, Span>>,
) -> Result<FileRange, Failure> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let n_rows = match Kind::of(path)? {
            Kind::Parquet => parquet::n_rows(path)?,
            Kind::Avro => avro::n_rows(path)?,
        };
        files.push(FileSpan { path: path.clone(), rows: Span { start: 0, end: n_rows }, size: size(path)? });
    }
    if let Some(mut left) = last {
        for file in files.iter_mut().rev() {
            let n_rows = left.min(file.rows.len());
            file.rows.start = file.rows.end - n_rows as i64;
            left -= n_rows;
        }
    }
    let Some(offsets) = offsets else { return Ok(FileRange::of(files)) };
    for (number, file) in (0..).zip(&mut files) {
        let wanted = offsets.get(&number).copied().unwrap_or(Span { start: 0, end: 0 });
        if wanted.end > file.rows.end {
            let (path, end) = (file.path.display(), file.rows.end);
            return Err(Failure::Config(format!("{path} has {end} rows, and not the {} asked for", wanted.end)));
        }
        file.rows = wanted;
    }
    match offsets.keys().find(|number| !(0..files.len() as i32).contains(number)) {
        Some(number) => Err(Failure::Config(format!("there is no file {number}: there are {}", files.len()))),
        None => Ok(FileRange::of(files)),
    }
}

/// Rows of files, one file after the other.
pub struct FileRows {
    range: FileRange,
    key: Option<String>,
    needed: Vec<String>,
    /// The file that is read.
    open: Option<(Batches, Columns)>,
    /// Number of the next file.
    next_file: usize,
    /// Number of the next row in the file that is read.
    next_row: i64,
    /// What was read and not yet given.
    rest: Option<(RecordBatch, Option<arrow::array::ArrayRef>)>,
    n_rows: u64,
}

impl FileRows {
    /// Without `needed` columns, all there are.
    pub fn new(range: FileRange, key: Option<String>, needed: Vec<String>) -> Self {
        Self { range, key, needed, open: None, next_file: 0, next_row: 0, rest: None, n_rows: 0 }
    }

    /// The file that is read.
    fn current(&self) -> &Path {
        self.next_file.checked_sub(1).and_then(|at| self.range.spans().get(at)).map_or(Path::new(""), |file| &file.path)
    }

    /// Opens the next file; `false` if there is none.
    fn open_next(&mut self) -> Result<bool, Failure> {
        let Some(FileSpan { path, rows, size: was }) = self.range.spans().get(self.next_file).cloned() else {
            return Ok(false);
        };
        (self.next_file, self.next_row) = (self.next_file + 1, rows.start);
        if rows.is_empty() {
            return Ok(true);
        }
        let is = size(&path)?;
        if is != was {
            let what = format!("has changed since the range was taken: it had {was} bytes, and has {is}");
            return Err(Failure::file(&path, what, None));
        }
        let roots = columns::roots(&self.needed, self.key.as_deref());
        let batches = match Kind::of(&path)? {
            Kind::Parquet => parquet::open(&path, &roots, rows)?,
            Kind::Avro => avro::open(&path, rows)?,
        };
        self.open = Some((batches, Columns::new(self.needed.clone())));
        Ok(true)
    }

    fn read(&mut self) -> Result<bool, Failure> {
        let path = self.current().to_owned();
        let Some((batches, columns)) = &mut self.open else { return self.open_next() };
        match batches.next() {
            None => self.open = None,
            Some(Err(error)) => {
                return Err(Failure::file(&path, format!("cannot be read: {error}"), Some(error.into())));
            }
            Some(Ok(batch)) => {
                let keys = self.key.as_ref().map(|key| keys(&batch, key)).transpose();
                let keys = keys.map_err(|what| Failure::Config(format!("{}: {what}", path.display())))?;
                let chosen = columns.choose(&batch);
                let chosen = chosen.map_err(|what| Failure::Config(format!("{}: {what}", path.display())))?;
                self.rest = Some((chosen, keys));
            }
        }
        Ok(true)
    }
}

impl RowSource for FileRows {
    fn next(&mut self, max_rows: usize, _: Duration) -> Result<Step, Failure> {
        while self.rest.is_none() {
            if !self.read()? {
                return Ok(Step::End);
            }
        }
        let Some((batch, keys)) = self.rest.take() else { return Ok(Step::Idle) };
        let n_rows = batch.num_rows().min(max_rows);
        if n_rows < batch.num_rows() {
            let n_left = batch.num_rows() - n_rows;
            let keys = keys.as_ref().map(|keys| keys.slice(n_rows, n_left));
            self.rest = Some((batch.slice(n_rows, n_left), keys));
        }
        let keys = keys.map(|keys| keys.slice(0, n_rows));
        let envelope = Envelope::File { number: self.next_file as i32 - 1, first: self.next_row, keys };
        self.next_row += n_rows as i64;
        self.n_rows += n_rows as u64;
        Ok(Step::Rows(Decoded { columns: batch.slice(0, n_rows), envelope, bad: Vec::new(), n_tombstones: 0 }))
    }

    fn progress(&self) -> Progress {
        let total: u64 = self.range.spans().iter().map(|file| file.rows.len()).sum();
        Progress {
            n_messages: self.n_rows,
            n_offsets: self.n_rows,
            n_offsets_total: Some(total),
            lag: total.saturating_sub(self.n_rows),
            ..Progress::default()
        }
    }

    fn place(&self, partition: i32, offset: i64) -> String {
        let file = usize::try_from(partition).ok().and_then(|number| self.range.spans().get(number));
        format!("{} row {offset}", file.map_or(Path::new(""), |file| &file.path).display())
    }
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| Failure::file(path, "cannot be opened", Some(error.into())))
}

fn size(path: &Path) -> Result<u64, Failure> {
    let metadata = path.metadata().map_err(|error| Failure::file(path, "cannot be opened", Some(error.into())))?;
    Ok(metadata.len())
}
