//! Models announced in Avro: on a real Kafka and Apicurio, beside JSON, and while the registry is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apache_avro::types::Value;
use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use iotml_core::decode::SchemaResolver;
use iotml_core::encode::{Registration, SchemaRegistrar};
use iotml_core::model::{Announcement, Known, ModelFeed, ModelSet, Rollout, Watch};
use iotml_core::testing::servers;
use iotml_kafka::{AnnouncementFormat, KafkaModelFeedConfig, ModelTopicError, SchemaRegistry, SchemaRegistryConfig};
use rdkafka::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cluster::{Cluster, PATIENCE, blocking};
use crate::model_topic::{config, feed, known, large, set, topic, version};

/// A topic of its own on which `url`'s schemas are used.
async fn avro(cluster: &Cluster, url: &str) -> KafkaModelFeedConfig {
    let format = AnnouncementFormat::ConfluentAvro;
    KafkaModelFeedConfig { format, registry: Some(SchemaRegistryConfig::new(url)), ..config(cluster).await }
}

/// The same topic with JSON.
fn json(avro: &KafkaModelFeedConfig) -> KafkaModelFeedConfig {
    KafkaModelFeedConfig { format: AnnouncementFormat::Json, registry: None, ..avro.clone() }
}

async fn announce(config: &KafkaModelFeedConfig, set: ModelSet) {
    let topic = topic(config);
    blocking(move || topic.announce(&set).unwrap()).await;
}

