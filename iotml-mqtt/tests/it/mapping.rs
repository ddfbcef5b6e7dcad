//! From topics, flags and properties to keys, targets and headers.

use iotml_core::plugin::ByteSize;
use iotml_mqtt::MqttSourceConfig;
use iotml_mqtt::source::{EmptyPayload, KeptHeaders, TopicConfig};
use rumqttc::{PublishProperties, QoS};

use crate::broker::{Broker, on_every_broker, unique};
use crate::publisher::Publisher;
use crate::reader::Reader;

fn header(reader: &Reader, name: &str) -> Option<String> {
    let batch = reader.batches.last().expect("a batch");
    let header = batch.messages().headers().last(batch.len() - 1, name)?;
    Some(String::from_utf8(header.value.unwrap_or_default().to_vec()).expect("text"))
}

async fn everything_is_kept(broker: Broker) {
    let root = unique("fleet");
    let mut topic = TopicConfig::new(format!("{root}/sensor/{{car}}"));
    topic.key = Some("{car}".into());
    topic.target = Some("sensor-data".into());
    topic.qos = 2;
    let mut config = MqttSourceConfig::new(broker.address(), topic);
    config
        .topics
        .push(TopicConfig { target: Some("other-{kind}".into()), ..TopicConfig::new(format!("{root}/x/{{kind}}/#")) });
    config.client_id = Some(unique("client"));
    config.empty_payload = EmptyPayload::Tombstone;
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    let properties = PublishProperties {
        user_properties: vec![("trace".into(), "7".into()), ("trace".into(), "8".into())],
        content_type: Some("application/json".into()),
        response_topic: Some("answers".into()),
        correlation_data: Some(vec![1, 2].into()),
        ..PublishProperties::default()
    };
    publisher.publish_with(&format!("{root}/sensor/ev-1"), b"{}".to_vec(), QoS::ExactlyOnce, false, properties).await;
    reader.read(1).await;
    let batch = reader.batches.last().expect("a batch");
    let message = batch.messages().message(0);
    assert_eq!(message.key, Some(&b"ev-1"[..]));
    assert_eq!((message.payload, message.target), (Some(&b"{}"[..]), Some("sensor-data")));
    assert_eq!(message.topic, Some(format!("{root}/sensor/ev-1").as_str()));
    assert!(message.time.is_some_and(|time| time > 1_700_000_000_000));
    let trace: Vec<_> = batch.messages().headers().of(0).filter(|h| h.name == "trace").map(|h| h.value).collect();
    assert_eq!(trace, [Some(&b"7"[..]), Some(&b"8"[..])]);
    for (name, value) in [
        ("content-type", "application/json"),
        ("mqtt.topic", &format!("{root}/sensor/ev-1")),
        ("mqtt.qos", "2"),
        ("mqtt.retain", "false"),
        ("mqtt.response.topic", "answers"),
        ("mqtt.correlation.data", "\u{1}\u{2}"),
    ] {
        assert_eq!(header(&reader, name).as_deref(), Some(value), "{name}");
    }
    reader.ack_all();

    publisher.publish(&format!("{root}/x/tyre/a/b"), b"1".to_vec()).await;
    reader.read(2).await;
    let batch = reader.batches.last().expect("a batch");
    assert_eq!(batch.messages().target(0).map(|target| &**target), Some("other-tyre"));
    assert_eq!(header(&reader, "mqtt.qos").as_deref(), Some("1"));
    reader.ack_all();

    let retained = PublishProperties::default();
    publisher.publish_with(&format!("{root}/sensor/ev-2"), Vec::new(), QoS::AtLeastOnce, true, retained).await;
    reader.read(3).await;
    let batch = reader.batches.last().expect("a batch");
    assert_eq!((batch.messages().payload(0), batch.messages().key(0)), (None, Some(&b"ev-2"[..])));
    assert_eq!(header(&reader, "mqtt.retain").as_deref(), Some("true"));
    reader.ack_all();
    reader.close().await;
}

/// A retained message comes with a new subscription and is not repeated to a resumed session.
async fn retained_comes_once(broker: Broker) {
    let topic = unique("retained");
    let mut publisher = Publisher::connect(&broker.address()).await;
    let none = PublishProperties::default();
    publisher.publish_with(&topic, b"kept".to_vec(), QoS::AtLeastOnce, true, none.clone()).await;
    let mut config = MqttSourceConfig::new(broker.address(), TopicConfig::new(&topic));
    config.client_id = Some(unique("client"));
    config.headers = KeptHeaders::None;
    let mut reader = Reader::open(config.clone()).await;
    reader.read(1).await;
    assert_eq!(reader.payloads(), [b"kept"]);
    assert_eq!(reader.batches[0].messages().headers().of(0).count(), 0);
    reader.ack_all();
    reader.close().await;
    let mut reader = Reader::open(config).await;
    assert_eq!(reader.read_rest().await, 0);
    reader.close().await;
    // Leaves nothing behind on a shared server.
    publisher.publish_with(&topic, Vec::new(), QoS::AtLeastOnce, true, none).await;
}

/// A megabyte goes through; nothing drops it on the way.
async fn large(broker: Broker) {
    let topic = unique("large");
    let mut config = MqttSourceConfig::new(broker.address(), TopicConfig::new(&topic));
    config.client_id = Some(unique("client"));
    config.max_message_bytes = ByteSize(2 << 20);
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    let payload: Vec<u8> = (0..1_048_576_u32).map(|n| (n % 251) as u8).collect();
    publisher.publish(&topic, payload.clone()).await;
    reader.read(1).await;
    assert!(reader.payloads()[0] == payload, "the payload is unchanged");
    reader.ack_all();
    reader.close().await;
}

on_every_broker! {
    topic_flags_and_properties_are_kept => everything_is_kept;
    a_retained_message_comes_once => retained_comes_once;
    a_large_payload_goes_through => large;
}
