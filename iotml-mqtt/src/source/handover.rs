//! From a PUBLISH packet to a raw message.

use std::time::{SystemTime, UNIX_EPOCH};

use iotml_core::batch::{Coordinate, Message, Position, RawMessage};
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
    let topic = String::from_utf8_lossy(&publish.topic);
    // A topic that is no text has no key and no target, so that a sink refuses the message by name instead of guessing.
    let is_text = matches!(topic, std::borrow::Cow::Borrowed(_));
    if is_text {
        shared.mapping.map(&topic, mapped);
    }
    let tombstone = publish.payload.is_empty() && config.empty_payload == EmptyPayload::Tombstone;
    let message = Message {
        payload: (!tombstone).then_some(&publish.payload[..]),
        key: is_text.then_some(mapped.key.as_bytes()),
        time,
        topic: Some(&topic),
        target: if is_text { mapped.target() } else { None },
    };
    let properties = publish.properties.as_ref();
    let own = (config.headers == KeptHeaders::All).then(|| own_headers(publish, properties)).into_iter().flatten();
    let sent = (config.headers != KeptHeaders::None).then(|| sent_headers(properties)).into_iter().flatten();
    let raw = RawMessage { message, position, coordinate };
    shared.inbox.push(raw, sent.chain(own), publish.qos == QoS::AtMostOnce);
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
