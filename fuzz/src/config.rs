use std::path::Path;
use std::sync::{Arc, LazyLock};

use iotml_core::plugin::Registry;
use iotml_core::plugin::config::Config;

static REGISTRY: LazyLock<Arc<Registry>> = LazyLock::new(|| {
    let mut registry = Registry::with_core();
    iotml_mqtt::register(&mut registry);
    iotml_model::register(&mut registry);
    Arc::new(registry)
});

/// A configuration: valid or with mistakes that are named, the same every time.
pub fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    // Whatever is named there would be read.
    if text.contains("file") {
        return;
    }
    let parse = || Config::parse(text, Path::new("fuzz.toml"), &REGISTRY);
    match (parse(), parse()) {
        (Ok(first), Ok(second)) => assert_eq!(first.redacted(), second.redacted()),
        (Err(first), Err(second)) => {
            assert!(!first.mistakes.is_empty(), "refused without a reason");
            assert_eq!(first.to_string(), second.to_string());
            assert!(first.mistakes.iter().all(|mistake| !mistake.message.is_empty()));
        }
        _ => panic!("valid once and not twice"),
    }
}
