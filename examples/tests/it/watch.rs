//! Rows that drift, from one real topic to a report on another: what a retraining reads.

use iotml_core::testing::servers;
use iotml_kafka::{KafkaModelFeedConfig, ModelTopic};
use iotml_model::Kind;
use iotml_model::manifest::{Distribution, FeatureDistribution, Golden, Manifest, embed};
use iotml_model::testing::scaled_copy;
use rdkafka::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::exactly_once::{PATIENCE, Topics};
use crate::run;

/// Rows before the drift, and in it.
const N_ROWS: usize = 4000;

/// A model that was trained on numbers from 0 up to 1000, with its manifest in it.
fn file() -> Vec<u8> {
    let edges: Vec<f64> = (0..=10).map(|edge| 100.0 * f64::from(edge)).collect();
    let shares = (0..12).map(|bin| if bin == 0 || bin == 11 { 0.0 } else { 0.1 }).collect();
    let trained = FeatureDistribution { name: "a".to_owned(), edges, shares, missing: 0.0 };
    let golden = Golden { input: vec![vec![1.0]], score: Some(vec![Some(0.0)]), output: None, tolerance: 1e-4 };
    let manifest = Manifest::builder(Kind::Reconstruction, "cars").version("3").feature("a", None).golden(golden);
    let manifest = manifest.distribution(Distribution { features: vec![trained], ..Distribution::default() });
    embed(&scaled_copy(1, 1.0).build(), &manifest.build().unwrap()).unwrap()
}

fn configuration(topics: &Topics, model: &str) -> String {
    let [from, to, group, drift] = ["in", "out", "group", "drift"].map(|what| topics.of(what));
    let servers = &topics.servers;
    format!(
        r#"
        [pipeline]
        name = "{group}"
        instance = "worker-1"

        [source]
        type = "kafka"
        topics = ["{from}"]
        max_batch_rows = 100
        stop_at_end = true
        start = "earliest"

        [source.kafka]
        "bootstrap.servers" = "{servers}"
        "group.id" = "{group}"

        [decode]
        type = "json"
        columns = [{{ name = "a", type = "float64", nullable = false }}]

        [score]
        type = "onnx"
        model = "{model}"

        [score.watch]
        window_rows = 1000
        windows = 2

        [score.watch.feed]
        type = "kafka"
        drift_topic = "{drift}"
        kafka = {{ "bootstrap.servers" = "{servers}" }}

        [[route]]
        name = "out"
        encode = {{ type = "json" }}

        [route.sink]
        type = "kafka"
        topic = "{to}"

        [route.sink.kafka]
        "bootstrap.servers" = "{servers}"
        "#
    )
}

#[test]
fn drift_in_one_topic_is_one_report_in_another_which_says_where_to_train_from() {
    let Some(servers) = servers::kafka() else { return };
    let (topics, folder) = (Topics::new(&servers, "watch"), tempfile::tempdir().unwrap());
    let producer: ThreadedProducer<DefaultProducerContext> = topics.client().create().unwrap();
    let topic = topics.of("in");
    for n in 0..2 * N_ROWS {
        // 7919 and 1000 have no factor in common, so every thousand rows have every number once.
        let number = n * 7919 % 1000 + if n < N_ROWS { 0 } else { 500 };
        let (key, payload) = ("car", format!("{{\"a\": {number}}}"));
        producer
            .send(BaseRecord::to(&topic).partition(1).key(key).payload(&payload))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let (model, file_name) = (folder.path().join("cars.onnx"), folder.path().join("watch.toml"));
    std::fs::write(&model, file()).unwrap();
    std::fs::write(&file_name, configuration(&topics, &model.display().to_string())).unwrap();
    let printed = run(env!("CARGO_BIN_EXE_worker"), &["run", &file_name.display().to_string()], 0);
    assert!(printed.contains("rows are not like those that the model was trained on"), "{printed}");

    let mut config = KafkaModelFeedConfig::new(&servers);
    config.drift_topic = topics.of("drift");
    let drifts = ModelTopic::new(config).unwrap().drifts().unwrap();
    assert_eq!(drifts.len(), 1, "{drifts:?}");
    let drift = &drifts[0];
    assert_eq!((drift.model.as_str(), drift.version.as_str(), drift.instance.as_str()), ("cars", "3", "worker-1"));
    assert_eq!((drift.pipeline.as_str(), drift.features[0].name.as_str()), (topics.of("group").as_str(), "a"));
    assert!(drift.features[0].psi > 3.0 && drift.from.unwrap() <= drift.until.unwrap(), "{drift:?}");
    // Two windows of a thousand rows and at most a batch more; the first may have begun before the drift.
    let (start, end) = drift.log[0].partitions[&1];
    let n = N_ROWS as i64;
    assert!(start > n - 1000 && start <= n + 100 && (1900..2300).contains(&(end - start)), "{drift:?}");
    assert_eq!((drift.log.len(), drift.log[0].topic.as_str()), (1, topic.as_str()));
    assert_eq!(drift.log[0].partitions.keys().collect::<Vec<_>>(), [&1]);
    let record = &topics.read_partitions("drift", "read_committed", 1)[0];
    assert_eq!(record.key(), Some(&b"cars"[..]), "keyed by the model");
}
