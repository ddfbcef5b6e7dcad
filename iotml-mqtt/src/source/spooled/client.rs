//! The Paho client: connects, subscribes, and gives each message to a callback. Every call may wait for as long as a spool is full.
//! That it connects again is the keeper's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use iotml_core::error::Class;
use paho_mqtt::{
    AsyncClient, ConnectOptions, ConnectOptionsBuilder, ConnectReturnCode, CreateOptionsBuilder, DisconnectOptions,
    DisconnectOptionsBuilder, Error, Message, PersistenceType, Properties, PropertyCode, ReasonCode, RetainHandling,
    SslOptionsBuilder, SubscribeOptionsBuilder,
};
use rumqttc::{Publish, PublishProperties, QoS};
use tokio::sync::mpsc;

use super::super::backend::Shared;
use super::super::config::{MqttVersion, Retained};
use super::diagnosis;
use super::spool::is_any_full;
use crate::server::Server;
use crate::tls::read_pem;
use crate::trouble::Trouble;

const RIGHTS: &str = "see the broker's access rules and its log";

/// How long the broker may take for an answer to what a client asks for in passing.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client that was connected once.
#[derive(Clone)]
pub(super) struct Client {
    client: AsyncClient,
    /// It takes leave, and must not subscribe again when it connects again.
    is_leaving: Arc<AtomicBool>,
}

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It broke, or ended without a word.
    Broken,
    /// The broker said why it ends it, in MQTT 5.
    Said(ReasonCode),
}

impl Client {
    /// Connects and subscribes. `keep` is called on Paho's thread with each message; when it returns, Paho acknowledges it. Losses
    /// of the connection are told; one may be told twice.
    pub(super) async fn connect(
        shared: &Arc<Shared>,
        client_id: &str,
        keep: impl Fn(&Message) + Send + 'static,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Loss>), Trouble> {
        let options = CreateOptionsBuilder::new()
            .server_uri(uri(&shared.server))
            .client_id(client_id)
            .mqtt_version(version(shared.config.mqtt_version))
            // It publishes nothing, so it has nothing to keep.
            .persistence(PersistenceType::None)
            .finalize();
        let client = AsyncClient::new(options).map_err(|error| cannot_use(&shared.server, error))?;
        // Before connecting, because a resumed session sends at once.
        client.set_message_callback(move |_, message| {
            if let Some(message) = message {
                keep(&message);
            }
        });
        let (lost, losses) = mpsc::unbounded_channel();
        let said = lost.clone();
        client.set_connection_lost_callback(move |_| {
            let _ = lost.send(Loss::Broken);
        });
        client.set_disconnected_callback(move |_, _, reason| {
            let _ = said.send(Loss::Said(reason));
        });
        let client = Self { client, is_leaving: Arc::new(AtomicBool::new(false)) };
        let connecting = client.client.connect(connect_options(shared, Session::Kept)?);
        let Some(connected) = within(patience(shared), connecting).await else {
            // Paho will still call back some time, with a reference that must not become the last one; see below.
            client.client.remove_message_callback();
            std::mem::forget(client);
            return Err(Trouble::no_answer(&shared.server, "answer"));
        };
        until_told(&client.client);
        if let Err(error) = connected {
            let is_told = !shared.server.tls || matches!(error, Error::ConnectReturn(_) | Error::ReasonCode(..));
            let why = if is_told { None } else { diagnosis::of_tls(shared, client_id).await };
            return Err(why.unwrap_or_else(|| cannot_use(&shared.server, error)));
        }
        client.subscribe(shared).await?;
        Ok((client, losses))
    }

    /// Connects and subscribes once more, unless it is connected; whether the broker still has the session.
    pub(super) async fn connect_again(&self, shared: &Shared) -> Result<bool, Trouble> {
        // Paho gives up by itself after `connect_timeout`.
        let connected = self.client.connect(connect_options(shared, Session::Kept)?).await;
        until_told(&self.client);
        let connected = connected.map_err(|error| cannot_use(&shared.server, error))?;
        if !self.is_leaving.load(Ordering::Acquire) {
            // Also on a resumed session: Mosquitto forgets shared subscriptions in a restart.
            self.subscribe(shared).await?;
        }
        Ok(connected.connect_response().is_some_and(|response| response.session_present))
    }

    /// Whether it is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Subscribes, and ends the connection if that fails.
    async fn subscribe(&self, shared: &Shared) -> Result<(), Trouble> {
        let server = &shared.server;
        let answer = within(patience(shared), subscribe(&self.client, shared)).await;
        until_told(&self.client);
        let refused = match answer {
            Some(Ok(granted)) => {
                let codes = granted.subscribe_many_response().into_iter().flatten();
                let Some((code, filter)) = codes.zip(shared.mapping.filters()).find(|(code, _)| *code >= 0x80) else {
                    return Ok(());
                };
                Trouble::fatal(&format!("{server} refused to subscribe to {filter:?} (code {code:#x}); {RIGHTS}"))
            }
            Some(Err(error)) => {
                let (class, what) = match self.client.is_connected() {
                    true => (Class::Fatal, "refused to subscribe"),
                    false => (Class::Retryable, "ended the connection while subscribing"),
                };
                let filters = shared.mapping.filters();
                Trouble::of(class, format!("{server} {what} to {filters:?} ({error}); {RIGHTS}"), error)
            }
            None => Trouble::no_answer(server, "SUBACK"),
        };
        let _ = within(PATIENCE, self.client.disconnect(goodbye(false))).await;
        until_told(&self.client);
        Err(refused)
    }

