//! A bounded queue on disk: written by the client's callback, read by the source, shortened by acknowledgements.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::acked::Acked;
use super::record::{self, HEADER, Header};
use super::segment::{Segment, SegmentError, read_whole};

const SMALLEST_SEGMENT: u64 = 4 << 10;
const LARGEST_SEGMENT: u64 = 64 << 20;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// The folder or a file of it.
    #[error("cannot use the spool {path}: {source}; check spool.dir and the free space")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Two processes with the same instance name, or two pipelines with the same client id.
    #[error("the spool {path} is in use by another process; give each instance a name of its own")]
    InUse { path: PathBuf },
    /// A file of it.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// Files are missing in between.
    #[error(
        "the spool {path} lacks records {end} to {first}; bring the missing files back, or take what is there one side of the gap \
         after the other (docs/operating.md, \"A damaged spool\")"
    )]
    Gap { path: PathBuf, end: u64, first: u64 },
}

/// A record read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number in the spool.
    pub(super) seq: u64,
    /// Time of receipt in milliseconds since the Unix epoch.
    pub(super) time: i64,
    /// What was appended.
    pub(super) body: Vec<u8>,
}

/// What a spool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Bytes on disk, with what is acknowledged in files that are not free yet.
    pub(super) n_bytes: u64,
    /// Records that are not acknowledged.
    pub(super) n_records: u64,
    /// Time of receipt of the oldest of them, to about a second, in milliseconds since the Unix epoch.
    pub(super) oldest: Option<i64>,
}

/// The queue. A record is on disk (in the page cache, or with `fsync` on the medium) when [`append`](Spool::append) returns.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    fsync: bool,
    state: Mutex<State>,
    room: Condvar,
    grown: Notify,
    filled: Notify,
    /// Held for as long as the spool is open.
    _lock: File,
}

#[derive(Debug)]
struct State {
    /// At least one; the last is written to.
    segments: VecDeque<Segment>,
    writer: File,
    reader: Option<(u64, BufReader<File>)>,
    /// Number of the record to read next.
    read: u64,
    /// Number of the first record that is not acknowledged.
    next_unacked: u64,
    acked: Acked,
    /// Times of records that were read and are not acknowledged, one a second: number and time.
    times: VecDeque<(u64, i64)>,
    /// A time not younger than that of the first record not acknowledged, for when none was read yet.
    before: i64,
    closing: bool,
    buffer: Vec<u8>,
}

/// Appends that wait for room, in all spools of the process.
static N_WAITING: AtomicUsize = AtomicUsize::new(0);

/// Whether an append waits for room: then Paho receives nothing for any of its clients.
pub(super) fn is_any_full() -> bool {
    N_WAITING.load(Ordering::Acquire) > 0
}

/// Times closer together than this are not told apart, so that a spool of any size remembers few.
const TIME_STEP: i64 = 1_000;

