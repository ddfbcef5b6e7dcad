//! What exactly once asks of the Kafka tables of a pipeline.

use std::collections::BTreeSet;

use iotml_core::plugin::{Inspection, Remark};
use serde_json::Value;

/// A transaction is one producer's at one cluster, so source and sinks must name the same one, and the sinks be alike.
pub(crate) fn remarks(inspection: &Inspection<'_>) -> Vec<Remark> {
    let config = inspection.config;
    if config.pointer("/pipeline/delivery.guarantee").is_none_or(|word| word != "exactly_once") {
        return Vec::new();
    }
    let routes = config.get("route").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let required = (0..routes.len()).filter(|at| routes[*at].get("required") != Some(&Value::Bool(false)));
    let sinks = required.map(|at| format!("/route/{at}/sink")).chain(["/dead_letter".to_owned()]);
    let properties = |pointer: &str| {
        let table = config.pointer(pointer).filter(|table| table.get("type").is_some_and(|kind| kind == "kafka"));
        table.and_then(|table| table.get("kafka"))
    };
    let sinks: Vec<(String, &Value)> = sinks.filter_map(|at| properties(&at).map(|table| (at, table))).collect();
    let mut found = Vec::new();
    for (at, table) in &sinks {
        if properties("/source").is_some_and(|source| brokers(source) != brokers(table)) {
            let message =
                "exactly_once commits rows and offsets at one cluster, so bootstrap.servers must be the source's";
            found.push(Remark::mistake(format!("{at}/kafka"), message));
        } else if let Some((first, _)) = sinks.first().filter(|(_, first)| first != table) {
            let message = format!(
                "with exactly_once all sinks share one producer, so this table must be the same as {first}/kafka"
            );
            found.push(Remark::mistake(format!("{at}/kafka"), message));
        }
    }
    found
}

fn brokers(properties: &Value) -> BTreeSet<String> {
    let named = properties.get("bootstrap.servers").or_else(|| properties.get("metadata.broker.list"));
    let list = named.and_then(Value::as_str).unwrap_or_default();
    list.split(',').map(|broker| broker.trim().to_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inv_9_one_cluster_and_one_producer() {
        let kafka = |servers: &str| json!({ "type": "kafka", "kafka": { "bootstrap.servers": servers } });
        let mut config = json!({
            "pipeline": { "delivery.guarantee": "exactly_once" },
            "source": kafka("a:1,b:1"),
            "route": [
                { "sink": kafka("b:1, a:1") },
                { "sink": kafka("c:1") },
                { "required": false, "sink": kafka("c:1") },
            ],
            "dead_letter": { "type": "kafka", "kafka": { "bootstrap.servers": "b:1, a:1", "linger.ms": 50 } },
        });
        let found = |config: &Value| {
            let found = remarks(&Inspection { config, stateful: &[], transactional: &[] });
            found.into_iter().map(|remark| remark.pointer).collect::<Vec<_>>()
        };
        assert_eq!(found(&config), ["/route/1/sink/kafka", "/dead_letter/kafka"]);
        config["pipeline"] = json!({});
        assert!(found(&config).is_empty());
    }
}
