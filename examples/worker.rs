//! Teaches: a worker for operators is a registry and one call. This one knows every first-party plug-in and is configured by
//! TOML files alone; `examples/config/` has some to begin with.
//!
//! ```sh
//! cargo install --path examples --bin worker
//! worker plugins
//! worker validate examples/config/bridge.toml examples/config/score.toml
//! worker graph examples/config/score.toml
//! worker run examples/config/bridge.toml
//! ```

use std::process::ExitCode;

use iotml_core::cli;
use iotml_core::plugin::Registry;

fn main() -> ExitCode {
    cli::main(registry())
}

/// All first-party plug-ins; an own plug-in is one more line here.
fn registry() -> Registry {
    let mut registry = Registry::with_core();
    iotml_mqtt::register(&mut registry);
    iotml_kafka::register(&mut registry);
    iotml_model::register(&mut registry);
    registry
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use iotml_core::error::Stage;
    use iotml_core::plugin::config::Config;

    use super::*;

    #[test]
    fn the_example_configurations_have_no_mistakes() {
        // Paths in them count from the checkout, where the commands above run.
        std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
        let registry = Arc::new(registry());
        for name in ["bridge", "json_to_avro", "score", "follow", "dead_letters"] {
            let file = Path::new("examples/config").join(name).with_extension("toml");
            let config = Config::load(&file, &registry).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(config.warnings, [], "{}", file.display());
        }
    }

    /// Every key of an object in a JSON Schema.
    fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
        for (word, inner) in schema.as_object().into_iter().flatten() {
            if let ("properties", Some(properties)) = (word.as_str(), inner.as_object()) {
                found.extend(properties.keys().cloned());
                properties.values().for_each(|property| keys(property, found));
            } else {
                keys(inner, found);
            }
        }
        schema.as_array().into_iter().flatten().for_each(|inner| keys(inner, found));
    }

    #[test]
    fn keys_are_in_snake_case_but_for_words_of_kafka_connect_and_librdkafka() {
        let mut found = Vec::new();
        keys(&iotml_core::plugin::config::schema(&registry()), &mut found);
        assert!(found.len() > 100 && found.contains(&"max_batch_rows".to_owned()), "{found:?}");
        let is_snake = |key: &str| key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let words = ["tasks.max", "topics.regex", "delivery.guarantee", "bootstrap.servers"];
        let is_known = |key: &str| key.starts_with("errors.") || words.contains(&key);
        found.retain(|key| !is_snake(key) && !is_known(key));
        found.dedup();
        assert_eq!(found, [] as [&str; 0]);
    }

    #[test]
    fn every_stage_has_plugins() {
        let registry = registry();
        for stage in Stage::ALL {
            assert!(!registry.names(stage).is_empty(), "{stage}");
        }
        assert!(registry.names(Stage::Source).contains(&"mqtt") && registry.names(Stage::Sink).contains(&"kafka"));
    }
}