impl Spool {
    /// Opens the spool in `folder`, which is made if need be, and goes back to the first record not acknowledged.
    pub(super) fn open(folder: &Path, max_bytes: u64, fsync: bool) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Io { path: folder.into(), source };
        let new: Vec<_> = folder.ancestors().take_while(|path| !is_here(path) && !path.exists()).collect();
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        if lock.try_lock().is_err() {
            return Err(SpoolError::InUse { path: folder.into() });
        }
        let (mut acked, next_unacked) = Acked::open(folder).map_err(failed)?;
        let mut firsts = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            firsts.extend(Segment::first_of(&entry.map_err(failed)?.path()));
        }
        firsts.sort_unstable();
        let mut segments = VecDeque::new();
        for first in firsts {
            let segment = Segment::scan(Segment::path(folder, first), first)?;
            if let Some(end) = segments.back().map(|last: &Segment| last.end).filter(|end| *end != first) {
                return Err(SpoolError::Gap { path: folder.into(), end, first });
            }
            segments.push_back(segment);
        }
        if segments.is_empty() {
            let path = Segment::path(folder, next_unacked);
            segments.push_back(Segment { path, first: next_unacked, end: next_unacked, n_bytes: 0 });
        }
        let (first, end) = (segments[0].first, segments[segments.len() - 1].end);
        let last = &segments[segments.len() - 1];
        let writer = writer(last).map_err(failed)?;
        if next_unacked > end {
            // A power cut took the end of the last file, and not the number. What comes next gets the numbers that are missing.
            acked.take_back(end).map_err(failed)?;
        }
        let next_unacked = next_unacked.clamp(first, end);
        let mut state = State {
            segments,
            writer,
            reader: None,
            read: next_unacked,
            next_unacked,
            acked,
            times: VecDeque::new(),
            before: 0,
            closing: false,
            buffer: Vec::new(),
        };
        state.look_at_first().map_err(|error| error.in_folder(folder))?;
        let spool = Self {
            folder: folder.into(),
            max_bytes,
            fsync,
            state: Mutex::new(state),
            room: Condvar::new(),
            grown: Notify::new(),
            filled: Notify::new(),
            _lock: lock,
        };
        spool.lock().drop_acked().map_err(failed)?;
        if fsync {
            // So that the names of the first file and of every folder that was made are on the medium as well.
            new.iter().filter_map(|new| new.parent()).chain([folder]).try_for_each(sync_folder).map_err(failed)?;
        }
        Ok(spool)
    }

    /// Number of the record that is read next.
    pub(super) fn position(&self) -> u64 {
        self.lock().read
    }

    /// Whether every record is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Appends a record and returns when it would survive a kill of the process. Blocks while the spool is full, until
    /// acknowledgements make room; while it closes a record goes in over the bound, because its caller cannot give it back.
    pub(super) fn append(&self, time: i64, body: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        loop {
            state.leave_acked_segment(&self.folder, self.fsync)?;
            let len = (HEADER + body.len()) as u64;
            if state.closing || state.n_bytes() == 0 || state.n_bytes() + len <= self.max_bytes {
                break;
            }
            self.filled.notify_one();
            N_WAITING.fetch_add(1, Ordering::AcqRel);
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
            N_WAITING.fetch_sub(1, Ordering::AcqRel);
        }
        let segment_size = (self.max_bytes / 8).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT);
        if state.segments.back().is_some_and(|last| last.n_bytes >= segment_size) {
            state.begin_segment(&self.folder, self.fsync)?;
        }
        let was_empty = state.is_empty();
        state.write(time, body, self.fsync)?;
        if was_empty {
            state.before = time;
        }
        drop(state);
        self.grown.notify_one();
        Ok(())
    }

    /// The next record, if there is one yet.
    pub(super) fn read(&self) -> Result<Option<Entry>, SpoolError> {
        self.lock().read_next().map_err(|error| error.in_folder(&self.folder))
    }

    /// What it holds at present.
    pub(super) fn held(&self) -> Held {
        let state = self.lock();
        let n_records = state.segments.back().map_or(0, |last| last.end - state.next_unacked);
        let oldest = state.times.front().map_or(state.before, |(_, time)| *time);
        Held { n_bytes: state.n_bytes(), n_records, oldest: (n_records > 0).then_some(oldest) }
    }

    /// Waits until a record was appended since the last call.
    pub(super) async fn grown(&self) {
        self.grown.notified().await;
    }

    /// Waits until an append found no room since the last call.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Everything before record `next` is durable elsewhere.
    pub(super) fn ack(&self, next: u64) -> Result<(), SpoolError> {
        let mut state = self.lock();
        let next = next.min(state.read);
        if next <= state.next_unacked {
            return Ok(());
        }
        state.next_unacked = next;
        while state.times.front().is_some_and(|(seq, _)| *seq < next) {
            // The next one kept may be up to a second younger than the first that is not acknowledged, which this one is not.
            let follows = state.times.get(1).map_or(state.read, |(seq, _)| *seq);
            if follows > next {
                break;
            }
            state.before = state.times.pop_front().map_or(state.before, |(_, time)| time);
        }
        let done = state.acked.write(next).and_then(|()| state.drop_acked());
        drop(state);
        self.room.notify_all();
        done.map_err(|source| SpoolError::Io { path: self.folder.clone(), source })
    }

    /// Lets a blocked append go through; see there.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves the files whole: every change is one write followed by its book-keeping.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum ReadError {
    Io(io::Error),
    Segment(SegmentError),
}

