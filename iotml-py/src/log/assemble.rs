//! Decoded rows to blocks: filter, features, labels, windows, digest.

use std::sync::Arc;
use std::time::Instant;

use arrow::datatypes::ToByteSlice;
use iotml_core::error::Cause;
use iotml_core::pipeline::When;
use iotml_model::feature::FeatureSpec;
use sha2::{Digest, Sha256};

use super::block::{Block, Numbers, Origins, Piece};
use super::failure::Failure;
use super::labels;
use super::options::RowOptions;
use super::rejected::BadRow;
use super::rows::{Decoded, Place, RowSource};
use super::stats::Snapshot;
use super::windows::Windows;

/// Rows of a block, where batches are smaller: fewer would cost more than they hold.
const MIN_BLOCK_ROWS: usize = 4_096;

/// Makes blocks of rows.
pub struct Assembler {
    features: Option<FeatureSpec>,
    width: usize,
    filters: Vec<When>,
    label: Option<String>,
    windows: Option<Windows>,
    skip_bad: bool,
    block_rows: usize,
    digest: Option<Sha256>,
    numbers: Numbers,
    /// The rows that windows are made of; empty again after every step.
    scratch: Vec<f32>,
    origins: Origins,
    since: Option<Instant>,
    snapshot: Snapshot,
}

impl Assembler {
    /// A read that is bounded comes partition by partition; in one that goes on, nobody may wait for more than a batch.
    pub fn new(options: &RowOptions, filters: Vec<When>, is_bounded: bool) -> Self {
        let width = options.features.len();
        Self {
            features: (width > 0).then(|| FeatureSpec::new(&options.features, options.missing)),
            width,
            filters,
            label: options.label.clone(),
            windows: options.look_back.map(|look_back| Windows::new(look_back, width, is_bounded)),
            skip_bad: options.skip_bad,
            block_rows: if is_bounded { block_rows(options.batch_rows) } else { options.batch_rows },
            digest: options.digest.then(Sha256::new),
            numbers: Numbers::default(),
            scratch: Vec::new(),
            origins: Origins::default(),
            since: None,
            snapshot: Snapshot::default(),
        }
    }

    /// Rows that fit into the block.
    pub fn room(&self) -> usize {
        self.block_rows - self.origins.n_rows
    }

    /// When the first row of the block came.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Adds rows, at most as many as there is room for.
    pub fn push(&mut self, decoded: Decoded, source: &dyn RowSource) -> Result<(), Failure> {
        let Decoded { columns, envelope, bad, n_tombstones } = decoded;
        self.snapshot.n_tombstones += n_tombstones;
        let n_rows = columns.num_rows();
        let mut keep = self.filter(&columns)?;
        let n_kept = keep.as_ref().map_or(n_rows, |keep| keep.iter().filter(|keep| **keep).count());
        self.snapshot.n_filtered += (n_rows - n_kept) as u64;

        let (labels, bad_labels) = match &self.label {
            Some(name) if n_rows > 0 => {
                let column = columns.column_by_name(name).ok_or_else(|| missing(name, &columns, "label"))?;
                labels::of_column(name, column).map_err(Failure::Config)?
            }
            _ => (Vec::new(), Vec::new()),
        };
        let mut x = std::mem::take(if self.windows.is_some() { &mut self.scratch } else { &mut self.numbers.x });
        let first = x.len();
        let bad_features = match &mut self.features {
            Some(features) if n_rows > 0 => {
                if x.capacity() == 0 {
                    x.reserve_exact(self.block_rows * self.width);
                }
                x.resize(first + n_rows * self.width, 0.0);
                features.fill_rows(&columns, &mut x[first..]).map_err(|error| Failure::Config(error.to_string()))?
            }
            _ => Vec::new(),
        };

        let bad_rows = bad_features.into_iter().map(|bad| (bad.row, bad.cause)).chain(bad_labels);
        let mut bad: Vec<(Place, Cause)> = bad;
        for (row, cause) in bad_rows {
            let keep = keep.get_or_insert_with(|| vec![true; n_rows]);
            // What the filter left out may be as it likes, and a row is bad once.
            if std::mem::replace(&mut keep[row], false) {
                bad.push((envelope.place(row), cause));
            }
        }
        self.reject(bad, source)?;

        let kept = keep.map(|keep| (0..n_rows as u32).filter(|row| keep[*row as usize]).collect::<Vec<u32>>());
        let kept = kept.filter(|kept| kept.len() < n_rows);
        if let Some(kept) = &kept {
            compact(&mut x, first, self.width, kept);
        }
        self.snapshot.n_rows += kept.as_ref().map_or(n_rows, Vec::len) as u64;
        if let Some(digest) = &mut self.digest {
            digest.update(x[first..].to_byte_slice());
        }
        let labels = match &kept {
            Some(kept) if !labels.is_empty() => kept.iter().map(|row| labels[*row as usize]).collect(),
            _ => labels,
        };
        self.add(Piece { columns, envelope, kept }, x, labels);
        Ok(())
    }

