//! Addresses of real servers, given to tests by the environment.

use std::env;
use std::path::PathBuf;

/// `host:port` of a Kafka broker (`IOTML_KAFKA`).
pub fn kafka() -> Option<String> {
    server("IOTML_KAFKA")
}

/// `host:port` of Mosquitto (`IOTML_MOSQUITTO`).
pub fn mosquitto() -> Option<String> {
    server("IOTML_MOSQUITTO")
}

/// `host:port` of HiveMQ CE (`IOTML_HIVEMQ`).
pub fn hivemq() -> Option<String> {
    server("IOTML_HIVEMQ")
}

/// Base address of a schema registry with the Confluent API, path included (`IOTML_REGISTRY`).
pub fn registry() -> Option<String> {
    server("IOTML_REGISTRY")
}

/// What `name` holds; where it is not set the test says that it skips, or fails under `IOTML_REQUIRE_SERVERS=1`.
pub fn server(name: &str) -> Option<String> {
    let found = env::var(name).ok().filter(|value| !value.is_empty());
    if found.is_none() {
        skip(&format!("{name} is not set"), "IOTML_REQUIRE_SERVERS");
    }
    found
}

/// The folder of reference data (`IOTML_SEED_DATA`, else `../shared/seed` beside the checkout); skips or, under
/// `IOTML_REQUIRE_SEED_DATA=1`, fails where it is absent.
pub fn seed_data() -> Option<PathBuf> {
    let folder = env::var_os("IOTML_SEED_DATA").map(PathBuf::from).unwrap_or_else(|| {
        let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        checkout.join("../../shared/seed")
    });
    if folder.is_dir() {
        return Some(folder);
    }
    skip("the reference data is not there", "IOTML_REQUIRE_SEED_DATA");
    None
}

fn skip(why: &str, required: &str) {
    assert!(env::var_os(required).is_none_or(|value| value != "1"), "{why}, and {required}=1");
    println!("skipped: {why}");
}
