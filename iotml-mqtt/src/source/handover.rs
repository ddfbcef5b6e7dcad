//! From a PUBLISH packet to a raw message.

use std::time::{SystemTime, UNIX_EPOCH};

use iotml_core::batch::{Coordinate, Message, Position, RawMessage};
use iotml_core::error::{Cause, Reason};
use iotml_core::pipeline::header;
use rumqttc::{Publish, PublishProperties, QoS};

use super::backend::Shared;
use super::config::{EmptyPayload, KeptHeaders};
use super::mapping::Mapped;

/// Puts a packet into the inbox: key and target by the mapping, properties as headers, `time` (of receipt) as event time.
pub(super) fn hand_over(
    shared: &Shared,
    mapped: &mut Mapped,
    publish: &Publish,
    time: Option<i64>,
    position: Position,
    coordinate: Coordinate,
) {
    let config = &shared.config;
    // It is UTF-8: the client hangs up on a packet with another topic, as MQTT demands.
    let topic = String::from_utf8_lossy(&publish.topic);
    let is_matched = shared.mapping.map(&topic, mapped);
    let size = Size::of(publish, config.max_message_bytes.0);
    let cause = match (size.is_over, is_matched) {
        (false, true) => None,
        (true, _) => Some(Cause::over_limit(size.n_bytes, config.max_message_bytes.0)),
        (false, false) => Some(unmatched(&topic)),
    };
    let tombstone = publish.payload.is_empty() && config.empty_payload == EmptyPayload::Tombstone;
    let message = Message {
        payload: (!tombstone).then_some(&publish.payload[..size.n_kept]),
        key: Some(mapped.key.as_bytes()),
        time,
        topic: Some(&topic),
        target: mapped.target(),
    };
    let n_payload = size.is_over.then(|| publish.payload.len().to_string());
    let properties = publish.properties.as_ref().filter(|_| size.keeps_properties);
    let own = (config.headers == KeptHeaders::All).then(|| own_headers(publish, properties)).into_iter().flatten();
    let sent = (config.headers != KeptHeaders::None).then(|| sent_headers(properties)).into_iter().flatten();
    let raw = RawMessage { message, position, coordinate };
    let cut = n_payload.as_ref().map(|n_payload| (header::CUT, n_payload.as_bytes()));
    shared.inbox.push(raw, sent.chain(own).chain(cut), cause, publish.qos == QoS::AtMostOnce);
}

/// What a user property takes in its packet beside name and value. A header of Kafka takes about as much, so that a great many
/// small ones do not make a dead letter larger than they seem.
const PROPERTY_BYTES: usize = 5;

/// How much of a message is kept.
struct Size {
    /// Bytes of topic, payload and user properties.
    n_bytes: usize,
    is_over: bool,
    /// Bytes of the payload that are kept.
    n_kept: usize,
    keeps_properties: bool,
}

impl Size {
    fn of(publish: &Publish, limit: usize) -> Self {
        let n_payload = publish.payload.len();
        let n_properties = publish.properties.as_ref().map_or(0, |properties| {
            let user = properties.user_properties.iter();
            user.map(|(name, value)| name.len() + value.len() + PROPERTY_BYTES).sum::<usize>()
                + properties.correlation_data.as_ref().map_or(0, |data| data.len())
        });
        let n_bytes = publish.topic.len() + n_payload + n_properties;
        let is_over = n_bytes > limit;
        // What is small is kept first; all of it fits, but for the little that the context of the dead letter adds.
        let n_before = publish.topic.len() + n_properties;
        let keeps_properties = !is_over || n_before <= limit;
        let n_kept = if !is_over {
            n_payload
        } else if keeps_properties {
            (limit - n_before).min(n_payload)
        } else {
            limit.min(n_payload)
        };
        Self { n_bytes, is_over, n_kept, keeps_properties }
    }
}

fn unmatched(topic: &str) -> Cause {
    let detail = format!(
        "no filter of the configuration matches {topic:?}; the broker still knows one of an earlier configuration for this session"
    );
    Cause::new(Reason::UnmatchedTopic, detail)
}

