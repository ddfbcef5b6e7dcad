//! Models announced on a topic: what a feed hears, what workers report, and two who announce at once.

use std::sync::Arc;
use std::time::Duration;

use iotml_core::model::{
    Announcement, FeatureDrift, Known, LogStretch, ModelDrift, ModelFeed, ModelSet, ModelState, ModelStatus, Place,
    Rollout, Watch,
};
use iotml_kafka::{
    AnnouncementFormat, KafkaModelFeed, KafkaModelFeedConfig, ModelTopic, ModelTopicError, SchemaRegistryConfig,
};
use rdkafka::admin::{AdminOptions, ResourceSpecifier};

use crate::cluster::{Cluster, PATIENCE, blocking, build_context, unique};

/// Topics of its own; the in-memory cluster cannot create them when asked to by a client.
pub(crate) async fn config(cluster: &Cluster) -> KafkaModelFeedConfig {
    let mut config = KafkaModelFeedConfig::new(&cluster.servers);
    (config.topic, config.status_topic) = (unique("models"), unique("model-status"));
    config.drift_topic = unique("model-drift");
    if cluster.is_embedded() {
        config.create_topics = false;
        cluster.inner().create_topic(&config.topic, 1).unwrap();
        cluster.inner().create_topic(&config.status_topic, 1).unwrap();
        cluster.inner().create_topic(&config.drift_topic, 1).unwrap();
    }
    config
}

pub(crate) fn feed(config: &KafkaModelFeedConfig) -> Arc<KafkaModelFeed> {
    Arc::new(KafkaModelFeed::new(config.clone(), &build_context()).unwrap())
}

pub(crate) fn topic(config: &KafkaModelFeedConfig) -> ModelTopic {
    ModelTopic::new(config.clone()).unwrap()
}

pub(crate) fn set(model: &str, version: u32) -> ModelSet {
    ModelSet::single(model, Announcement::inline(version.to_string(), version.to_string().into_bytes()))
}

/// Waits until the feed knows something like this.
pub(crate) async fn known(watch: &mut Watch, is_it: impl Fn(&Known) -> bool) -> Known {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let known = watch.known();
            if is_it(&known) {
                return known;
            }
            assert!(watch.changed().await, "the feed ended");
        }
    });
    waited.await.expect("it is known in time")
}