    /// Adds rows that are all good: as they are, or as the windows that they complete.
    fn add(&mut self, piece: Piece, mut x: Vec<f32>, labels: Vec<f32>) {
        let Piece { columns, envelope, kept } = piece;
        let Some(windows) = &mut self.windows else {
            self.numbers.x = x;
            self.numbers.y.extend(labels);
            return self.append(Piece { columns, envelope, kept });
        };
        let kept = kept.unwrap_or_else(|| (0..columns.num_rows() as u32).collect());
        let mut ends = Vec::new();
        for (number, row) in kept.into_iter().enumerate() {
            let (partition, key) = (envelope.place(row as usize).partition, envelope.key(row as usize));
            let values = &x[number * self.width..(number + 1) * self.width];
            if windows.push(partition, key, values, &mut self.numbers.x) {
                self.numbers.target.extend_from_slice(values);
                self.numbers.y.extend(labels.get(number));
                ends.push(row);
            }
        }
        x.clear();
        self.scratch = x;
        self.append(Piece { columns, envelope, kept: Some(ends) });
    }

    fn append(&mut self, piece: Piece) {
        self.origins.push(piece);
        if self.origins.n_rows > 0 {
            self.since.get_or_insert_with(Instant::now);
        }
    }

    fn filter(&self, columns: &arrow::array::RecordBatch) -> Result<Option<Vec<bool>>, Failure> {
        if columns.num_rows() == 0 {
            return Ok(None);
        }
        let mut keep: Option<Vec<bool>> = None;
        for filter in &self.filters {
            let holds = filter.holds(columns).map_err(Failure::Config)?;
            keep = Some(match keep {
                None => holds,
                Some(keep) => keep.into_iter().zip(holds).map(|(keep, holds)| keep && holds).collect(),
            });
        }
        Ok(keep)
    }

    fn reject(&mut self, mut bad: Vec<(Place, Cause)>, source: &dyn RowSource) -> Result<(), Failure> {
        bad.sort_by_key(|(place, _)| place.number);
        for (Place { partition, offset, .. }, cause) in bad {
            let row = BadRow { partition, offset, cause };
            if !self.skip_bad {
                return Err(Failure::Bad { place: source.place(partition, offset), row });
            }
            self.snapshot.rejected.add(row);
        }
        Ok(())
    }

    /// The block as it is.
    pub fn take(&mut self, source: &dyn RowSource) -> Block {
        self.since = None;
        self.snapshot.progress = source.progress();
        Block {
            numbers: std::mem::take(&mut self.numbers),
            origins: Arc::new(std::mem::take(&mut self.origins)),
            snapshot: Arc::new(self.snapshot.clone()),
        }
    }

    /// The read as a whole, once everything was read.
    pub fn finish(&mut self, source: &dyn RowSource) -> Result<Snapshot, Failure> {
        let snapshot = &mut self.snapshot;
        snapshot.progress = source.progress();
        snapshot.is_complete = true;
        snapshot.digest = self.digest.take().map(|digest| format!("sha256:{}", hex(&digest.finalize())));
        match snapshot.rejected.listed.first() {
            Some(first) if snapshot.n_rows + snapshot.n_filtered == 0 => {
                let first = format!("{}: {}", source.place(first.partition, first.offset), first.cause);
                Err(Failure::NothingGood { n_messages: snapshot.progress.n_messages, first })
            }
            _ => Ok(snapshot.clone()),
        }
    }
}

/// A whole number of batches, so that none has to be put together from two blocks.
fn block_rows(batch_rows: usize) -> usize {
    batch_rows * MIN_BLOCK_ROWS.div_ceil(batch_rows).max(1)
}

/// Moves the rows that are kept together, behind the first `first` numbers.
fn compact(x: &mut Vec<f32>, first: usize, width: usize, kept: &[u32]) {
    for (number, row) in kept.iter().enumerate() {
        let (from, to) = (first + *row as usize * width, first + number * width);
        if from != to {
            x.copy_within(from..from + width, to);
        }
    }
    x.truncate(first + kept.len() * width);
}

fn missing(name: &str, columns: &arrow::array::RecordBatch, what: &str) -> Failure {
    let known: Vec<&str> = columns.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    Failure::Config(format!("there is no column {name:?} for the {what}; there are: {}", known.join(", ")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
