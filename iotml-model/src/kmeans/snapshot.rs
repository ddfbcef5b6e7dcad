//! What a partition has learnt, as bytes.
//!
//! Layout, all little-endian: the head (`IMKM`) with n_features and n_centres, then what follows by a u8: 0, the number of rows
//! u64 and the rows as f32; or 1, the limit f32, rows since the centres moved u64, the centres as f32, their weights as f64, the
//! sums as f64, the counts as u32, the weight of the next score f64, the number of bins of scores u32, and for each its number
//! u16 and its weight f64.

use iotml_core::state::StateError;
use prost::bytes::Buf;

use super::clusters::Clusters;
use super::learner::{Learner, Method, Rule, Warm};
use super::quantile::RunningQuantile;
use crate::snapshot::{Head, Layout, cut, end, truncated};

const LAYOUT: Layout = Layout { magic: b"IMKM", version: 1, of: "k-means" };
const WARMING: u8 = 0;
const WARM: u8 = 1;

pub(super) fn write(learner: &Learner, method: &Method, fingerprint: u64) -> Vec<u8> {
    let mut out = Vec::new();
    LAYOUT.write(head(method, fingerprint), &mut out);
    match learner {
        Learner::Warming(rows) => {
            out.push(WARMING);
            out.extend_from_slice(&((rows.len() / method.n_features) as u64).to_le_bytes());
            rows.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        }
        Learner::Warm(warm) => {
            let Warm { clusters, scores, limit, n_since } = warm.as_ref();
            out.push(WARM);
            out.extend_from_slice(&limit.to_le_bytes());
            out.extend_from_slice(&(*n_since as u64).to_le_bytes());
            clusters.centres.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            clusters.weights.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            clusters.sums.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            clusters.counts.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            out.extend_from_slice(&scores.unit().to_le_bytes());
            out.extend_from_slice(&(scores.bins().len() as u32).to_le_bytes());
            for (bin, weight) in scores.bins() {
                out.extend_from_slice(&bin.to_le_bytes());
                out.extend_from_slice(&weight.to_le_bytes());
            }
        }
    }
    out
}

/// Reads it back; `None` if it is sound but of other features or another number of centres.
pub(super) fn read(mut bytes: &[u8], method: &Method, fingerprint: u64) -> Result<Option<Learner>, StateError> {
    if LAYOUT.read(&mut bytes)? != head(method, fingerprint) {
        return Ok(None);
    }
    let learner = match bytes.try_get_u8().map_err(truncated)? {
        WARMING => {
            let n_rows = bytes.try_get_u64_le().map_err(truncated)?;
            // More than are seen now: the configuration asks for fewer, and the next row ends the warm-up.
            let n_values = usize::try_from(n_rows).ok().and_then(|n_rows| n_rows.checked_mul(method.n_features));
            let n_values = n_values.filter(|n_values| *n_values <= bytes.len() / 4).ok_or_else(cut)?;
            Learner::Warming(floats(&mut bytes, n_values)?)
        }
        WARM => Learner::Warm(Box::new(warm(&mut bytes, method)?)),
        other => return Err(StateError::Snapshot(format!("it has the unknown part {other}"))),
    };
    end(bytes)?;
    Ok(Some(learner))
}

fn head(method: &Method, fingerprint: u64) -> Head {
    Head { fingerprint, sizes: [method.n_features, method.n_centres] }
}

fn warm(bytes: &mut &[u8], method: &Method) -> Result<Warm, StateError> {
    let Method { n_features, n_centres, .. } = *method;
    let limit = floats(bytes, 1)?[0];
    let n_since = bytes.try_get_u64_le().map_err(truncated)? as usize;
    let centres = floats(bytes, n_centres * n_features)?;
    let weights = doubles(bytes, n_centres)?;
    let mut clusters = Clusters::new(n_features, centres, weights);
    clusters.sums = doubles(bytes, n_centres * n_features)?;
    for count in &mut clusters.counts {
        *count = bytes.try_get_u32_le().map_err(truncated)?;
    }
    let unit = doubles(bytes, 1)?[0];
    let n_bins = bytes.try_get_u32_le().map_err(truncated)?;
    let mut bins = Vec::new();
    for _ in 0..n_bins {
        let bin = bytes.try_get_u16_le().map_err(truncated)?;
        bins.push((bin, doubles(bytes, 1)?[0]));
    }
    if unit <= 0.0 || clusters.weights.iter().chain(bins.iter().map(|(_, weight)| weight)).any(|weight| *weight < 0.0) {
        return Err(StateError::Snapshot("a weight is below 0".to_owned()));
    }
    if bins.iter().any(|(bin, _)| *bin >= RunningQuantile::N_BINS) {
        return Err(StateError::Snapshot("a score is no number".to_owned()));
    }
    // A limit that is configured counts at once, one that was learnt until the centres move.
    let limit = if let Rule::Fixed(limit) = method.rule { limit } else { limit };
    Ok(Warm { clusters, scores: RunningQuantile::of(bins, unit), limit, n_since })
}

fn floats(bytes: &mut &[u8], n: usize) -> Result<Vec<f32>, StateError> {
    let read = |_| bytes.try_get_f32_le().map_err(truncated).and_then(|value| finite(value, value.is_finite()));
    (0..n).map(read).collect()
}

fn doubles(bytes: &mut &[u8], n: usize) -> Result<Vec<f64>, StateError> {
    let read = |_| bytes.try_get_f64_le().map_err(truncated).and_then(|value| finite(value, value.is_finite()));
    (0..n).map(read).collect()
}

fn finite<T>(value: T, is_finite: bool) -> Result<T, StateError> {
    if is_finite { Ok(value) } else { Err(StateError::Snapshot("a number in it is not finite".to_owned())) }
}
