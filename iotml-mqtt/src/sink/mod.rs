//! The MQTT sink.

mod config;
mod link;

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use iotml_core::batch::{Message, Rejected};
use iotml_core::error::{Cause, ConfigError, Reason};
use iotml_core::pipeline::TaskContext;
use iotml_core::sink::{Outgoing, Sink, SinkError, Written};
use rumqttc::{
    AsyncClient, PubAckReason, PubRecReason, PublishNotice, PublishNoticeError, PublishOptions, PublishProperties, QoS,
};
use tokio::sync::oneshot;

pub use config::MqttSinkConfig;

use crate::server::Server;
use crate::template::Template;
use link::Connection;

/// Packets of one write to the socket.
const MAX_GROUP: usize = 128;

/// Publishes rows, such as alerts and commands to devices; a row is durable when the broker has acknowledged it (QoS 1 and 2).
///
/// The topic is a template: `vehicles/{key}/alerts`. A key that would change the topic's levels or is a wildcard is
/// refused, because it comes from a device and must not choose who is commanded.
///
/// ```no_run
/// use iotml_mqtt::{MqttSink, MqttSinkConfig};
///
/// let sink = MqttSink::new(MqttSinkConfig::new("mqtt://localhost:1883", "vehicles/{key}/alerts"))?;
/// # Ok::<(), iotml_core::error::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct MqttSink {
    config: MqttSinkConfig,
    server: Server,
    topic: Template,
    connection: OnceLock<Connection>,
}

impl MqttSink {
    /// A sink that connects when opened; errors name what is wrong in the configuration.
    pub fn new(config: MqttSinkConfig) -> Result<Self, ConfigError> {
        let (server, topic) = config.compile()?;
        Ok(Self { config, server, topic, connection: OnceLock::new() })
    }

    /// Topic and options of a row's message, or why it has none.
    fn envelope(&self, rows: &Outgoing, row: usize) -> Result<(String, PublishOptions), Cause> {
        let messages = &rows.messages;
        let came_from = rows.batch.raw().messages().topic(rows.batch.origin(row));
        let key = messages.key(row).or_else(|| rows.batch.key(row));
        let topic = came_from.map(|topic| &**topic);
        let topic = self.topic_of(&Message { key, topic, ..messages.message(row) })?;
        let options = PublishOptions::new(self.qos()).retain(self.config.retain);
        if !self.config.headers {
            return Ok((topic, options));
        }
        let mut user_properties = Vec::new();
        for header in rows.messages.headers().of(row).filter(|header| !header.name.starts_with("mqtt.")) {
            let value = std::str::from_utf8(header.value.unwrap_or_default())
                .map_err(|_| Cause::new(Reason::NotUtf8, format!("header {:?} is no text", header.name)))?;
            user_properties.push((header.name.to_owned(), value.to_owned()));
        }
        Ok((topic, options.properties(PublishProperties { user_properties, ..PublishProperties::default() })))
    }

    fn qos(&self) -> QoS {
        match self.config.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    fn topic_of(&self, message: &Message<'_>) -> Result<String, Cause> {
        let key = message.key.map(std::str::from_utf8).transpose();
        let key = key.map_err(|_| Cause::new(Reason::NoTarget, "the key is no text, so it names no topic"))?;
        let values = [key, message.topic, message.target];
        let mut topic = String::new();
        let missing = std::cell::Cell::new(None);
        self.topic.render(&mut topic, |place| {
            if values[place].is_none_or(str::is_empty) {
                missing.set(Some(place));
            }
            values[place].unwrap_or_default()
        });
        if let Some(place) = missing.get() {
            let name = config::PLACES[place];
            return Err(Cause::new(Reason::NoTarget, format!("the row has no {name}, which the topic needs")));
        }
        if self.topic.uses(config::KEY) && key.is_some_and(|key| key.contains('/')) {
            return Err(Cause::new(Reason::NoTarget, "the key holds a slash, which would change the topic's levels"));
        }
        if topic.contains(['+', '#', '\0']) || topic.len() > usize::from(u16::MAX) {
            return Err(Cause::new(Reason::NoTarget, "the topic would hold a wildcard or be too long"));
        }
        Ok(topic)
    }

    /// Waits for the acknowledgements of some rows and sorts what failed.
    async fn settle(&self, sent: Vec<(u32, PublishNotice)>, written: &mut Written) {
        let (rows, notices): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let timeout = self.config.delivery_timeout.0;
        let waits = notices.into_iter().map(|notice| tokio::time::timeout(timeout, notice.wait_completion_async()));
        for (row, outcome) in rows.into_iter().zip(join_all(waits).await) {
            match outcome {
                Ok(Ok(_)) => {}
                Ok(Err(error)) if is_about_the_row(&error) => written.rejected.push(self.refused(row, &error)),
                Ok(Err(error)) => written.retryable.push(self.refused(row, &error)),
                Err(_) => written.retryable.push(self.refused(row, &"not acknowledged within delivery_timeout")),
            }
        }
    }

    fn refused(&self, row: u32, why: &dyn std::fmt::Display) -> Rejected {
        Rejected { row, cause: Cause::new(Reason::Refused, format!("{}: {why}", self.server)) }
    }
}

/// Whether the broker decided about the message itself, so that sending it again cannot help.
fn is_about_the_row(error: &PublishNoticeError) -> bool {
    use PubAckReason as Ack;
    use PubRecReason as Rec;
    match error {
        PublishNoticeError::V5PubAck(reason) => {
            !matches!(reason, Ack::QuotaExceeded | Ack::PacketIdentifierInUse | Ack::UnspecifiedError)
        }
        PublishNoticeError::V5PubRec(reason) => {
            !matches!(reason, Rec::QuotaExceeded | Rec::PacketIdentifierInUse | Rec::UnspecifiedError)
        }
        PublishNoticeError::RetainNotSupported => true,
        _ => false,
    }
}

#[iotml_core::async_trait]
impl Sink for MqttSink {
    async fn open(&self, task: &TaskContext) -> Result<(), SinkError> {
        let prefix = self.config.client_id.as_deref().unwrap_or(&task.pipeline);
        // No session to resume, so nothing is gained by a stable id, and two sinks of one task must differ.
        let client_id = format!("{prefix}-{}-{}-{}", task.instance, task.task, unique());
        let options = self.config.connection.options(&self.server, &client_id);
        let mut options = options.map_err(|error| SinkError::fatal_from(error.to_string(), error))?;
        // The client keeps room for this many packets; by default it is 16 MB.
        let room = u16::try_from(self.config.max_in_flight).unwrap_or(u16::MAX);
        options.set_clean_start(true).set_max_request_batch(MAX_GROUP).set_outgoing_inflight_upper_limit(room);
        // Unbounded, because `write` bounds what it hands over.
        let (client, events) = AsyncClient::builder(options).unbounded().build();
        let stands = Arc::new(AtomicBool::new(false));
        let (tell, ready) = oneshot::channel();
        crate::thread::spawn(&client_id, link::run(self.server.clone(), events, stands.clone(), tell))
            .map_err(|error| SinkError::fatal_from("cannot start a thread for mqtt", error))?;
        match ready.await {
            Ok(Ok(())) => {}
            Ok(Err(trouble)) => return Err(SinkError::fatal_from(trouble.to_string(), trouble)),
            Err(_) => return Err(SinkError::fatal("the mqtt thread ended while connecting")),
        }
        let connection = Connection { client, stands };
        self.connection.set(connection).map_err(|_| SinkError::fatal("the mqtt sink was opened twice"))
    }

