//! The iotml pipeline: what a user configures.

use std::path::Path;
use std::sync::Arc;

use iotml_core::metrics::Metrics;
use iotml_core::pipeline::Pipeline;
use iotml_core::plugin::Registry;
use iotml_core::plugin::config::Config;

use crate::Failure;
use crate::measure::Done;
use crate::plan::{Plan, Rollouts};
use crate::rollout;

pub fn run(plan: &Plan) -> Result<Done, Failure> {
    let mut registry = Registry::with_core();
    iotml_kafka::register(&mut registry);
    iotml_model::register(&mut registry);
    let config = Config::parse(&configuration(plan), Path::new("end_to_end.toml"), &Arc::new(registry))?;
    let handle = Pipeline::start(config.pipeline(), Metrics::default())?;
    let mut first = std::time::Instant::now();
    // The clock starts with the first record, as it does for the others.
    while handle.audit().received == 0 && !handle.is_finished() {
        std::thread::sleep(std::time::Duration::from_millis(1));
        first = std::time::Instant::now();
    }
    let summary = handle.wait()?;
    let took = first.elapsed();
    let audit = summary.audit;
    if !summary.is_drained || audit.delivered != plan.records {
        return Err(format!("not everything was delivered: {audit}").into());
    }
    Ok(Done { records: audit.delivered, took, checksum: 0 })
}

fn configuration(plan: &Plan) -> String {
    let Plan { kafka, registry, prefix, model, .. } = plan;
    let (input, output) = (plan.input(), plan.output("iotml"));
    let guarantee = if plan.exactly_once { "exactly_once" } else { "at_least_once" };
    let scorer = match plan.rollouts {
        None => format!("model = \"{}\"", model.display()),
        Some(_) => following(plan),
    };
    let shadow = match plan.rollouts {
        Some(Rollouts::Shadow) => route("shadow", &plan.output("shadow"), kafka, "shadow = true"),
        _ => String::new(),
    };
    let predictions = route("predictions", &output, kafka, "");
    format!(
        r#"
[pipeline]
name = "bench"
"delivery.guarantee" = "{guarantee}"

[source]
type = "kafka"
topics = ["{input}"]
stop_at_end = true

[source.kafka]
"bootstrap.servers" = "{kafka}"
"group.id" = "{prefix}-iotml"

[decode]
type = "confluent_avro"

[decode.registry]
url = "{registry}"

[score]
type = "onnx"
{scorer}

{predictions}
{shadow}
"#
    )
}

fn following(plan: &Plan) -> String {
    let (name, kafka) = (rollout::NAME, &plan.kafka);
    let (models, status) = (plan.output("models"), plan.output("status"));
    format!(
        r#"
[score.follow]
name = "{name}"
feed = {{ type = "kafka", topic = "{models}", status_topic = "{status}", kafka = {{ "bootstrap.servers" = "{kafka}" }} }}
"#
    )
}

fn route(name: &str, topic: &str, kafka: &str, more: &str) -> String {
    format!(
        r#"
[[route]]
name = "{name}"
encode = {{ type = "json", columns = ["score", "anomaly"] }}
{more}

[route.sink]
type = "kafka"
topic = "{topic}"

[route.sink.kafka]
"bootstrap.servers" = "{kafka}"
"linger.ms" = "5"
"compression.type" = "lz4"
"#
    )
}