impl ReadError {
    fn in_folder(self, folder: &Path) -> SpoolError {
        match self {
            ReadError::Io(source) => SpoolError::Io { path: folder.into(), source },
            ReadError::Segment(error) => error.into(),
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl State {
    /// Whether every record is acknowledged.
    fn is_empty(&self) -> bool {
        self.segments.back().is_none_or(|last| self.next_unacked >= last.end)
    }

    fn n_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.n_bytes).sum()
    }

    /// Takes the time of the first record from the file, and reads nothing yet.
    fn look_at_first(&mut self) -> Result<(), ReadError> {
        let first = self.read;
        if let Some(entry) = self.read_next()? {
            (self.read, self.reader, self.before) = (first, None, entry.time);
            self.times.clear();
        }
        Ok(())
    }

    fn write(&mut self, time: i64, body: &[u8], fsync: bool) -> io::Result<()> {
        self.buffer.clear();
        record::write(&mut self.buffer, time, body).map_err(io::Error::other)?;
        let Some(last) = self.segments.back_mut() else { return Err(io::Error::other("the spool has no segment")) };
        let written = self.writer.write_all(&self.buffer);
        let written = if fsync { written.and_then(|()| self.writer.sync_data()) } else { written };
        if let Err(error) = written {
            // Half a record must not stand before the next one.
            self.writer.set_len(last.n_bytes)?;
            self.writer.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        last.n_bytes += self.buffer.len() as u64;
        last.end += 1;
        Ok(())
    }

    fn begin_segment(&mut self, folder: &Path, fsync: bool) -> io::Result<()> {
        let first = self.segments.back().map_or(0, |last| last.end);
        let next = Segment { path: Segment::path(folder, first), first, end: first, n_bytes: 0 };
        self.writer = writer(&next)?;
        if fsync {
            // A file whose name is lost is lost, however well its records were synced.
            sync_folder(folder)?;
        }
        self.segments.push_back(next);
        Ok(())
    }

    /// Frees the space of the last segment once all of it is acknowledged.
    fn leave_acked_segment(&mut self, folder: &Path, fsync: bool) -> io::Result<()> {
        let done = self.segments.back().is_some_and(|last| last.n_bytes > 0 && last.end <= self.next_unacked);
        if done {
            self.begin_segment(folder, fsync)?;
            self.drop_acked()?;
        }
        Ok(())
    }

    /// Removes files whose records are all acknowledged, but never the one that is written to.
    fn drop_acked(&mut self) -> io::Result<()> {
        while self.segments.len() > 1 && self.segments[0].end <= self.next_unacked {
            fs::remove_file(&self.segments[0].path)?;
            self.segments.pop_front();
        }
        Ok(())
    }

    fn read_next(&mut self) -> Result<Option<Entry>, ReadError> {
        let Some(segment) = self.segments.iter().find(|segment| self.read < segment.end) else { return Ok(None) };
        let mut reader = match self.reader.take() {
            Some((first, reader)) if first == segment.first => reader,
            _ => {
                let mut reader = BufReader::new(File::open(&segment.path)?);
                for _ in segment.first..self.read {
                    skip(&mut reader)?;
                }
                reader
            }
        };
        let at = reader.stream_position()?;
        let damaged = || ReadError::Segment(SegmentError::Damaged { path: segment.path.clone(), at });
        let mut head = [0; HEADER];
        if !read_whole(&mut reader, &mut head)? {
            return Err(damaged());
        }
        let header = Header::read(&head).ok_or_else(damaged)?;
        let mut body = vec![0; header.len as usize];
        if !read_whole(&mut reader, &mut body)? || !header.fits(&body) {
            return Err(damaged());
        }
        self.reader = Some((segment.first, reader));
        let entry = Entry { seq: self.read, time: header.time, body };
        self.read += 1;
        if self.times.back().is_none_or(|(_, last)| (entry.time - last).abs() >= TIME_STEP) {
            self.times.push_back((entry.seq, entry.time));
        }
        Ok(Some(entry))
    }
}

/// Opens a segment's file for appending, without what a crash left behind its last record.
fn writer(segment: &Segment) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&segment.path)?;
    if file.metadata()?.len() > segment.n_bytes {
        tracing::info!(path = %segment.path.display(), "a record cut short by a crash is dropped; the broker still has it");
        file.set_len(segment.n_bytes)?;
    }
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// Forces the names of a folder's files to the medium.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(if is_here(folder) { Path::new(".") } else { folder })?.sync_all()
}

/// Whether it is "", the parent of a relative path of one name.
fn is_here(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn skip(reader: &mut BufReader<File>) -> Result<(), ReadError> {
    let mut head = [0; HEADER];
    reader.read_exact(&mut head)?;
    let header =
        Header::read(&head).ok_or_else(|| io::Error::other("a record before the first unread one is damaged"))?;
    reader.seek_relative(i64::from(header.len))?;
    Ok(())
}
