//! The model store: what holds of every one, what is kept on disk, signatures, and stores that do not behave.

mod conformance;

use iotml_model::testing::scaled_copy;
use iotml_model::{Kind, Manifest};

/// A model whose bytes depend on `factor`.
fn model(factor: f32) -> Vec<u8> {
    scaled_copy(1, factor).build()
}

/// The manifest of such a model.
fn manifest(name: &str, version: &str) -> Manifest {
    Manifest::builder(Kind::Reconstruction, name).version(version).feature("x", None).build().unwrap()
}

/// A name that no other test has.
fn unique(word: &str) -> String {
    format!("{word}-{:016x}", rand::random::<u64>())
}
