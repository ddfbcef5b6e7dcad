//! What became of a connection, in the words of the user who has to mend it.

use std::io;

use iotml_core::error::{BoxError, Class};
use iotml_core::source::SourceError;
use rumqttc::tokio_rustls::rustls;
use rumqttc::{ConnectReturnCode, ConnectionError, Error as Malformed, StateError, SubscribeReasonCode, TlsError};

use crate::server::Server;
use crate::tls;

const TAKEN_OVER: &str = "another client connected with the same client id; give each instance a name of its own";

/// Why a connection ended or could not begin.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Trouble {
    pub(crate) class: Class,
    message: String,
    #[source]
    source: Option<BoxError>,
}

impl Trouble {
    fn new(class: Class, message: String, source: Option<ConnectionError>) -> Self {
        Self { class, message, source: source.map(Into::into) }
    }

    /// A person has to change something.
    #[cfg(feature = "paho")]
    pub(crate) fn fatal(message: &str) -> Self {
        Self { class: Class::Fatal, message: message.into(), source: None }
    }

    /// A person has to change something, because of `source`.
    #[cfg(feature = "paho")]
    pub(crate) fn fatal_from(message: String, source: impl Into<BoxError>) -> Self {
        Self::of(Class::Fatal, message, source)
    }

    /// Because of `source`.
    #[cfg(feature = "paho")]
    pub(crate) fn of(class: Class, message: String, source: impl Into<BoxError>) -> Self {
        Self { class, message, source: Some(source.into()) }
    }

    /// Another client has the session.
    #[cfg(feature = "paho")]
    pub(crate) fn taken_over(server: &Server) -> Self {
        Self::new(Class::Fatal, format!("cannot use {server}: {TAKEN_OVER}"), None)
    }

    /// No answer in time.
    pub(crate) fn no_answer(server: &Server, what: &str) -> Self {
        let message = format!("{server} accepted the connection but sent no {what} in time; is it an mqtt 5 broker?");
        Self::new(Class::Retryable, message, None)
    }

    /// The broker did not grant a subscription.
    pub(crate) fn not_subscribed(server: &Server, filter: &str, code: SubscribeReasonCode) -> Self {
        let advice = match code {
            SubscribeReasonCode::NotAuthorized => "allow it in the broker's access rules",
            SubscribeReasonCode::TopicFilterInvalid => "correct the filter",
            SubscribeReasonCode::SharedSubscriptionsNotSupported => {
                "the broker has no shared subscriptions; drop `group`"
            }
            SubscribeReasonCode::WildcardSubscriptionsNotSupported => "the broker has no wildcards; name each topic",
            _ => "see the broker's log",
        };
        let message = format!("{server} refused to subscribe to {filter:?} ({code:?}): {advice}");
        Self::new(Class::Fatal, message, None)
    }

