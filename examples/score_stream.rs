//! Teaches: scoring a Kafka topic with an ONNX model in Rust, without a configuration file. Reads JSON records of cars, scores
//! them, and writes predictions, until the topic's present end.
//!
//! ```sh
//! cargo run -p iotml-examples --bin score_stream -- --kafka 127.0.0.1:9092 --input sensor-data-raw --output model-predictions
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use cars::process::run_for;
use clap::Parser;
use iotml_core::decode::{JsonDecoder, JsonDecoderConfig};
use iotml_core::encode::{JsonEncoder, JsonEncoderConfig};
use iotml_core::error::{ConfigError, report};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineSpec, Route, TaskStages, Tolerance};
use iotml_core::plugin::BuildContext;
use iotml_core::score::column;
use iotml_kafka::{KafkaSink, KafkaSinkConfig, KafkaSource, KafkaSourceConfig, TopicCreation};
use iotml_model::{OnnxScorer, OnnxScorerConfig};

#[derive(Parser)]
#[command(about = "Scores the records of a Kafka topic with an ONNX model")]
struct Arguments {
    /// Kafka, host:port.
    #[arg(long)]
    kafka: String,
    /// Topic of JSON records.
    #[arg(long, default_value = "sensor-data-raw")]
    input: String,
    /// Topic of predictions.
    #[arg(long, default_value = "model-predictions")]
    output: String,
    /// The model.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cars/cars-autoencoder.onnx"))]
    model: PathBuf,
}

fn build(arguments: &Arguments, context: &BuildContext) -> Result<TaskStages, ConfigError> {
    let source = KafkaSourceConfig::new(&arguments.kafka, &[&arguments.input]);
    let source = KafkaSource::new(KafkaSourceConfig { stop_at_end: true, ..source }, context)?;
    let columns = [column::SCORE, column::THRESHOLD, column::ANOMALY, column::MODEL, column::MODEL_VERSION];
    let encoder = JsonEncoder::new(JsonEncoderConfig {
        columns: Some(columns.map(str::to_owned).to_vec()),
        ..JsonEncoderConfig::default()
    });
    let creation = TopicCreation { partitions: Some(10), replication: Some(1), config: Default::default() };
    let sink = KafkaSinkConfig::new(&arguments.kafka, Some(&arguments.output));
    let sink = KafkaSink::new(KafkaSinkConfig { create_topics: Some(creation), ..sink }, context)?;
    let route = Route::required("predictions", Some(Box::new(encoder)), Arc::new(sink));
    let decoder = JsonDecoder::new(JsonDecoderConfig::default())?;
    let stages = TaskStages::new(Box::new(source), Box::new(decoder), vec![route]);
    Ok(TaskStages { scorer: Some(Box::new(OnnxScorer::new(OnnxScorerConfig::new(&arguments.model))?)), ..stages })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut spec = PipelineSpec::new("score-stream", move |context| build(&arguments, context));
    // Without a dead-letter sink, rows that cannot be scored are skipped and counted.
    spec.options.tolerance = Tolerance::All;
    let ran = Pipeline::start(spec, Metrics::default()).and_then(|handle| run_for(handle, None));
    match ran {
        Ok(summary) => {
            println!("{}", summary.audit);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("score_stream: {}", report(&error));
            ExitCode::FAILURE
        }
    }
}
