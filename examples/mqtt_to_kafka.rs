//! Teaches: the lossless bridge in Rust, without a configuration file. A message is acknowledged to the MQTT broker (PUBACK)
//! only after Kafka has it, and what cannot be decoded is kept in a dead-letter topic.
//!
//! ```sh
//! cargo run -p iotml-examples --bin mqtt_to_kafka -- --mqtt 127.0.0.1:1883 --kafka 127.0.0.1:9092 --seconds 30
//! ```

use std::process::ExitCode;
use std::sync::Arc;

use cars::process::run_for;
use clap::Parser;
use iotml_core::decode::PassThrough;
use iotml_core::error::{ConfigError, report};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineSpec, Route, TaskStages, Tolerance};
use iotml_core::plugin::BuildContext;
use iotml_kafka::{KafkaSink, KafkaSinkConfig, TopicCreation};
use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::{MqttSource, MqttSourceConfig};

#[derive(Parser)]
#[command(about = "Bridges MQTT to Kafka, byte for byte, losing nothing")]
struct Arguments {
    /// The MQTT broker, host:port.
    #[arg(long)]
    mqtt: String,
    /// Kafka, host:port.
    #[arg(long)]
    kafka: String,
    /// What to subscribe to; `{car}` becomes the key.
    #[arg(long, default_value = "vehicles/sensor/data/{car}")]
    filter: String,
    /// The topic to write to.
    #[arg(long, default_value = "sensor-data-raw")]
    topic: String,
    /// End after so many seconds; without it, at Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
}

fn build(arguments: &Arguments, context: &BuildContext) -> Result<TaskStages, ConfigError> {
    let topic = TopicConfig { key: Some("{car}".to_owned()), ..TopicConfig::new(&arguments.filter) };
    let source = MqttSource::new(MqttSourceConfig::new(format!("mqtt://{}", arguments.mqtt), topic))?;
    let kafka_sink = |topic: &str| {
        let creation = TopicCreation { partitions: Some(10), replication: Some(1), config: Default::default() };
        let config = KafkaSinkConfig::new(&arguments.kafka, Some(topic));
        KafkaSink::new(KafkaSinkConfig { create_topics: Some(creation), ..config }, context)
    };
    let route = Route::required("kafka", None, Arc::new(kafka_sink(&arguments.topic)?));
    let dead_letters = Arc::new(kafka_sink(&format!("{}-dead-letters", arguments.topic))?);
    let stages = TaskStages::new(Box::new(source), Box::new(PassThrough), vec![route]);
    Ok(TaskStages { dead_letter: Some(dead_letters), ..stages })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seconds = arguments.seconds;
    let mut spec = PipelineSpec::new("mqtt-to-kafka", move |context| build(&arguments, context));
    spec.options.tolerance = Tolerance::All;
    let ran = Pipeline::start(spec, Metrics::default()).and_then(|handle| {
        eprintln!("ready: every message from now on reaches Kafka; Ctrl-C ends");
        run_for(handle, seconds)
    });
    match ran {
        Ok(summary) => {
            println!("{}", summary.audit);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("mqtt_to_kafka: {}", report(&error));
            ExitCode::FAILURE
        }
    }
}
