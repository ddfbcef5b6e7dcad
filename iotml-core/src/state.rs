//! State of stages, kept by partition so that it moves with the partition.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::batch::LaneInfo;

/// Why state could not be kept or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store failed.
    #[error("state of {partition:?} of stage {stage:?} cannot be {action}")]
    Store {
        /// `read` or `written`.
        action: &'static str,
        /// The stage's name.
        stage: String,
        /// The partition.
        partition: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A snapshot is not one of this stage, or damaged.
    #[error("a snapshot cannot be restored: {0}")]
    Snapshot(String),
}

/// A stage with state: what it remembers from one batch to the next, by partition.
///
/// # Contract
/// 1. `restore(p, snapshot(p))` gives back the same behaviour for partition `p`; other partitions are untouched.
/// 2. After `forget(p)` nothing of `p` is kept in memory.
/// 3. A snapshot carries its own version; an unknown or damaged one is an error, never a panic.
/// 4. `assigned` comes before the first row of a lane: a row's partition is that of its lane
///    ([`RawBatch::lane`](crate::batch::RawBatch::lane)), and rows of a lane never announced have no partition.
pub trait Stateful {
    /// Takes note of which partition the rows of each lane belong to, before `restore` of that partition.
    fn assigned(&mut self, _lanes: &[LaneInfo]) {}
    /// The state of `partition`; `None` where there is none.
    fn snapshot(&self, partition: &str) -> Result<Option<Vec<u8>>, StateError>;
    /// Replaces the state of `partition`.
    fn restore(&mut self, partition: &str, snapshot: &[u8]) -> Result<(), StateError>;
    /// Drops the state of `partition`, which has moved elsewhere.
    fn forget(&mut self, partition: &str);
}

/// Where snapshots are kept.
pub trait StateStore: Send + Sync {
    /// Keeps the state of one partition of one stage, replacing the one before, atomically.
    fn put(&self, stage: &str, partition: &str, snapshot: &[u8]) -> Result<(), StateError>;
    /// The state kept last.
    fn get(&self, stage: &str, partition: &str) -> Result<Option<Vec<u8>>, StateError>;
}

/// Snapshots in local files, one per stage and partition below a folder, replaced by rename.
#[derive(Clone, Debug)]
pub struct FileStateStore {
    folder: PathBuf,
}

impl FileStateStore {
    /// A store below `folder`, which is created at the first write.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, stage: &str, partition: &str) -> PathBuf {
        self.folder.join(file_name(stage)).join(format!("{}.state", file_name(partition)))
    }
}

impl StateStore for FileStateStore {
    fn put(&self, stage: &str, partition: &str, snapshot: &[u8]) -> Result<(), StateError> {
        let path = self.path(stage, partition);
        replace_file(&path, snapshot).map_err(|source| StateError::Store {
            action: "written",
            stage: stage.to_owned(),
            partition: partition.to_owned(),
            source,
        })
    }

    fn get(&self, stage: &str, partition: &str) -> Result<Option<Vec<u8>>, StateError> {
        match fs::read(self.path(stage, partition)) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Store {
                action: "read",
                stage: stage.to_owned(),
                partition: partition.to_owned(),
                source,
            }),
        }
    }
}

/// Writes beside the file, syncs and renames, so that a crash leaves the old or the new content.
fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// A name as a file name: one-to-one, whatever characters it has.
fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_one_snapshot_per_stage_and_partition() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStateStore::new(folder.path());
        assert_eq!(store.get("score", "cars-0").unwrap(), None);
        store.put("score", "cars-0", b"one").unwrap();
        store.put("score", "cars-0", b"two").unwrap();
        store.put("score", "../cars/0", b"three").unwrap();
        assert_eq!(store.get("score", "cars-0").unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(store.get("score", "../cars/0").unwrap().as_deref(), Some(&b"three"[..]));
        assert_eq!(store.get("other", "cars-0").unwrap(), None);
        let inside = fs::read_dir(folder.path().join("score")).unwrap().count();
        assert_eq!(inside, 2, "a partition's name cannot lead out of the folder");
    }
}