pub(crate) fn version(known: &Known) -> Option<&str> {
    Some(known.set.as_ref()?.versions.first()?.version.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_reads_to_the_end_first_and_then_hears_what_comes() {
    for cluster in Cluster::all() {
        let config = config(&cluster).await;
        let announcing = topic(&config);
        let announcing = blocking(move || {
            for version in 1..=5 {
                announcing.announce(&set("cars", version)).unwrap();
            }
            announcing.announce(&set("pumps", 7)).unwrap();
            announcing
        })
        .await;
        let feed = feed(&config);
        let (mut cars, mut pumps, mut none) = (feed.watch("cars"), feed.watch("pumps"), feed.watch("none"));
        let first = known(&mut cars, |known| known.is_complete).await;
        assert_eq!((version(&first), first.trouble.as_deref()), (Some("5"), None), "the newest of what was there");
        assert_eq!(version(&known(&mut pumps, |known| known.is_complete).await), Some("7"));
        assert_eq!(known(&mut none, |known| known.is_complete).await.set, None);
        let announcing = blocking(move || {
            announcing.announce(&set("cars", 6)).unwrap();
            announcing
        })
        .await;
        known(&mut cars, |known| version(known) == Some("6")).await;
        blocking(move || announcing.remove("cars").unwrap()).await;
        assert!(known(&mut cars, |known| known.set.is_none()).await.is_complete);
        assert_eq!(version(&pumps.known()), Some("7"), "of its own model only");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_shown_with_its_place_and_leaves_what_was_before() {
    for cluster in Cluster::all() {
        let config = config(&cluster).await;
        let announcing = topic(&config);
        let announcing = blocking(move || {
            announcing.announce(&set("cars", 1)).unwrap();
            announcing
        })
        .await;
        let mut watch = feed(&config).watch("cars");
        known(&mut watch, |known| known.is_complete).await;
        let newer = r#"{"format": 2, "surprise": true}"#;
        for (value, says) in [("{", "expected form"), (newer, "update this worker")] {
            cluster.produce(&config.topic, vec![(0, "cars".into(), value.into())]).await;
            let found = known(&mut watch, |known| known.trouble.as_ref().is_some_and(|it| it.contains(says))).await;
            assert_eq!(version(&found), Some("1"));
            assert!(found.trouble.unwrap().contains("partition 0, offset"));
        }
        let other = String::from_utf8(set("pumps", 1).to_json()).unwrap();
        cluster.produce(&config.topic, vec![(0, "cars".into(), other)]).await;
        known(&mut watch, |known| known.trouble.as_ref().is_some_and(|it| it.contains("stands the model"))).await;
        let refused = blocking(move || {
            let refused = announcing.change("cars", |_| Ok(())).unwrap_err();
            announcing.announce(&set("cars", 2)).unwrap();
            refused
        });
        assert!(matches!(refused.await, ModelTopicError::Unreadable { .. }));
        assert_eq!(known(&mut watch, |known| version(known) == Some("2")).await.trouble, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_written_beside_and_can_be_read() {
    for cluster in Cluster::all() {
        let config = config(&cluster).await;
        let feed = feed(&config);
        let status = |n: u32| ModelStatus {
            model: "cars".to_owned(),
            version: n.to_string(),
            state: if n.is_multiple_of(2) { ModelState::Ready } else { ModelState::Unavailable },
            cause: (!n.is_multiple_of(2)).then(|| "it is odd".to_owned()),
            pipeline: "p".to_owned(),
            instance: "i".to_owned(),
            task: Some(0),
            time: i64::from(n),
        };
        (0..20).for_each(|n| feed.report(status(n)));
        let topic = topic(&config);
        let reports = blocking(move || {
            let deadline = std::time::Instant::now() + PATIENCE;
            loop {
                let reports = topic.reports().unwrap();
                if reports.len() >= 20 {
                    return reports;
                }
                assert!(std::time::Instant::now() < deadline, "{reports:?}");
            }
        })
        .await;
        assert_eq!(reports, (0..20).map(status).collect::<Vec<_>>(), "all of them, in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_reported_on_a_topic_of_its_own() {
    for cluster in Cluster::all() {
        let config = config(&cluster).await;
        let drift = |n: i64| ModelDrift {
            model: "cars".to_owned(),
            version: "3".to_owned(),
            pipeline: "p".to_owned(),
            instance: "i".to_owned(),
            time: n,
            windows: 3,
            rows: 3000,
            from: Some(n - 10),
            until: Some(n),
            log: vec![LogStretch { topic: "t".to_owned(), partitions: [(0, (5, 15))].into() }],
            features: vec![FeatureDrift { name: "speed".to_owned(), psi: 0.5, ks: 0.25, missing: 0.0 }],
            anomaly_rate: None,
        };
        let feed = feed(&config);
        (0..3).for_each(|n| feed.drifted(drift(n)));
        let (topic, silent) = (topic(&config), config.clone());
        let drifts = blocking(move || {
            let deadline = std::time::Instant::now() + PATIENCE;
            loop {
                let drifts = topic.drifts().unwrap();
                if drifts.len() >= 3 {
                    assert_eq!(topic.reports().unwrap(), [], "of their own topic only");
                    return drifts;
                }
                assert!(std::time::Instant::now() < deadline, "{drifts:?}");
            }
        })
        .await;
        assert_eq!(drifts, (0..3).map(drift).collect::<Vec<_>>(), "all of them, in order");
        let off = KafkaModelFeedConfig { drift_topic: String::new(), ..silent };
        let topic = ModelTopic::new(off).unwrap();
        assert_eq!(blocking(move || topic.drifts().unwrap()).await, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_created_compacted() {
    let Some(cluster) = Cluster::real() else { return };
    let config = config(&cluster).await;
    let mut watch = feed(&config).watch("cars");
    assert_eq!(known(&mut watch, |known| known.is_complete).await.set, None);
    let described = cluster.admin();
    let described = described.describe_configs([&ResourceSpecifier::Topic(&config.topic)], &AdminOptions::new()).await;
    let described = described.unwrap().remove(0).unwrap();
    assert_eq!(described.get("cleanup.policy").unwrap().value.as_deref(), Some("compact"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_change_at_once_neither_is_lost() {
    let Some(cluster) = Cluster::real() else { return };
    let config = config(&cluster).await;
    let workers: Vec<_> = (0..2)
        .map(|who| {
            let topic = topic(&config);
            blocking(move || {
                for n in 0..5 {
                    let version = format!("{who}-{n}");
                    let add = |set: &mut ModelSet| {
                        let weighted = Rollout::Weighted { weight: 1.0 };
                        set.announce(Announcement::inline(version.clone(), vec![1]).rolled_out(weighted));
                        Ok(())
                    };
                    loop {
                        match topic.change("cars", add) {
                            Ok(_) => break,
                            Err(ModelTopicError::Contended { .. }) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await;
    }
    let topic = topic(&config);
    let announced = blocking(move || topic.announced().unwrap()).await;
    let set = announced["cars"].as_ref().unwrap();
    let mut versions: Vec<&str> = set.versions.iter().map(|announced| announced.version.as_str()).collect();
    versions.sort_unstable();
    assert_eq!(versions, ["0-0", "0-1", "0-2", "0-3", "0-4", "1-0", "1-1", "1-2", "1-3", "1-4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_is_waited_for_and_said_to_be() {
    let cluster = Cluster::embedded();
    let mut config = config(&cluster).await;
    config.connect_timeout = iotml_core::plugin::HumanDuration(Duration::from_millis(300));
    cluster.inner().down().unwrap();
    let mut watch = feed(&config).watch("cars");
    let away = known(&mut watch, |known| known.trouble.is_some()).await;
    assert!(!away.is_complete && away.trouble.unwrap().contains("cannot be read"));
    cluster.inner().up().unwrap();
    assert_eq!(known(&mut watch, |known| known.is_complete).await.trouble, None);
}

#[test]
fn what_is_too_large_or_contradicts_itself_is_refused_before_it_is_sent() {
    let topic = ModelTopic::new(KafkaModelFeedConfig::new("localhost:1")).unwrap();
    let large = |bytes| ModelSet::single("cars", Announcement::inline("1", vec![0; bytes]));
    let error = topic.announce(&large(650_001)).unwrap_err().to_string();
    assert!(error.contains("650001 bytes, but a message takes 650000") && error.contains("model store"), "{error}");
    let mut wrong = set("cars", 1);
    wrong.model = "../cars".to_owned();
    assert!(matches!(topic.announce(&wrong).unwrap_err(), ModelTopicError::Set(_)));
    let same = KafkaModelFeedConfig { status_topic: "models".into(), ..KafkaModelFeedConfig::new("localhost:1") };
    assert!(ModelTopic::new(same).unwrap_err().to_string().contains("announcements"));
    let same = KafkaModelFeedConfig { drift_topic: "model-status".into(), ..KafkaModelFeedConfig::new("localhost:1") };
    let error = ModelTopic::new(same).unwrap_err().to_string();
    assert!(error.contains("must differ from `status_topic`"), "{error}");

    let mut avro = KafkaModelFeedConfig::new("localhost:1");
    avro.format = AnnouncementFormat::ConfluentAvro;
    let key = |config: &KafkaModelFeedConfig| match ModelTopic::new(config.clone()) {
        Err(ModelTopicError::Config(error)) => (error.key.unwrap().into_owned(), error.message),
        other => panic!("{other:?}"),
    };
    let (at, what) = key(&avro);
    assert!(at == "registry" && what.contains("`format` is confluent_avro"), "{at}: {what}");
    avro.registry = Some(SchemaRegistryConfig::new("registry:8081"));
    let (at, what) = key(&avro);
    assert!(at == "registry" && what.contains("http://"), "{at}: {what}");
    avro.registry = Some(SchemaRegistryConfig::new("http://localhost:1"));
    let error = ModelTopic::new(avro).unwrap().announce(&large(900_001)).unwrap_err().to_string();
    assert!(error.contains("900001 bytes, but a message takes 900000"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_inline_model_fits() {
    for cluster in Cluster::all() {
        let config = config(&cluster).await;
        let large = large(AnnouncementFormat::Json);
        let (topic, announced) = (topic(&config), large.clone());
        blocking(move || topic.announce(&announced).unwrap()).await;
        let mut watch = feed(&config).watch("cars");
        assert_eq!(*known(&mut watch, |known| known.is_complete).await.set.unwrap(), large);
    }
}

/// A model of 500 kB, twice which is more than a message takes.
fn half(version: &str) -> Announcement {
    let seed = version.parse::<u64>().unwrap();
    let file = (0..500_000_u64).map(|at| ((at + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8);
    Announcement::inline(version, file.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_model_gives_way_where_two_have_no_room() {
    for cluster in Cluster::all() {
        let config = config(&cluster).await;
        let (topic, is_embedded) = (topic(&config), cluster.is_embedded());
        let names = |set: &ModelSet| set.versions.iter().map(|it| it.version.clone()).collect::<Vec<_>>();
        let announced = blocking(move || {
            let mut set = ModelSet::single("cars", half("1"));
            topic.announce(&set).unwrap();
            set.announce(half("2"));
            topic.announce(&set).unwrap();
            let announced = topic.announced().unwrap().remove("cars").unwrap().unwrap();
            assert_eq!(names(&announced), ["2"], "the way back to 1 has no room");

            set.announce(half("3").rolled_out(Rollout::Canary { percent: 10.0 }));
            let error = topic.announce(&set).unwrap_err().to_string();
            assert!(error.contains("have 1000000 bytes, but a message takes 650000"), "both are in force: {error}");
            // What is in a store takes no room.
            let in_store = |version: &str| Announcement { place: Place::Uri("file:///x".into()), ..half(version) };
            let mut set = ModelSet::single("cars", in_store("1"));
            set.announce(half("2"));
            topic.announce(&set).unwrap();
            // The in-memory cluster knows no transactions whose messages can be read.
            if !is_embedded {
                let changed = topic.change("cars", |set| {
                    set.announce(half("3"));
                    Ok(())
                });
                assert_eq!(names(&changed.unwrap()), ["3"], "what is in force is told");
            }
            topic.announced().unwrap().remove("cars").unwrap().unwrap()
        });
        let announced = announced.await;
        match is_embedded {
            true => assert_eq!(names(&announced), ["1", "2"]),
            false => assert_eq!(names(&announced), ["3"]),
        }
    }
}

/// The largest inline model, of bytes that hardly compress.
pub(crate) fn large(format: AnnouncementFormat) -> ModelSet {
    let file = (0..format.max_inline_bytes() as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8);
    ModelSet::single("cars", Announcement::inline("1", file.collect()))
}
