//! How far a spool is acknowledged, kept beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Two slots are written in turn, so that a crash while one is written leaves the other.
const SLOT: usize = 12;

/// The file that remembers it.
#[derive(Debug)]
pub(super) struct Acked {
    file: File,
    second: bool,
}

impl Acked {
    /// Opens the file in `folder`; the number is that of the first message not acknowledged, 0 for a new or damaged file,
    /// which only brings messages again.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, u64)> {
        let path = folder.join("acknowledged");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let slots: Vec<_> = bytes.chunks_exact(SLOT).map(read).collect();
        let next = slots.iter().flatten().max().copied().unwrap_or(0);
        // The newer slot must not be the one that is overwritten first.
        let second = slots.first() == Some(&Some(next));
        Ok((Self { file, second }, next))
    }

    /// Takes the number back to `next`: both slots, since the greater one counts, and on the medium, since what is appended from now
    /// on has numbers that were acknowledged before.
    pub(super) fn take_back(&mut self, next: u64) -> io::Result<()> {
        self.write(next)?;
        self.write(next)?;
        self.file.sync_data()
    }

    /// Remembers `next`. Not synced: after a power cut messages come again, none is lost.
    pub(super) fn write(&mut self, next: u64) -> io::Result<()> {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&next.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..8]);
        bytes[8..].copy_from_slice(&crc.to_le_bytes());
        let at = if self.second { SLOT as u64 } else { 0 };
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(&bytes)?;
        self.second = !self.second;
        Ok(())
    }
}

fn read(slot: &[u8]) -> Option<u64> {
    let number = slot.get(..8)?.try_into().ok()?;
    let crc = slot.get(8..SLOT)?.try_into().ok()?;
    (crc32fast::hash(&slot[..8]) == u32::from_le_bytes(crc)).then(|| u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_intact_number_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (mut acked, next) = Acked::open(folder.path()).unwrap();
        assert_eq!(next, 0);
        for number in 1..=5 {
            acked.write(number).unwrap();
            let (again, next) = Acked::open(folder.path()).unwrap();
            assert_eq!(next, number);
            acked = again;
        }
        // A crash tears the slot that was to be written next or the one written last: the other counts.
        let path = folder.path().join("acknowledged");
        let intact = std::fs::read(&path).unwrap();
        for at in 0..intact.len() {
            let mut torn = intact.clone();
            torn[at] ^= 0xff;
            std::fs::write(&path, torn).unwrap();
            assert!([4, 5].contains(&Acked::open(folder.path()).unwrap().1), "byte {at}");
        }
    }
}