    fn topic<'a>(&'a self, envelope: &Message<'a>) -> Option<Cow<'a, str>> {
        self.topic_of(envelope).ok().map(Cow::Owned)
    }

    async fn write(&self, rows: Outgoing) -> Result<Written, SinkError> {
        let connection = self.connection.get().ok_or_else(|| SinkError::fatal("the mqtt sink is not open"))?;
        let mut written = Written::default();
        let mut sent = Vec::new();
        for row in 0..rows.len() {
            let number = row as u32;
            let (topic, options) = match self.envelope(&rows, row) {
                Ok(envelope) => envelope,
                Err(cause) => {
                    written.rejected.push(Rejected { row: number, cause });
                    continue;
                }
            };
            if !connection.stands.load(Ordering::Acquire) {
                written.retryable.push(self.refused(number, &"not connected"));
                continue;
            }
            let payload = rows.messages.payload(row).unwrap_or_default();
            match connection.client.try_publish_tracked(topic, payload.to_vec(), options) {
                Ok(notice) => sent.push((number, notice)),
                Err(error) => written.retryable.push(self.refused(number, &error)),
            }
            if sent.len() == self.config.max_in_flight {
                self.settle(std::mem::take(&mut sent), &mut written).await;
            }
        }
        self.settle(sent, &mut written).await;
        written.rejected.sort_by_key(|rejected| rejected.row);
        written.retryable.sort_by_key(|rejected| rejected.row);
        Ok(written)
    }

    async fn close(&self) -> Result<(), SinkError> {
        if let Some(connection) = self.connection.get() {
            // Everything written was acknowledged or reported, so there is nothing to wait for.
            let _ = connection.client.try_disconnect_now();
        }
        Ok(())
    }
}

/// A word that no other client of this or another process uses.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{:x}{since:x}{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic_for(template: &str, key: Option<&[u8]>, target: Option<&str>) -> Result<String, Reason> {
        let sink = MqttSink::new(MqttSinkConfig::new("localhost", template)).unwrap();
        let message = Message { key, target, topic: Some("in/a"), ..Message::default() };
        let topic = sink.topic_of(&message).map_err(|cause| cause.reason);
        assert_eq!(sink.topic(&message).as_deref(), topic.as_deref().ok());
        topic
    }

    #[test]
    fn topics_come_from_key_topic_and_target() {
        assert_eq!(topic_for("vehicles/{key}/alerts", Some(b"ev-1"), None).unwrap(), "vehicles/ev-1/alerts");
        assert_eq!(topic_for("echo/{topic}", None, None).unwrap(), "echo/in/a");
        assert_eq!(topic_for("{target}", None, Some("out")).unwrap(), "out");
    }

    #[test]
    fn a_key_cannot_choose_another_topic() {
        for key in [&b"a/b"[..], b"+", b"#", b"", b"a\0b", b"\xff"] {
            assert_eq!(topic_for("vehicles/{key}/alerts", Some(key), None), Err(Reason::NoTarget), "{key:?}");
        }
        assert_eq!(topic_for("vehicles/{key}/alerts", None, None), Err(Reason::NoTarget));
        assert_eq!(topic_for("{target}", Some(b"k"), None), Err(Reason::NoTarget));
    }
}
