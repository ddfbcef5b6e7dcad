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
        for name in ["bridge", "json_to_avro", "score", "dead_letters"] {
            let file = Path::new("examples/config").join(name).with_extension("toml");
            let config = Config::load(&file, &registry).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert_eq!(config.warnings, [], "{}", file.display());
        }
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
