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

/// From `input` to `output` by JSON, up to what is there now.
fn chain(cluster: &Cluster, (input, group): (&str, &str), output: &str, letters: &str) -> PipelineSpec {
    let mut reads = cluster.reads(input, group);
    reads.stop_at_end = true;
    let writes = |topic: &str| KafkaSinkConfig::new(&cluster.servers, Some(topic));
    let (writes, dead) = (writes(output), writes(letters));
    let mut spec = PipelineSpec::new("chain", move |context| {
        let source = Box::new(KafkaSource::new(reads.clone(), context)?);
        let decoder: JsonDecoderConfig =
            serde_json::from_str(r#"{"columns": [{"name": "speed", "type": "float32", "nullable": false}]}"#).unwrap();
        let encoder: JsonEncoderConfig = serde_json::from_str("{}").unwrap();
        let sink: Arc<dyn Sink> = Arc::new(KafkaSink::new(writes.clone(), context)?);
        let route = Route::required("out", Some(Box::new(JsonEncoder::new(encoder))), sink);
        let mut stages = TaskStages::new(source, Box::new(JsonDecoder::new(decoder)?), vec![route]);
        stages.dead_letter = Some(Arc::new(KafkaSink::new(dead.clone(), context)?));
        Ok(stages)
    });
    spec.options = PipelineOptions { tolerance: Tolerance::All, ..PipelineOptions::default() };
    spec
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

        let spec = chain(&cluster, (&input, &group), &output, &letters);
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

/// Records that others could write, and of which the dead letter is beyond what a producer of librdkafka takes.
#[tokio::test(flavor = "multi_thread")]
async fn inv_1_7_a_record_whose_dead_letter_is_too_large_is_shortened_and_does_not_stop_its_partition() {
    for cluster in Cluster::all() {
        let (input, output, letters) =
            (cluster.topic(1, &[]).await, cluster.topic(1, &[]).await, cluster.topic(1, &[]).await);
        let group = unique("group");
        let sizes = [999_900, 3_000_000, 400];
        let poison = sizes.map(|n| (0, format!("car-{n}"), "x".repeat(n)));
        let good = (0, "good".to_owned(), r#"{"speed": 1}"#.to_owned());
        cluster.produce(&input, poison.into_iter().chain([good]).collect()).await;
        let spec = chain(&cluster, (&input, &group), &output, &letters);
        let summary = blocking(move || Pipeline::start(spec, Metrics::default()).unwrap().wait().unwrap()).await;
        assert_eq!((summary.audit.delivered, summary.audit.dead_lettered), (1, 3), "{}", summary.audit);
        assert_eq!(cluster.committed(&group, &input, 0).await, Some(4), "all is done and acknowledged");
        for letter in cluster.read(&letters, 3).await {
            let (headers, n_kept) = (headers(&letter), letter.payload().unwrap().len());
            let n: usize = text(letter.key().unwrap()).strip_prefix("car-").unwrap().parse().unwrap();
            let is_cut = n > 1_000;
            assert_eq!(headers.get(header::CUT), is_cut.then(|| n.to_string()).as_ref());
            assert!(if is_cut { (400_000..n).contains(&n_kept) } else { n_kept == n }, "{n_kept} of {n}");
            assert_eq!(headers[header::OFFSET], sizes.iter().position(|size| *size == n).unwrap().to_string());
        }
    }
}
