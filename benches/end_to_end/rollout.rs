//! What is announced where a pipeline follows models: the plan's model under two versions.

use iotml_core::model::{Announcement, ModelSet, Rollout};
use iotml_kafka::{KafkaModelFeedConfig, ModelTopic};
use serde_json::Value;

use crate::Failure;
use crate::plan::{Plan, Rollouts};

/// The name under which the model is announced.
pub const NAME: &str = "cars";

/// Announces version 1 for all rows, and version 2 beside it if `rollouts` says so.
pub fn announce(plan: &Plan, rollouts: Rollouts) -> Result<(), Failure> {
    let file = std::fs::read(&plan.model)?;
    let manifest: Value = serde_json::from_slice(&std::fs::read(plan.model.with_extension("json"))?)?;
    let version = |version: &str, rollout: Rollout| {
        let mut manifest = manifest.clone();
        manifest["name"] = NAME.into();
        manifest["version"] = version.into();
        Announcement { manifest: Some(manifest), ..Announcement::inline(version, file.clone()).rolled_out(rollout) }
    };
    let mut set = ModelSet::single(NAME, version("1", Rollout::Full));
    match rollouts {
        Rollouts::Full => {}
        Rollouts::Canary => set.announce(version("2", Rollout::Canary { percent: 10.0 })),
        Rollouts::Shadow | Rollouts::Unread => set.announce(version("2", Rollout::Shadow)),
    }
    let mut config = KafkaModelFeedConfig::new(&plan.kafka);
    (config.topic, config.status_topic) = (plan.output("models"), plan.output("status"));
    Ok(ModelTopic::new(config)?.announce(&set)?)
}