    /// Gives the subscriptions up; whether the broker has confirmed it.
    pub(super) async fn unsubscribe(&self, shared: &Shared) -> bool {
        self.is_leaving.store(true, Ordering::Release);
        let asked = self.client.unsubscribe_many(shared.mapping.filters());
        let answer = within(PATIENCE, asked).await;
        until_told(&self.client);
        matches!(answer, Some(Ok(_)))
    }

    /// Says goodbye, if that is still possible. In MQTT 5 the session can end with the connection; in 3.1.1 only a new connection
    /// discards it, and is closed at once.
    pub(super) async fn disconnect(&self, shared: &Shared, ends_session: bool) {
        if !self.client.is_connected() {
            return;
        }
        let is_v5 = shared.config.mqtt_version == MqttVersion::V5;
        let said = self.client.disconnect(goodbye(ends_session && is_v5));
        let _ = within(PATIENCE, said).await;
        until_told(&self.client);
        if ends_session && !is_v5 {
            let discarded = async {
                let options = connect_options(shared, Session::Discarded).map_err(|trouble| trouble.to_string())?;
                self.client.connect(options).await.map_err(|error| error.to_string())?;
                self.client.disconnect(None).await.map_err(|error| error.to_string())
            };
            let discarded = within(PATIENCE, discarded).await;
            until_told(&self.client);
            match discarded {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::warn!(error, server = %shared.server, "the session could not be discarded")
                }
                None => {
                    tracing::warn!(server = %shared.server, "the session could not be discarded in time");
                    // As where it connects first: Paho's late call must not hold the last reference.
                    std::mem::forget(self.client.clone());
                }
            }
        }
    }
}

/// How long the broker may take for an answer to what a connection begins with.
fn patience(shared: &Shared) -> Duration {
    shared.config.connection.connect_timeout.0 + Duration::from_secs(1)
}

/// The answer, unless it takes longer than `patience`. Time in which a full spool holds up every Paho client does not count.
async fn within<T>(patience: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = std::pin::pin!(answer);
    loop {
        match tokio::time::timeout(patience, &mut answer).await {
            Ok(answer) => return Some(answer),
            Err(_) if is_any_full() => {}
            Err(_) => return None,
        }
    }
}

/// Waits until Paho is done with telling an outcome. It does so under its lock and with a reference to the client: were ours dropped
/// before that call is over, the call would destroy the client, wait for the lock it holds, and block every Paho client of the
/// process.
fn until_told(client: &AsyncClient) {
    // It takes the lock.
    let _ = client.is_connected();
}

fn goodbye(ends_session: bool) -> DisconnectOptions {
    let mut options = DisconnectOptionsBuilder::new();
    if ends_session {
        let mut properties = Properties::new();
        if let Err(error) = properties.push_u32(PropertyCode::SessionExpiryInterval, 0) {
            tracing::warn!(%error, "the session cannot be ended, and expires later");
        }
        options.properties(properties);
    }
    options.finalize()
}

fn subscribe(client: &AsyncClient, shared: &Shared) -> paho_mqtt::SubscribeManyToken {
    let filters = shared.mapping.filters();
    let qos: Vec<i32> = shared.config.topics.iter().map(|topic| i32::from(topic.qos)).collect();
    if shared.config.mqtt_version == MqttVersion::V3 {
        return client.subscribe_many(filters, &qos);
    }
    let retain = match shared.config.retained {
        Retained::New => RetainHandling::SendRetainedOnNew,
        Retained::Always => RetainHandling::SendRetainedOnSubscribe,
        Retained::Never => RetainHandling::DontSendRetained,
    };
    let one = SubscribeOptionsBuilder::new().retain_as_published(true).retain_handling(retain).finalize();
    client.subscribe_many_with_options(filters, &qos, &vec![one; filters.len()], None)
}

/// The message as a packet, in which form it is kept and handed on.
pub(super) fn publish(message: &Message) -> Publish {
    let qos = match message.qos() {
        paho_mqtt::QoS::AtMostOnce => QoS::AtMostOnce,
        paho_mqtt::QoS::AtLeastOnce => QoS::AtLeastOnce,
        paho_mqtt::QoS::ExactlyOnce => QoS::ExactlyOnce,
    };
    let sent = message.properties();
    let properties = (!sent.is_empty()).then(|| PublishProperties {
        user_properties: sent.user_iter().collect(),
        content_type: sent.get_string(PropertyCode::ContentType),
        response_topic: sent.get_string(PropertyCode::ResponseTopic),
        correlation_data: sent.get_binary(PropertyCode::CorrelationData).map(Into::into),
        ..PublishProperties::default()
    });
    let mut publish = Publish::new(message.topic(), qos, message.payload().to_vec(), properties);
    publish.retain = message.retained();
    // A packet of QoS 1 or 2 needs an id; nothing reads this one.
    publish.pkid = if qos == QoS::AtMostOnce { 0 } else { 1 };
    publish
}

