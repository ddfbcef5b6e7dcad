//! The plug-ins as a TOML file configures them.

use std::path::Path;
use std::sync::Arc;

use iotml_core::plugin::Registry;
use iotml_core::plugin::config::Config;

fn registry() -> Arc<Registry> {
    let mut registry = Registry::with_core();
    iotml_kafka::register(&mut registry);
    Arc::new(registry)
}

const GOOD: &str = r#"
[pipeline]
name = "cars"

[source]
type = "kafka"
"topics.regex" = "cars-.*"
start = "latest"
commit_interval = "500ms"
prefetch = "4MiB"

[source.kafka]
"bootstrap.servers" = "127.0.0.1:9092"
"fetch.min.bytes" = 1000
"socket.keepalive.enable" = true

[decode]
type = "confluent_avro"
[decode.registry]
url = "https://127.0.0.1:8081/apis/ccompat/v7"
username = "me"
password = "hunter2"
tls = {}

[[route]]
name = "out"

[route.encode]
type = "confluent_avro"
subject = "cars-{record}"
auto_register = false
registry = { url = "http://127.0.0.1:8081" }

[route.sink]
type = "kafka"
topic = "{topic}-scored"
create_topics = { partitions = 3, replication = 1, config = { "cleanup.policy" = "compact" } }

[route.sink.kafka]
"bootstrap.servers" = "127.0.0.1:9092"
"#;

#[test]
fn every_option_is_known_to_the_check() {
    let config =
        Config::parse(GOOD, Path::new("good.toml"), &registry()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(config.warnings, []);
}

#[test]
fn inv_10_mistakes_are_told_by_place_and_without_secrets() {
    let wrong = GOOD
        .replace("prefetch =", "prefetched =")
        .replace("start = \"latest\"", "start = \"newest\"")
        .replace("auto_register =", "autoregister =")
        .replace("\"socket.keepalive.enable\" = true", "\"sasl.password\" = \"swordfish\"")
        .replace("username = ", "user = ")
        .replace("tls = {}", "tls.ca_file = \"ca.pem\"")
        .replace("partitions = 3", "partition = 3");
    let mistakes = Config::parse(&wrong, Path::new("wrong.toml"), &registry()).unwrap_err().to_string();
    for part in [
        "prefetched",
        "prefetch",
        "newest",
        "autoregister",
        "auto_register",
        "decode.registry.user: unknown key; known here: max_answer_bytes, password, timeout, tls, token, url, username",
        "decode.registry.tls.ca_file: unknown key; known here: ca",
        "partition",
    ] {
        assert!(mistakes.contains(part), "{part} in {mistakes}");
    }
    assert!(!mistakes.contains("hunter2") && !mistakes.contains("swordfish"), "{mistakes}");
}

#[test]
fn a_property_that_weakens_a_guarantee_is_a_mistake_of_the_file() {
    let wrong = GOOD.replace("\"fetch.min.bytes\" = 1000", "\"enable.auto.commit\" = true\n\"fetch.min.byte\" = 1");
    let mistakes = Config::parse(&wrong, Path::new("wrong.toml"), &registry()).unwrap_err().to_string();
    assert!(mistakes.contains("\"enable.auto.commit\" cannot be set"), "{mistakes}");
    assert!(mistakes.contains("fetch.min.byte"), "{mistakes}");
}
