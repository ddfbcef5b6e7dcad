//! How every snapshot begins and ends.
//!
//! A head is, all little-endian: a magic of 4 bytes, the layout's version u8, a fingerprint u64, and two sizes u32. Nothing follows
//! what a scorer reads behind it.

use iotml_core::state::StateError;
use prost::bytes::{Buf, TryGetError};

/// Which snapshots a scorer writes and reads.
pub(crate) struct Layout {
    pub(crate) magic: &'static [u8; 4],
    pub(crate) version: u8,
    /// Whose they are, for people.
    pub(crate) of: &'static str,
}

/// What the numbers of a snapshot mean: those of another head are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) fingerprint: u64,
    pub(crate) sizes: [usize; 2],
}

impl Layout {
    pub(crate) fn write(&self, head: Head, out: &mut Vec<u8>) {
        out.extend_from_slice(self.magic);
        out.push(self.version);
        out.extend_from_slice(&head.fingerprint.to_le_bytes());
        head.sizes.iter().for_each(|size| out.extend_from_slice(&(*size as u32).to_le_bytes()));
    }

    pub(crate) fn read(&self, bytes: &mut &[u8]) -> Result<Head, StateError> {
        let mut magic = [0; 4];
        bytes.try_copy_to_slice(&mut magic).map_err(truncated)?;
        if &magic != self.magic {
            return Err(StateError::Snapshot(format!("it is not one of {}", self.of)));
        }
        let version = bytes.try_get_u8().map_err(truncated)?;
        if version != self.version {
            let known = self.version;
            return Err(StateError::Snapshot(format!("its version is {version}, but only {known} is known")));
        }
        let fingerprint = bytes.try_get_u64_le().map_err(truncated)?;
        let mut sizes = [0; 2];
        for size in &mut sizes {
            *size = bytes.try_get_u32_le().map_err(truncated)? as usize;
        }
        Ok(Head { fingerprint, sizes })
    }
}

/// Errs if something is left.
pub(crate) fn end(bytes: &[u8]) -> Result<(), StateError> {
    match bytes.len() {
        0 => Ok(()),
        n => Err(StateError::Snapshot(format!("{n} bytes are left over"))),
    }
}

pub(crate) fn truncated(_: TryGetError) -> StateError {
    cut()
}

pub(crate) fn cut() -> StateError {
    StateError::Snapshot("it ends in the middle of a field".to_owned())
}
