//! Models that can be told apart by their scores: the square of `a` times the version.

use iotml_core::model::Announcement;
use iotml_model::manifest::Golden;
use iotml_model::testing::scaled_copy;
use iotml_model::{Kind, Manifest};

/// The announcement of a version, with its file.
pub fn version(version: u32) -> Announcement {
    let score = Some(score(1.0, f64::from(version)));
    let golden = Golden { input: vec![vec![1.0]], score: Some(vec![score]), output: None, tolerance: 1e-4 };
    let builder = Manifest::builder(Kind::Reconstruction, "m").version(version.to_string()).feature("a", None);
    let manifest = builder.golden(golden).fixed_threshold(1.0).build();
    let file = scaled_copy(1, 1.0 - version as f32).build();
    let manifest = manifest.ok().and_then(|manifest| serde_json::to_value(manifest).ok());
    Announcement { manifest, ..Announcement::inline(version.to_string(), file) }
}

/// What `version` makes of `a`.
pub fn score(a: f64, version: f64) -> f64 {
    (a * version).powi(2)
}
