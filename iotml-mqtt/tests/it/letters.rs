//! Messages that can be no rows come out all the same, with their cause.

use iotml_core::batch::RawBatch;
use iotml_core::error::Reason;
use iotml_core::pipeline::header;
use iotml_core::plugin::ByteSize;
use iotml_mqtt::MqttSourceConfig;
use iotml_mqtt::source::TopicConfig;
use rumqttc::{PublishProperties, QoS};

use crate::broker::{Broker, on_every_broker, unique};
use crate::publisher::Publisher;
use crate::reader::Reader;

fn causes(batch: &RawBatch) -> Vec<(u32, Reason)> {
    batch.rejected().iter().map(|rejected| (rejected.row, rejected.cause.reason)).collect()
}

fn header<'a>(batch: &'a RawBatch, name: &str) -> Option<&'a [u8]> {
    batch.messages().headers().last(0, name).and_then(|header| header.value)
}

/// A session remembers its subscriptions, also those that the configuration has no more.
async fn unmatched(broker: Broker) {
    let root = unique("letters");
    let mut config = MqttSourceConfig::new(broker.address(), TopicConfig::new(format!("{root}/old/#")));
    config.client_id = Some(unique("client"));
    config.topics.push(TopicConfig::new(format!("{root}/new/#")));
    Reader::open(config.clone()).await.close().await;
    config.topics.remove(0);
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish(&format!("{root}/old/a"), b"1".to_vec()).await;
    reader.read(1).await;
    let batch = reader.batches.last().expect("a batch");
    assert_eq!(causes(batch), [(0, Reason::UnmatchedTopic)]);
    assert!(batch.rejected()[0].cause.detail.contains(&format!("{root}/old/a")), "{:?}", batch.rejected());
    assert_eq!(batch.messages().payload(0), Some(&b"1"[..]));
    reader.ack_all();
    publisher.publish(&format!("{root}/new/a"), b"2".to_vec()).await;
    reader.read(2).await;
    assert_eq!(causes(reader.batches.last().expect("a batch")), []);
    reader.ack_all();
    reader.close().await;
}

/// Of a message over the limit its beginning is kept, whatever makes it so large.
async fn oversized(broker: Broker) {
    let root = unique("letters");
    let mut config = MqttSourceConfig::new(broker.address(), TopicConfig::new(format!("{root}/#")));
    config.client_id = Some(unique("client"));
    config.max_message_bytes = ByteSize(1_000);
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    let topic = format!("{root}/a");
    let publish = async |publisher: &mut Publisher, n_payload, n_property| {
        let user_properties = vec![("trace".to_owned(), "t".repeat(n_property))];
        let properties = PublishProperties { user_properties, ..PublishProperties::default() };
        publisher.publish_with(&topic, vec![b'x'; n_payload], QoS::AtLeastOnce, false, properties).await;
    };
    // A broker may add properties of its own.
    let broker_adds = 100;
    let fits = 1_000 - topic.len() - "trace".len() - 100;
    for (n_payload, n_property, n_kept, keeps_property) in [
        (fits - broker_adds, 100, fits, true),
        (fits + 1, 100, fits, true),
        (5_000, 100, fits, true),
        (10, 2_000, 10, false),
    ] {
        publish(&mut publisher, n_payload, n_property).await;
        reader.read(reader.len() + 1).await;
        let batch = reader.batches.last().expect("a batch");
        let is_over = n_payload + n_property > fits + 100;
        assert_eq!(causes(batch), if is_over { vec![(0, Reason::Oversized)] } else { vec![] });
        let n = batch.messages().payload(0).map_or(0, <[u8]>::len);
        let n_kept = n_kept.min(n_payload);
        assert!(
            (n_kept.saturating_sub(broker_adds)..=n_kept).contains(&n),
            "{n} of {n_payload} and {n_property} bytes"
        );
        assert_eq!(n < n_payload, is_over && n_payload > 10);
        assert_eq!(header(batch, "trace").is_some(), keeps_property);
        let whole = is_over.then(|| n_payload.to_string());
        assert_eq!(header(batch, header::CUT), whole.as_ref().map(|whole| whole.as_bytes()));
        reader.ack_all();
    }
    reader.close().await;
}

on_every_broker! {
    inv_7_a_topic_that_no_filter_matches_has_a_cause => unmatched;
    inv_6_and_7_a_message_over_the_limit_is_cut_and_has_a_cause => oversized;
}
