//! The model store: what holds of every one, what is kept on disk, signatures, and stores that do not behave.

mod buckets;
mod cached;
mod conformance;
mod damaged;
mod misbehaving;
pub mod server;
pub mod signed;

use iotml_core::plugin::HumanDuration;
use iotml_model::store::{Store, StoreOptions, StoreProperties};
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
pub fn unique(word: &str) -> String {
    format!("{word}-{:016x}", rand::random::<u64>())
}

/// A store in memory.
fn memory() -> Store {
    Store::open("memory://", &StoreOptions::default()).unwrap()
}

/// Options of an S3 server at `endpoint` that is not waited for.
pub fn impatient(endpoint: &str, password: &str) -> StoreOptions {
    let properties = [
        ("aws_endpoint", endpoint),
        ("allow_http", "true"),
        ("aws_region", "us-east-1"),
        ("aws_access_key_id", "models"),
        ("aws_secret_access_key", password),
    ];
    StoreOptions {
        properties: properties.into_iter().fold(StoreProperties::default(), |all, (name, value)| all.set(name, value)),
        connect_timeout: HumanDuration::from_millis(500),
        request_timeout: HumanDuration::from_millis(500),
        max_retries: 1,
        retry_timeout: HumanDuration::from_secs(2),
        ..StoreOptions::default()
    }
}
