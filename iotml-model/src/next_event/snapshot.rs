//! Windows as bytes.
//!
//! Layout, all little-endian: the head (`IMNE`) with look_back and n_features, n_keys u64; then for each key its length u32, its
//! bytes, the number of values u32 and the values as f32.
//!
//! Windows of models whose numbers do not mean the same lie in one snapshot as parts: the magic `IMNS`, the version u8, the number of
//! parts u32; then for each part its length u64 and a snapshot as above.

use iotml_core::state::StateError;
use prost::bytes::Buf;

use super::WindowShape;
use super::table::Table;
use crate::snapshot::{Head, Layout, cut, end, truncated};

const LAYOUT: Layout = Layout { magic: b"IMNE", version: 1, of: "a next_event model" };

const PARTS_MAGIC: &[u8; 4] = b"IMNS";
const PARTS_VERSION: u8 = 1;

/// Windows as bytes, those seen last at the end.
pub(super) fn write(windows: &[(&[u8], &[f32])], shape: WindowShape, fingerprint: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + windows.len() * (32 + shape.len() * 4));
    LAYOUT.write(head(shape, fingerprint), &mut out);
    out.extend_from_slice(&(windows.len() as u64).to_le_bytes());
    for (key, window) in windows {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&(window.len() as u32).to_le_bytes());
        for value in *window {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    out
}

/// Several snapshots as one; a single one stays as it is.
pub(super) fn join(mut parts: Vec<Vec<u8>>) -> Option<Vec<u8>> {
    if parts.len() <= 1 {
        return parts.pop();
    }
    let mut out = PARTS_MAGIC.to_vec();
    out.push(PARTS_VERSION);
    out.extend_from_slice(&(parts.len() as u32).to_le_bytes());
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(&part);
    }
    Some(out)
}

fn split(mut bytes: &[u8]) -> Result<Vec<&[u8]>, StateError> {
    let Some(rest) = bytes.strip_prefix(PARTS_MAGIC) else { return Ok(vec![bytes]) };
    bytes = rest;
    let version = bytes.try_get_u8().map_err(truncated)?;
    if version != PARTS_VERSION {
        let reason = format!("its version is {version}, but only {PARTS_VERSION} is known");
        return Err(StateError::Snapshot(reason));
    }
    let n_parts = bytes.try_get_u32_le().map_err(truncated)?;
    let mut parts = Vec::new();
    for _ in 0..n_parts {
        let length = usize::try_from(bytes.try_get_u64_le().map_err(truncated)?).map_err(|_| cut())?;
        let Some((part, rest)) = bytes.split_at_checked(length) else { return Err(cut()) };
        bytes = rest;
        parts.push(part);
    }
    end(bytes)?;
    Ok(parts)
}

/// Reads the windows of wanted keys back; `None` if they are sound but of models with other features.
pub(super) fn read(
    bytes: &[u8],
    shape: WindowShape,
    fingerprint: u64,
    max_keys: usize,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Result<Option<Table>, StateError> {
    let mut found = None;
    for mut part in split(bytes)? {
        if LAYOUT.read(&mut part)? == head(shape, fingerprint) {
            found = Some(read_windows(part, shape, max_keys, &is_wanted)?);
        }
    }
    Ok(found)
}

fn read_windows(
    mut bytes: &[u8],
    shape: WindowShape,
    max_keys: usize,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Result<Table, StateError> {
    let n_keys = bytes.try_get_u64_le().map_err(truncated)?;
    let mut table = Table::new(max_keys);
    for _ in 0..n_keys {
        let length = bytes.try_get_u32_le().map_err(truncated)? as usize;
        let Some((key, rest)) = bytes.split_at_checked(length) else { return Err(cut()) };
        bytes = rest;
        let n_values = bytes.try_get_u32_le().map_err(truncated)? as usize;
        if n_values > shape.len() || !n_values.is_multiple_of(shape.n_features) {
            let reason = format!("a window of {n_values} numbers is no whole number of rows");
            return Err(StateError::Snapshot(reason));
        }
        let mut window = Vec::with_capacity(shape.len());
        for _ in 0..n_values {
            window.push(bytes.try_get_f32_le().map_err(truncated)?);
        }
        if is_wanted(key) {
            table.insert(key.into(), window);
        }
    }
    end(bytes)?;
    Ok(table)
}

fn head(shape: WindowShape, fingerprint: u64) -> Head {
    Head { fingerprint, sizes: [shape.look_back, shape.n_features] }
}
