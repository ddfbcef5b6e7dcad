//! The model's scaling and threshold, read by hand for the bare loop.

use std::path::Path;

use serde_json::Value;

use crate::Failure;

/// What the bare loop needs of the manifest.
pub struct Model {
    /// Factor and shift of every feature: scaled = raw * factor + shift.
    pub scales: Vec<(f32, f32)>,
    /// The score from which on a row is an anomaly.
    pub threshold: f32,
}

/// Reads the manifest beside the model.
pub fn read(model: &Path) -> Result<Model, Failure> {
    let manifest: Value = serde_json::from_slice(&std::fs::read(model.with_extension("json"))?)?;
    let features = manifest["features"].as_array().ok_or("the manifest has no features")?;
    let threshold = manifest["threshold"]["value"].as_f64().ok_or("the manifest has no threshold")? as f32;
    Ok(Model { scales: features.iter().map(scale).collect::<Result<_, _>>()?, threshold })
}

fn scale(feature: &Value) -> Result<(f32, f32), Failure> {
    let number = |of: &str| feature["scale"][of].as_f64();
    let (factor, shift) = match (feature["constant"].as_f64(), number("min"), number("mean")) {
        (Some(constant), ..) => (0.0, constant),
        (_, Some(min), _) => {
            let factor = 2.0 / (number("max").ok_or("min without max")? - min);
            (factor, -min * factor - 1.0)
        }
        (_, _, Some(mean)) => {
            let factor = 1.0 / number("std").ok_or("mean without std")?;
            (factor, -mean * factor)
        }
        _ => (1.0, 0.0),
    };
    Ok((factor as f32, shift as f32))
}
