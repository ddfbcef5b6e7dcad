//! What `validate` says about order behind a shared subscription (invariant 11).

use iotml_core::plugin::{Inspection, Remark};

/// Warns where a stage that keeps state stands behind a shared subscription: one device's messages come over several
/// connections, and may change places on the way.
pub(crate) fn remarks(inspection: &Inspection<'_>) -> Vec<Remark> {
    let source = &inspection.config["source"];
    let Some(stage) = inspection.stateful.first() else { return Vec::new() };
    if source["type"] != "mqtt" || !source["group"].is_string() {
        return Vec::new();
    }
    let message = format!(
        "one device's messages come over several connections of the group and may reach {stage}, which keeps state, out of \
         order; bridge to Kafka first, or use a plain filter with one task and one connection"
    );
    vec![Remark::warning("/source/group", message)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inv_11_a_stateful_stage_behind_a_group_is_warned_of() {
        let stateful = ["score".to_owned()];
        let shared = json!({ "source": { "type": "mqtt", "group": "cars" } });
        let found = remarks(&Inspection { config: &shared, stateful: &stateful, transactional: &[] });
        assert_eq!((found.len(), found[0].is_mistake), (1, false));
        assert!(found[0].message.contains("score"), "{}", found[0].message);
        assert_eq!(remarks(&Inspection { config: &shared, stateful: &[], transactional: &[] }), []);
        let plain = json!({ "source": { "type": "mqtt" } });
        assert_eq!(remarks(&Inspection { config: &plain, stateful: &stateful, transactional: &[] }), []);
        let kafka = json!({ "source": { "type": "kafka", "group": "cars" } });
        assert_eq!(remarks(&Inspection { config: &kafka, stateful: &stateful, transactional: &[] }), []);
    }
}
