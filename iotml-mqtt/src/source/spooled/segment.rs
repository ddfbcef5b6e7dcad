//! One file of a spool: records in order, appended only.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::record::{HEADER, Header};

/// A file of consecutive records.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// Number of its first record; part of the file's name.
    pub(super) first: u64,
    /// Number behind its last record.
    pub(super) end: u64,
    pub(super) n_bytes: u64,
}

/// Why a segment cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SegmentError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The bytes are not what was written.
    #[error(
        "{path} is damaged at byte {at}; keep a copy, and shorten the file to {at} bytes to go on without the messages of this file \
         behind them (docs/operating.md, \"A damaged spool\")"
    )]
    Damaged { path: PathBuf, at: u64 },
}

impl Segment {
    /// Where the segment that begins with record `first` lies.
    pub(super) fn path(folder: &Path, first: u64) -> PathBuf {
        folder.join(format!("{first:020}.spool"))
    }

    /// The number in a file's name, if it is that of a segment.
    pub(super) fn first_of(path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?;
        name.strip_suffix(".spool")?.parse().ok()
    }

    /// Reads a file to its end. A record that the end of the file cuts short was never acknowledged to the broker: it is left
    /// out of `n_bytes`. Anything else that is wrong is damage.
    pub(super) fn scan(path: PathBuf, first: u64) -> Result<Self, SegmentError> {
        let failed = |source| SegmentError::Io { path: path.clone(), source };
        let mut reader = BufReader::new(File::open(&path).map_err(failed)?);
        let (mut end, mut n_bytes) = (first, 0);
        let mut body = Vec::new();
        loop {
            let mut head = [0; HEADER];
            if !read_whole(&mut reader, &mut head).map_err(failed)? {
                break;
            }
            let header = Header::read(&head).ok_or(SegmentError::Damaged { path: path.clone(), at: n_bytes })?;
            body.clear();
            let read = (&mut reader).take(u64::from(header.len)).read_to_end(&mut body).map_err(failed)?;
            if read < header.len as usize {
                break;
            }
            if !header.fits(&body) {
                return Err(SegmentError::Damaged { path, at: n_bytes });
            }
            end += 1;
            n_bytes += HEADER as u64 + u64::from(header.len);
        }
        Ok(Self { path, first, end, n_bytes })
    }
}

/// Fills `bytes`; false where the file ends before.
pub(super) fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
