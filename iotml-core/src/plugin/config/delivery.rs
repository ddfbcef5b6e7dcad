//! Whether a pipeline can deliver exactly once, as it is asked to.

use std::time::Duration;

use serde_json::Value;

use crate::plugin::{HumanDuration, Inspection, Remark};

/// A transaction must be over long before the far side takes its writer for dead.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// What stands in the way of `delivery.guarantee = "exactly_once"`, and what is outside of it.
pub(super) fn remarks(inspection: &Inspection<'_>) -> Vec<Remark> {
    let mut found = Vec::new();
    let config = inspection.config;
    let interval = config.pointer("/pipeline/transaction_interval");
    if config.pointer("/pipeline/delivery.guarantee").is_none_or(|word| word != "exactly_once") {
        if interval.is_some() {
            let message = "there are no transactions without \"delivery.guarantee\" = \"exactly_once\"";
            found.push(Remark::warning("/pipeline/transaction_interval", message));
        }
        return found;
    }
    let is_transactional = |pointer: &str| inspection.transactional.iter().any(|able| able == pointer);
    let kind = |pointer: &str| {
        let kind = config.pointer(&format!("{pointer}/type")).and_then(Value::as_str);
        kind.unwrap_or_default().to_owned()
    };
    let routes = config.get("route").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut sinks = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let pointer = format!("/route/{at}/sink");
        if route.get("required") == Some(&Value::Bool(false)) {
            let message =
                "this route is not required, so its rows are outside of exactly_once: they may be lost or come twice";
            found.push(Remark::warning(format!("/route/{at}"), message));
        } else {
            sinks.push(pointer);
        }
    }
    sinks.extend(config.get("dead_letter").map(|_| "/dead_letter".to_owned()));
    for pointer in [vec!["/source".to_owned()], sinks].concat() {
        if !is_transactional(&pointer) {
            let message = format!(
                "exactly_once needs transactions, in which {:?} cannot take part; use Kafka, or \"at_least_once\"",
                kind(&pointer)
            );
            found.push(Remark::mistake(pointer, message));
        }
    }
    if let Some(stage) = inspection.stateful.first() {
        let message = format!(
            "exactly_once does not cover the state of {stage}, which is not committed with the rows; use \"at_least_once\""
        );
        found.push(Remark::mistake("/pipeline/delivery.guarantee", message));
    }
    let interval = interval.and_then(Value::as_str).and_then(|text| text.parse::<HumanDuration>().ok());
    if interval.is_some_and(|interval| interval.0 > MAX_INTERVAL || interval.0.is_zero()) {
        let message = format!("must be above zero and at most {}", HumanDuration(MAX_INTERVAL));
        found.push(Remark::mistake("/pipeline/transaction_interval", message));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inv_9_exactly_once_is_refused_where_it_would_not_hold() {
        let mut config = json!({
            "pipeline": { "delivery.guarantee": "exactly_once", "transaction_interval": "6s" },
            "source": { "type": "mqtt" },
            "route": [
                { "name": "a", "sink": { "type": "kafka" } },
                { "name": "b", "sink": { "type": "stdout" } },
                { "name": "c", "required": false, "sink": { "type": "mqtt" } },
            ],
            "dead_letter": { "type": "stdout" },
        });
        let able = ["/route/0/sink".to_owned()];
        let stateful = ["score".to_owned()];
        let found = remarks(&Inspection { config: &config, stateful: &stateful, transactional: &able });
        let places = |is_mistake| {
            let of_kind = found.iter().filter(move |remark| remark.is_mistake == is_mistake);
            of_kind.map(|remark| remark.pointer.as_str()).collect::<Vec<_>>()
        };
        let wrong = ["/source", "/route/1/sink", "/dead_letter", "/pipeline/delivery.guarantee"];
        assert_eq!(places(true), [&wrong[..], &["/pipeline/transaction_interval"]].concat());
        assert_eq!(places(false), ["/route/2"]);
        assert!(found.iter().any(|remark| remark.message.contains("in which \"mqtt\" cannot take part")));

        config["pipeline"]["delivery.guarantee"] = "at_least_once".into();
        let found = remarks(&Inspection { config: &config, stateful: &stateful, transactional: &able });
        assert!(found.iter().all(|remark| !remark.is_mistake) && found.len() == 1, "{found:?}");
    }
}