/// Writes values as they are.
async fn produce(cluster: &Cluster, topic: &str, values: Vec<Vec<u8>>) {
    let producer: ThreadedProducer<DefaultProducerContext> = cluster.client().create().unwrap();
    let topic = topic.to_owned();
    let send = move || {
        for value in &values {
            producer.send(BaseRecord::to(&topic).key("cars").payload(value)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    };
    blocking(send).await;
}

/// Waits for a trouble that says so, and gives all of it.
async fn trouble(watch: &mut Watch, part: &str) -> (Known, String) {
    let known = known(watch, |known| known.trouble.as_ref().is_some_and(|trouble| trouble.contains(part))).await;
    let said = known.trouble.clone().unwrap();
    (known, said)
}

/// Kafka and the registry's address, where both are there.
fn servers() -> Option<(Cluster, String)> {
    Some((Cluster::real()?, servers::registry()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_changed_and_rolled_back_in_avro_is_heard() {
    let Some((cluster, url)) = servers() else { return };
    let config = avro(&cluster, &url).await;
    announce(&config, set("cars", 1)).await;
    let mut watch = feed(&config).watch("cars");
    assert_eq!(*known(&mut watch, |known| known.is_complete).await.set.unwrap(), set("cars", 1));
    let changing = topic(&config);
    let (canary, promoted, back) = blocking(move || {
        let two = Announcement::inline("2", vec![2; 1000]).rolled_out(Rollout::Canary { percent: 10.0 });
        let canary = changing.change("cars", |set| Ok(set.announce(two.clone()))).unwrap();
        let promoted = changing.change("cars", |set| set.promote("2")).unwrap();
        let back = changing.change("cars", ModelSet::roll_back).unwrap();
        assert_eq!(changing.announced().unwrap()["cars"].as_ref(), Ok(&back));
        (canary, promoted, back)
    })
    .await;
    known(&mut watch, |known| known.set.as_deref() == Some(&back)).await;
    let scores_all = |set: &ModelSet| set.acting().map(|it| it.version.clone()).collect::<Vec<_>>();
    assert_eq!([&canary, &promoted, &back].map(scores_all), [vec!["1", "2"], vec!["2"], vec!["1"]]);

    let registry = SchemaRegistry::new(SchemaRegistryConfig::new(&url)).unwrap();
    let messages = cluster.read(&config.topic, 4).await;
    assert_eq!(messages.len(), 4);
    for message in messages {
        let Some(&[0, a, b, c, d, ..]) = message.payload() else { panic!("{message:?} is not framed") };
        let id = u32::from_be_bytes([a, b, c, d]);
        let (schema, subject) = (registry.resolve(id).await.unwrap(), format!("{}-value", config.topic));
        let lookup = Registration { subject: &subject, schema: &schema, auto_register: false, compatibility: None };
        assert_eq!(registry.register(lookup).await.unwrap(), id, "the usual subject");
    }
    let removing = topic(&config);
    blocking(move || removing.remove("cars").unwrap()).await;
    known(&mut watch, |known| known.set.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_hold_both_formats_and_a_reader_without_a_registry_says_what_it_lacks() {
    let Some((cluster, url)) = servers() else { return };
    let avro = avro(&cluster, &url).await;
    let json = json(&avro);
    announce(&json, set("cars", 1)).await;
    let (mut both, mut only_json) = (feed(&avro).watch("cars"), feed(&json).watch("cars"));
    for watch in [&mut both, &mut only_json] {
        assert_eq!(version(&known(watch, |known| known.is_complete).await), Some("1"));
    }
    announce(&avro, set("cars", 2)).await;
    assert_eq!(known(&mut both, |known| version(known) == Some("2")).await.trouble, None);
    let (still, said) = trouble(&mut only_json, "Avro").await;
    assert_eq!(version(&still), Some("1"), "{said}");
    assert!(
        said.contains("set `registry.url` in the table of the feed") && said.contains("partition 0, offset 1"),
        "{said}"
    );
    let refused = topic(&json);
    blocking(move || {
        let refusal = refused.change("cars", |_| Ok(())).unwrap_err();
        assert!(matches!(&refusal, ModelTopicError::Unreadable { .. }) && refusal.to_string().contains("registry.url"));
        assert!(refused.announced().unwrap()["cars"].is_err());
    })
    .await;
    announce(&json, set("cars", 3)).await;
    for watch in [&mut both, &mut only_json] {
        assert_eq!(known(watch, |known| version(known) == Some("3")).await.trouble, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_inline_model_fits_in_avro() {
    let Some((cluster, url)) = servers() else { return };
    let config = avro(&cluster, &url).await;
    let large = large(AnnouncementFormat::ConfluentAvro);
    announce(&config, large.clone()).await;
    let mut watch = feed(&config).watch("cars");
    assert_eq!(*known(&mut watch, |known| known.is_complete).await.set.unwrap(), large);
    let changing = topic(&config);
    let changed = blocking(move || changing.change("cars", |set| set.retire("1")).unwrap()).await;
    known(&mut watch, |known| known.set.as_deref() == Some(&changed)).await;
    let lengths: Vec<_> =
        cluster.read(&config.topic, 2).await.iter().map(|message| message.payload().unwrap().len()).collect();
    assert!(lengths.iter().all(|bytes| (900_000..900_200).contains(bytes)), "{lengths:?}");
    println!("900000 bytes of a model, announced and changed: values of {lengths:?} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_writer_is_read_and_what_is_damaged_is_shown_with_its_place() {
    let Some((cluster, url)) = servers() else { return };
    let config = avro(&cluster, &url).await;
    announce(&config, set("cars", 1)).await;
    let framed = cluster.read(&config.topic, 1).await[0].payload().unwrap().to_vec();
    let registry = SchemaRegistry::new(SchemaRegistryConfig::new(&url)).unwrap();
    let schema = registry.resolve(u32::from_be_bytes(framed[1..5].try_into().unwrap())).await.unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let notes = serde_json::json!({"name": "note", "type": ["null", "string"], "default": null});
    json["fields"].as_array_mut().unwrap().insert(1, notes);
    let newer = json.to_string();
    let subject = format!("{}-value", config.topic);
    let registration = Registration { subject: &subject, schema: &newer, auto_register: true, compatibility: None };
    let id = registry.register(registration).await.unwrap();
    // The same set by a newer writer, as version 2.
    let value = |format: i32| {
        let newer = Schema::parse_str(&newer).unwrap();
        let datum = framed[5..].to_vec();
        let read = from_avro_datum(&Schema::parse_str(&schema).unwrap(), &mut &datum[..], Some(&newer)).unwrap();
        let Value::Record(mut fields) = read else { panic!("{read:?}") };
        fields[0].1 = Value::Int(format);
        let datum = to_avro_datum(&newer, Value::Record(fields)).unwrap();
        [&[0][..], &id.to_be_bytes(), &datum].concat()
    };
    announce(&config, set("cars", 2)).await;
    let mut watch = feed(&config).watch("cars");
    known(&mut watch, |known| version(known) == Some("2")).await;
    produce(&cluster, &config.topic, vec![value(1)]).await;
    let heard = known(&mut watch, |known| version(known) == Some("1")).await;
    assert_eq!((heard.set.as_deref(), heard.trouble), (Some(&set("cars", 1)), None));

    let truncated = framed[..framed.len() - 3].to_vec();
    let unknown = [&[0, 0x7f, 0xff, 0xff, 0xff][..], &framed[5..]].concat();
    let bad = [
        (value(2), "update this worker"),
        (truncated, "the bytes end inside the record"),
        ([&framed[..], &[1, 2]].concat(), "2 bytes are left behind the record"),
        (vec![0, 1], "too short"),
        (unknown, "knows no schema 2147483647"),
        ([&framed[..5], &[0xff; 40][..]].concat(), "Avro of schema"),
    ];
    for (at, (value, says)) in bad.into_iter().enumerate() {
        produce(&cluster, &config.topic, vec![value]).await;
        let (still, said) = trouble(&mut watch, says).await;
        assert_eq!(version(&still), Some("1"), "{said}");
        assert!(said.contains(&format!("partition 0, offset {}", at + 3)), "{said}");
    }
    announce(&config, set("cars", 5)).await;
    assert_eq!(known(&mut watch, |known| version(known) == Some("5")).await.trouble, None);
    // And one that begins only now passes over all that is damaged.
    let mut late = feed(&config).watch("cars");
    assert_eq!(version(&known(&mut late, |known| known.is_complete).await), Some("5"));
}

/// What becomes of a connection to the registry.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gate {
    Open,
    Closed,
    Hangs,
}

/// A registry that can be taken away: its address, what does it, and how often it was asked.
async fn gate(url: &str, first: Gate) -> (String, watch::Sender<Gate>, Arc<AtomicUsize>) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap_or((url, ""));
    let host = host.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/{path}", listener.local_addr().unwrap());
    let (sender, gate) = watch::channel(first);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let (mut gate, host) = (gate.clone(), host.clone());
            tokio::spawn(async move {
                let state = *gate.borrow_and_update();
                let through = async {
                    match state {
                        Gate::Open => {
                            let mut far = TcpStream::connect(host).await.unwrap();
                            let _ = copy_bidirectional(&mut near, &mut far).await;
                        }
                        Gate::Closed => {}
                        Gate::Hangs => std::future::pending().await,
                    }
                };
                tokio::select! { () = through => {}, _ = gate.changed() => {} }
            });
        }
    });
    (address, sender, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_waited_for_and_nothing_is_skipped() {
    let Some((cluster, url)) = servers() else { return };
    for away in [Gate::Closed, Gate::Hangs] {
        let direct = avro(&cluster, &url).await;
        let (address, gate, asked) = gate(&url, away).await;
        let mut registry = SchemaRegistryConfig::new(&address);
        registry.timeout.0 = Duration::from_millis(400);
        let behind = KafkaModelFeedConfig { registry: Some(registry), ..direct.clone() };
        for n in 1..=3 {
            announce(&direct, set("cars", n)).await;
        }
        let mut watch = feed(&behind).watch("cars");
        let (waiting, said) = trouble(&mut watch, "the schema registry is unavailable").await;
        assert!(!waiting.is_complete && waiting.set.is_none(), "{said}");
        let asking = topic(&behind);
        let refused = blocking(move || (asking.announced(), asking.change("cars", |_| Ok(()))));
        let (announced, changed) = refused.await;
        assert!(matches!(announced, Err(ModelTopicError::Registry(_))), "{announced:?}");
        assert!(matches!(changed, Err(ModelTopicError::Registry(_))), "{changed:?}");
        gate.send(Gate::Open).unwrap();
        let there = known(&mut watch, |known| known.is_complete).await;
        assert_eq!((version(&there), there.trouble.as_deref()), (Some("3"), None));

        // A schema that the feed has not seen yet, while it goes on.
        gate.send(away).unwrap();
        let plain = SchemaRegistry::new(SchemaRegistryConfig::new(&url)).unwrap();
        let framed = cluster.read(&direct.topic, 3).await[0].payload().unwrap().to_vec();
        let schema = plain.resolve(u32::from_be_bytes(framed[1..5].try_into().unwrap())).await.unwrap();
        let mut other: serde_json::Value = serde_json::from_str(&schema).unwrap();
        other["doc"] = "the same with another comment".into();
        let (subject, other) = (format!("{}-value", direct.topic), other.to_string());
        let registration = Registration { subject: &subject, schema: &other, auto_register: true, compatibility: None };
        let id = plain.register(registration).await.unwrap();
        let before = asked.load(Ordering::SeqCst);
        produce(&cluster, &direct.topic, vec![[&[0][..], &id.to_be_bytes(), &framed[5..]].concat()]).await;
        let (still, _) = trouble(&mut watch, "the schema registry is unavailable").await;
        assert_eq!((version(&still), still.is_complete), (Some("3"), true));
        // What is not to be looked up matters no more once something newer can be read.
        announce(&json(&direct), set("cars", 4)).await;
        assert_eq!(known(&mut watch, |known| version(known) == Some("4")).await.trouble, None);
        let n_asked = asked.load(Ordering::SeqCst) - before;
        assert!((1..40).contains(&n_asked), "{n_asked} times");

        produce(&cluster, &direct.topic, vec![[&[0][..], &id.to_be_bytes(), &framed[5..]].concat()]).await;
        trouble(&mut watch, "the schema registry is unavailable").await;
        // Nor does one that nobody can read make it matter less.
        produce(&cluster, &direct.topic, vec![b"{".to_vec()]).await;
        let mut late = feed(&behind).watch("cars");
        assert_eq!(trouble(&mut late, "the schema registry is unavailable").await.0.set, None);
        gate.send(Gate::Open).unwrap();
        for watch in [&mut watch, &mut late] {
            let (heard, said) = trouble(watch, "expected form").await;
            assert_eq!((version(&heard), heard.is_complete), (Some("1"), true), "{said}");
        }
        println!("registry {away:?}: asked {n_asked} times while it was away");
    }
}