fn version(version: MqttVersion) -> u32 {
    match version {
        MqttVersion::V5 => paho_mqtt::MQTT_VERSION_5,
        MqttVersion::V3 => paho_mqtt::MQTT_VERSION_3_1_1,
    }
}

fn uri(server: &Server) -> String {
    // The names that all versions of Paho know.
    let plain = server.to_string();
    match plain.strip_prefix("mqtts://") {
        Some(rest) => format!("ssl://{rest}"),
        None => plain.replacen("mqtt://", "tcp://", 1),
    }
}

/// What becomes of the broker's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    /// It is resumed, and kept.
    Kept,
    /// It is discarded, in MQTT 3.1.1.
    Discarded,
}

fn connect_options(shared: &Shared, session: Session) -> Result<ConnectOptions, Trouble> {
    let config = &shared.config;
    let mut options = ConnectOptionsBuilder::with_mqtt_version(version(config.mqtt_version));
    options.keep_alive_interval(config.connection.keep_alive.0).connect_timeout(config.connection.connect_timeout.0);
    if config.mqtt_version == MqttVersion::V5 {
        let expiry = u32::try_from(config.session_expiry.0.as_secs()).unwrap_or(u32::MAX);
        let mut properties = Properties::new();
        properties
            .push_u32(PropertyCode::SessionExpiryInterval, expiry)
            .and_then(|()| properties.push_u16(PropertyCode::ReceiveMaximum, config.receive_maximum))
            .map_err(|error| Trouble::fatal_from("cannot set the session's properties".into(), error))?;
        options.clean_start(false).properties(properties);
    } else {
        options.clean_session(session == Session::Discarded);
    }
    if let Some(username) = &config.connection.username {
        options.user_name(username);
    }
    if let Some(password) = &config.connection.password {
        options.password(password.expose());
    }
    if shared.server.tls {
        options.ssl_options(tls(shared)?);
    }
    Ok(options.finalize())
}

fn tls(shared: &Shared) -> Result<paho_mqtt::SslOptions, Trouble> {
    let config = &shared.config.connection.tls;
    for path in [&config.ca, &config.cert, &config.key].into_iter().flatten() {
        // Paho would only say that the handshake failed.
        read_pem(path).map_err(|error| Trouble::fatal_from(error.to_string(), error))?;
    }
    let unusable = |error: Error| Trouble::fatal_from(format!("cannot use the certificates of tls: {error}"), error);
    let mut ssl = SslOptionsBuilder::new();
    ssl.enable_server_cert_auth(true).verify(true);
    if let Some(ca) = &config.ca {
        ssl.trust_store(ca).map_err(unusable)?;
    }
    if let (Some(cert), Some(key)) = (&config.cert, &config.key) {
        ssl.key_store(cert).map_err(unusable)?;
        ssl.private_key(key).map_err(unusable)?;
    }
    Ok(ssl.finalize())
}

/// Why it could not connect.
fn cannot_use(server: &Server, error: Error) -> Trouble {
    let message = format!("cannot use {server}: {} ({error})", advice(server, &error));
    let class = match &error {
        Error::ConnectReturn(code) if *code != ConnectReturnCode::ServerUnavailable => Class::Fatal,
        Error::ReasonCode(
            ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::UnsupportedProtocolVersion
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved,
            _,
        ) => Class::Fatal,
        _ => Class::Retryable,
    };
    Trouble::of(class, message, error)
}

fn advice(server: &Server, error: &Error) -> &'static str {
    match error {
        Error::ConnectReturn(ConnectReturnCode::BadUserNameOrPassword | ConnectReturnCode::NotAuthorized)
        | Error::ReasonCode(ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized, _) => {
            "wrong or missing username or password; set `username` and `password`"
        }
        Error::ReasonCode(ReasonCode::UnsupportedProtocolVersion, _)
        | Error::ConnectReturn(ConnectReturnCode::UnacceptableProtocolVersion) => {
            "it does not speak this version; set `mqtt_version`"
        }
        Error::TcpConnectCompletionFailure | Error::TcpTlsConnectFailure if server.tls => {
            "tcp or tls failed; is the broker running, are host and port right, has its certificate that host name and not \
             expired, was it signed by tls.ca, does it ask for a client certificate (tls.cert, tls.key)?"
        }
        Error::TcpConnectTimeout | Error::TcpConnectCompletionFailure | Error::SocketError(_) => {
            "nothing listens there; is the broker running, are host and port right?"
        }
        Error::TcpTlsConnectFailure => "tcp failed; is the broker running, are host and port right?",
        _ => "it did not let the client in; check host, port, tls and the broker's log",
    }
}