/// What the sender said beside the payload.
fn sent_headers(properties: Option<&PublishProperties>) -> impl Iterator<Item = (&str, &[u8])> {
    let content_type = properties.and_then(|properties| properties.content_type.as_deref());
    let user = properties.map_or(&[][..], |properties| &properties.user_properties);
    let user = user.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    user.chain(content_type.map(|value| ("content-type", value.as_bytes())))
}

/// What MQTT says of the message.
fn own_headers<'a>(
    publish: &'a Publish,
    properties: Option<&'a PublishProperties>,
) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let qos: &[u8] = match publish.qos {
        QoS::AtMostOnce => b"0",
        QoS::AtLeastOnce => b"1",
        QoS::ExactlyOnce => b"2",
    };
    let retain: &[u8] = if publish.retain { b"true" } else { b"false" };
    let always = [("mqtt.topic", &publish.topic[..]), ("mqtt.qos", qos), ("mqtt.retain", retain)];
    let response = properties.and_then(|properties| properties.response_topic.as_deref());
    let correlation = properties.and_then(|properties| properties.correlation_data.as_deref());
    always
        .into_iter()
        .chain(response.map(|value| ("mqtt.response.topic", value.as_bytes())))
        .chain(correlation.map(|value| ("mqtt.correlation.data", value)))
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use iotml_core::batch::{Lane, RawBatch};
    use iotml_core::metrics::Metrics;
    use iotml_core::source::{Demand, SourceEvent};

    use super::*;
    use crate::source::MqttSourceConfig;
    use crate::source::config::TopicConfig;
    use crate::source::counters::Counters;
    use crate::source::inbox::{Inbox, Limits};

    async fn handed_over(topic: &'static [u8], payload: &'static [u8], empty: EmptyPayload) -> RawBatch {
        let mut filter = TopicConfig::new("fleet/{car}");
        (filter.key, filter.target) = (Some("{car}".into()), Some("cars".into()));
        let mut config = MqttSourceConfig::new("localhost", filter);
        config.empty_payload = empty;
        let (server, mapping) = config.compile(1).unwrap();
        let max_delay = std::time::Duration::ZERO;
        let limits = Limits { max_rows: 1, max_delay, max_qos0_rows: 1, max_bytes: 1 << 20 };
        let shared = Shared {
            inbox: Inbox::new(limits),
            counters: Counters::new(&Metrics::default()),
            next_lane: AtomicU32::new(0),
            lanes: Vec::new(),
            n_to_clear: Default::default(),
            config,
            server,
            mapping,
        };
        let mut publish = Publish::new("", QoS::AtLeastOnce, payload, None);
        publish.topic = topic.into();
        let position = Position { lane: Lane(0), seq: 0 };
        hand_over(&shared, &mut Mapped::default(), &publish, Some(7), position, Coordinate::NONE);
        match shared.inbox.poll(Demand::Batches).await.unwrap() {
            SourceEvent::Batch(batch) => batch,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn inv_6_and_7_a_great_many_small_properties_are_over_the_limit_although_their_bytes_are_few() {
        let with = |n: usize| {
            let mut publish = Publish::new("t", QoS::AtLeastOnce, vec![b'x'; 500_000], None);
            let user_properties = vec![("n".to_owned(), String::new()); n];
            publish.properties = Some(PublishProperties { user_properties, ..PublishProperties::default() });
            Size::of(&publish, 768 << 10)
        };
        let (few, many) = (with(1_000), with(260_000));
        assert!(!few.is_over && few.keeps_properties && few.n_kept == 500_000);
        // In Kafka each takes 2 bytes more, and with them it would be beyond 1,000,000.
        assert!(many.is_over && !many.keeps_properties && many.n_kept == 500_000);
    }

    #[tokio::test]
    async fn an_empty_payload_is_empty_or_a_tombstone_as_configured() {
        let batch = handed_over(b"fleet/ev-1", b"", EmptyPayload::Empty).await;
        assert_eq!(batch.messages().payload(0), Some(&b""[..]));
        let batch = handed_over(b"fleet/ev-1", b"", EmptyPayload::Tombstone).await;
        assert_eq!((batch.messages().payload(0), batch.messages().key(0)), (None, Some(&b"ev-1"[..])));
        assert_eq!(batch.messages().time(0), Some(7));
    }
}