    /// Sorts a client error. `Retryable`: worth another attempt. `Fatal`: a person has to change something.
    pub(crate) fn from_client(server: &Server, error: ConnectionError) -> Self {
        let (class, advice) = match &error {
            ConnectionError::ConnectionRefused(code) => return Self::refused(server, *code, error),
            ConnectionError::Timeout(_) => (Class::Retryable, "no answer in time; check host, port and firewall"),
            // A certificate does not mend itself.
            ConnectionError::Tls(TlsError::NoValidCertInChain) => (Class::Fatal, "tls.ca holds no certificate"),
            ConnectionError::Tls(TlsError::NoValidClientCertInChain) => (Class::Fatal, "tls.cert holds no certificate"),
            ConnectionError::Tls(TlsError::NoValidKeyInChain) => (Class::Fatal, "tls.key holds no private key"),
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                use rumqttc::DisconnectReasonCode::{NotAuthorized, SessionTakenOver};
                match reason_code {
                    // Two processes with one client id would push each other out for ever.
                    SessionTakenOver => (Class::Fatal, TAKEN_OVER),
                    NotAuthorized => (Class::Fatal, "the broker withdrew its permission"),
                    _ => (Class::Retryable, "the broker closed the connection"),
                }
            }
            // A client must hang up on it, so it would come again for ever.
            ConnectionError::MqttState(StateError::Deserialization(Malformed::TopicNotUtf8 { .. })) => (
                Class::Fatal,
                "the broker sent a packet with a topic or other text that is not utf-8, which mqtt forbids; remove that \
                 message at the broker, or update the broker",
            ),
            ConnectionError::NotConnAck(_) => (Class::Fatal, "this is not an mqtt 5 broker; check the port"),
            ConnectionError::RequestsDone => (Class::Fatal, "the client was closed"),
            other => match (tls_error(other), io_error(other)) {
                (Some(tls), _) => (Class::Fatal, tls::advice(tls)),
                (None, Some(io)) => (Class::Retryable, network_advice(server, io)),
                (None, None) if matches!(other, ConnectionError::Tls(_)) => {
                    (Class::Fatal, "tls cannot begin; check tls.ca, tls.cert and tls.key")
                }
                (None, None) => (Class::Retryable, "the connection broke"),
            },
        };
        Self::new(class, format!("cannot use {server}: {advice} ({error})"), Some(error))
    }

    fn refused(server: &Server, code: ConnectReturnCode, error: ConnectionError) -> Self {
        use ConnectReturnCode as Code;
        let (class, advice) = match code {
            Code::BadUserNamePassword | Code::NotAuthorized => {
                (Class::Fatal, "wrong or missing username or password; set `username` and `password`")
            }
            Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => {
                (Class::Fatal, "it does not speak mqtt 5")
            }
            Code::ClientIdentifierNotValid | Code::BadClientId => {
                (Class::Fatal, "it refused the client id; set `client_id`")
            }
            Code::Banned | Code::BadAuthenticationMethod => (Class::Fatal, "it does not let this client in"),
            Code::UseAnotherServer | Code::ServerMoved => (Class::Fatal, "it moved; change `server`"),
            _ => (Class::Retryable, "it is not available now"),
        };
        Self::new(class, format!("{server} refused the connection: {advice} ({code:?})"), Some(error))
    }

    /// As a source reports it when it cannot go on.
    pub(crate) fn into_source_error(self) -> SourceError {
        SourceError::fatal_from(self.to_string(), self)
    }
}

/// What the operating system or TLS says, wherever the client has put it.
fn io_error(error: &ConnectionError) -> Option<&io::Error> {
    match error {
        ConnectionError::Io(io)
        | ConnectionError::Tls(TlsError::Io(io))
        | ConnectionError::MqttState(StateError::Io(io) | StateError::Deserialization(Malformed::Io(io))) => Some(io),
        _ => None,
    }
}

fn tls_error(error: &ConnectionError) -> Option<&rustls::Error> {
    match error {
        ConnectionError::Tls(TlsError::TLS(tls)) => Some(tls),
        other => io_error(other)?.get_ref()?.downcast_ref(),
    }
}

fn network_advice(server: &Server, error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there; is the broker running, are host and port right?",
        io::ErrorKind::TimedOut => "no answer in time; check host, port and firewall",
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof if server.tls => {
            "the far side closed the connection; does the port expect tls, and does it ask for a client certificate \
             (tls.cert, tls.key)?"
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            "the far side closed the connection; does the port expect tls?"
        }
        _ => "the network failed; check host and port",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_is_fatal_and_says_what_to_set() {
        let server = Server::parse("localhost").unwrap();
        let error = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let trouble = Trouble::from_client(&server, error);
        assert_eq!(trouble.class, Class::Fatal);
        assert!(trouble.to_string().contains("`password`"), "{trouble}");
    }

    #[test]
    fn a_busy_broker_is_tried_again() {
        let server = Server::parse("localhost").unwrap();
        let error = ConnectionError::ConnectionRefused(ConnectReturnCode::ServerBusy);
        assert_eq!(Trouble::from_client(&server, error).class, Class::Retryable);
    }
}
