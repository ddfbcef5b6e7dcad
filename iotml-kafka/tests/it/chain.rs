//! A whole pipeline from Kafka to Kafka, with rows that cannot be decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use iotml_core::decode::{JsonDecoder, JsonDecoderConfig};
use iotml_core::encode::{JsonEncoder, JsonEncoderConfig};
use iotml_core::metrics::Metrics;
use iotml_core::pipeline::{Pipeline, PipelineOptions, PipelineSpec, Route, TaskStages, Tolerance, header};
use iotml_core::sink::Sink;
use iotml_kafka::{KafkaSink, KafkaSinkConfig, KafkaSource};
use rdkafka::Message;
use rdkafka::message::{Headers, OwnedMessage};

use crate::cluster::{Cluster, blocking, text, unique};

/// The headers of a message; of a name that repeats, the last.
fn headers(message: &OwnedMessage) -> BTreeMap<String, String> {
    let headers = message.headers().unwrap();
    headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap_or_default()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn inv_1_4_7_good_rows_are_delivered_and_poison_goes_to_the_dead_letters_with_its_context() {
    for cluster in Cluster::all() {
        let (input, output, letters) =
            (cluster.topic(2, &[]).await, cluster.topic(2, &[]).await, cluster.topic(1, &[]).await);
        let group = unique("group");
        let rows = (0..1000).map(|n| {
            let payload = if n % 100 == 7 { format!("poison {n}") } else { format!("{{\"speed\": {n}}}") };
            (n % 2, format!("car-{n}"), payload)
        });
        cluster.produce(&input, rows.collect()).await;

        let mut reads = cluster.reads(&input, &group);
        reads.stop_at_end = true;
        let writes = |topic: &str| KafkaSinkConfig::new(&cluster.servers, Some(topic));
        let (writes, dead) = (writes(&output), writes(&letters));
        let mut spec = PipelineSpec::new("chain", move |context| {
            let source = Box::new(KafkaSource::new(reads.clone(), context)?);
            let decoder: JsonDecoderConfig =
                serde_json::from_str(r#"{"columns": [{"name": "speed", "type": "float32", "nullable": false}]}"#)
                    .unwrap();
            let encoder: JsonEncoderConfig = serde_json::from_str("{}").unwrap();
            let sink: Arc<dyn Sink> = Arc::new(KafkaSink::new(writes.clone(), context)?);
            let route = Route::required("out", Some(Box::new(JsonEncoder::new(encoder))), sink);
            let mut stages = TaskStages::new(source, Box::new(JsonDecoder::new(decoder)?), vec![route]);
            stages.dead_letter = Some(Arc::new(KafkaSink::new(dead.clone(), context)?));
            Ok(stages)
        });
        spec.options = PipelineOptions { tolerance: Tolerance::All, ..PipelineOptions::default() };
        let metrics = Metrics::default();
        let shared = metrics.clone();
        let summary = blocking(move || Pipeline::start(spec, shared).unwrap().wait().unwrap()).await;
        let audit = summary.audit;
        assert!(audit.balances(), "{audit}");
        assert_eq!((audit.received, audit.delivered, audit.dead_lettered, audit.in_flight), (1000, 990, 10, 0));

        let delivered = cluster.read(&output, 990).await;
        assert_eq!(delivered.len(), 990);
        let dead = cluster.read(&letters, 10).await;
        assert_eq!(dead.len(), 10);
        for letter in &dead {
            let n: i64 = text(letter.payload().unwrap()).strip_prefix("poison ").unwrap().parse().unwrap();
            assert_eq!(text(letter.key().unwrap()), format!("car-{n}"));
            let headers = headers(letter);
            assert_eq!(headers[header::TOPIC], input);
            assert_eq!(headers[header::PARTITION], (n % 2).to_string());
            assert_eq!(headers[header::OFFSET], (n / 2).to_string());
            assert_eq!(headers[header::CONNECTOR], "chain");
            assert_eq!(headers[header::STAGE], "decode");
            assert_eq!(headers[header::REASON], "malformed");
            assert!(headers.contains_key(header::MESSAGE) && headers.contains_key(header::EXCEPTION), "{headers:?}");
        }
        for partition in 0..2 {
            assert_eq!(cluster.committed(&group, &input, partition).await, Some(500), "all is done and acknowledged");
        }
        let text = metrics.text().unwrap();
        for (name, value) in [
            ("iotml_source_kafka_fetched_messages_total{pipeline=\"chain\",task=\"0\"}", 1000),
            ("iotml_source_kafka_assigned_partitions_total{pipeline=\"chain\",task=\"0\"}", 2),
            ("iotml_source_kafka_failed_commits_total{pipeline=\"chain\",task=\"0\"}", 0),
            ("iotml_sink_kafka_delivered_messages_total{pipeline=\"chain\",task=\"0\"}", 1000),
        ] {
            assert!(text.contains(&format!("{name} {value}")), "{name} {value} in {text}");
        }
    }
}
