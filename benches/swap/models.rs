//! Models that can be told apart by their scores: the square of `a` times the version.

use iotml_core::model::{Announcement, Place};
use iotml_model::manifest::Golden;
use iotml_model::store::Store;
use iotml_model::testing::OnnxBuilder;
use iotml_model::{Kind, Manifest};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::plan::Plan;

/// ONNX's number for the type int64.
const INT64: i64 = 7;

/// Where versions are put before they are announced; without a store they are sent inline.
pub struct Publisher {
    store: Option<(Store, Runtime)>,
    n_weights: usize,
}

impl Publisher {
    pub fn new(plan: &Plan) -> Result<Self, Failure> {
        let store = match &plan.store {
            Some(url) => Some((Store::open(url, &plan.store_options())?, Runtime::new()?)),
            None => None,
        };
        Ok(Self { store, n_weights: (plan.model_size.0 / 4).max(1) })
    }

    /// The announcement of a version, which is in the store by then.
    pub fn publish(&self, version: u32) -> Result<Announcement, Failure> {
        let score = Some(score(1.0, f64::from(version)));
        let golden = Golden { input: vec![vec![1.0]], score: Some(vec![score]), output: None, tolerance: 1e-4 };
        let builder = Manifest::builder(Kind::Reconstruction, "m").version(version.to_string()).feature("a", None);
        let manifest = builder.golden(golden).fixed_threshold(1.0).build()?;
        let (file, version) = (file(1.0 - version as f32, self.n_weights), version.to_string());
        Ok(match &self.store {
            Some((store, runtime)) => {
                let stored = runtime.block_on(store.put(file, manifest))?;
                Announcement::new(version, Place::Uri(stored.uri), stored.sha256)
            }
            None => {
                let manifest = Some(serde_json::to_value(manifest)?);
                Announcement { manifest, ..Announcement::inline(version, file) }
            }
        })
    }
}

/// A model that gives `x * factor` back, and looks the factor up in a table of `n_weights`, so that no engine can leave them out.
fn file(factor: f32, n_weights: usize) -> Vec<u8> {
    let axes = [None, Some(1)];
    let graph = OnnxBuilder::new().input("x", &axes).output("y", &axes).weights("zero", &[1], &[0.0]);
    graph
        .weights("table", &[n_weights as i64], &vec![factor; n_weights])
        .node("Mul", &["x", "zero"], &["first"])
        .node("Cast", &["first"], &["index"])
        .attribute("to", INT64)
        .node("Gather", &["table", "index"], &["factor"])
        .node("Mul", &["x", "factor"], &["y"])
        .build()
}

/// What `version` makes of `a`.
pub fn score(a: f64, version: f64) -> f64 {
    (a * version).powi(2)
}
