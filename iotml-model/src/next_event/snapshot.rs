//! Windows as bytes.
//!
//! Layout, all little-endian: the head (`IMNE`) with look_back and n_features, n_keys u64; then for each key its length u32, its
//! bytes, the number of values u32 and the values as f32.

use iotml_core::state::StateError;
use prost::bytes::Buf;

use super::WindowShape;
use super::table::Table;
use crate::snapshot::{Head, Layout, cut, end, truncated};

const LAYOUT: Layout = Layout { magic: b"IMNE", version: 1, of: "a next_event model" };

pub(super) fn write(table: &Table, shape: WindowShape, fingerprint: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + table.len() * (32 + shape.len() * 4));
    LAYOUT.write(head(shape, fingerprint), &mut out);
    out.extend_from_slice(&(table.len() as u64).to_le_bytes());
    for (key, window) in table.iter() {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(&(window.len() as u32).to_le_bytes());
        for value in window {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    out
}

/// Reads windows back; `None` if they are sound but of a model with other features.
pub(super) fn read(
    mut bytes: &[u8],
    shape: WindowShape,
    fingerprint: u64,
    max_keys: usize,
) -> Result<Option<Table>, StateError> {
    if LAYOUT.read(&mut bytes)? != head(shape, fingerprint) {
        return Ok(None);
    }
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
        table.insert(key.into(), window);
    }
    end(bytes)?;
    Ok(Some(table))
}

fn head(shape: WindowShape, fingerprint: u64) -> Head {
    Head { fingerprint, sizes: [shape.look_back, shape.n_features] }
}
