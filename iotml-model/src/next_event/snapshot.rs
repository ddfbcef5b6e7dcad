//! Windows as bytes.
//!
//! Layout, all little-endian: magic `IMNE`, version u8, fingerprint u64, look_back u32, n_features u32, n_keys u64; then for
//! each key its length u32, its bytes, the number of values u32 and the values as f32.

use iotml_core::state::StateError;
use prost::bytes::Buf;

use super::WindowShape;
use super::table::Table;

const MAGIC: &[u8; 4] = b"IMNE";
const VERSION: u8 = 1;

pub(super) fn write(table: &Table, shape: WindowShape, fingerprint: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + table.len() * (32 + shape.len() * 4));
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&fingerprint.to_le_bytes());
    out.extend_from_slice(&(shape.look_back as u32).to_le_bytes());
    out.extend_from_slice(&(shape.n_features as u32).to_le_bytes());
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
    let truncated = || StateError::Snapshot("it ends in the middle of a field".to_owned());
    let damaged = |_| truncated();
    let wrong = |reason: String| Err(StateError::Snapshot(reason));
    let mut magic = [0; 4];
    bytes.try_copy_to_slice(&mut magic).map_err(damaged)?;
    if &magic != MAGIC {
        return wrong("it is not one of a next_event model".to_owned());
    }
    let version = bytes.try_get_u8().map_err(damaged)?;
    if version != VERSION {
        return wrong(format!("its version is {version}, but only {VERSION} is known"));
    }
    let found = bytes.try_get_u64_le().map_err(damaged)?;
    let look_back = bytes.try_get_u32_le().map_err(damaged)? as usize;
    let n_features = bytes.try_get_u32_le().map_err(damaged)? as usize;
    if (found, look_back, n_features) != (fingerprint, shape.look_back, shape.n_features) {
        return Ok(None);
    }
    let n_keys = bytes.try_get_u64_le().map_err(damaged)?;
    let mut table = Table::new(max_keys);
    for _ in 0..n_keys {
        let length = bytes.try_get_u32_le().map_err(damaged)? as usize;
        let Some((key, rest)) = bytes.split_at_checked(length) else { return Err(truncated()) };
        bytes = rest;
        let n_values = bytes.try_get_u32_le().map_err(damaged)? as usize;
        if n_values > shape.len() || !n_values.is_multiple_of(shape.n_features) {
            return wrong(format!("a window of {n_values} numbers is no whole number of rows"));
        }
        let mut window = Vec::with_capacity(shape.len());
        for _ in 0..n_values {
            window.push(bytes.try_get_f32_le().map_err(damaged)?);
        }
        table.insert(key.into(), window);
    }
    if !bytes.is_empty() {
        return wrong(format!("{} bytes are left over", bytes.len()));
    }
    Ok(Some(table))
}
