//! Options of one connection, and the session store that lets a restarted process resume its session.

use std::pin::Pin;

use iotml_core::error::ConfigError;
use rumqttc::{
    AckMode, IncomingPacketSizeLimit, MqttOptions, PersistedAckMode, PersistedSession, SessionStore, SessionStoreKey,
};

use super::MqttSourceConfig;
use crate::server::Server;

/// The client publishes nothing, so the room it keeps for outgoing packets can be small. By default it is 16 MB and walked
/// through at every write.
const OUTGOING_LIMIT: u16 = 16;

/// Reads of one wake-up.
const MAX_READS: usize = 128;

/// Options for the connection with this client id. Reads the certificate files.
pub(super) fn options(config: &MqttSourceConfig, server: &Server, client_id: &str) -> Result<MqttOptions, ConfigError> {
    let mut options = config.connection.options(server, client_id)?;
    let expiry = u32::try_from(config.session_expiry.0.as_secs()).unwrap_or(u32::MAX);
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(expiry))
        .set_receive_maximum(Some(config.receive_maximum))
        .set_ack_mode(AckMode::Manual)
        .set_outgoing_inflight_upper_limit(OUTGOING_LIMIT)
        .set_read_batch_size(MAX_READS)
        // The broker would silently drop what exceeds a limit that we announce, and send again for ever what we hang up on;
        // `max_message_bytes` rejects it visibly. So what the broker lets through bounds a packet (docs/operating.md).
        // Comes last, because setting a property sets the limit back to 10 KiB.
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Unlimited);
    options.set_session_store(OwnSession(PersistedSession {
        format_version: 1,
        client_id: client_id.into(),
        clean_start: false,
        session_expiry_interval: Some(expiry),
        outgoing_inflight_upper_limit: Some(OUTGOING_LIMIT),
        ack_mode: PersistedAckMode::Manual,
        last_pkid: 0,
        last_puback: 0,
        replay: Vec::new(),
        incoming_qos2: Vec::new(),
    }));
    Ok(options)
}

type StoreFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, Box<dyn std::error::Error + Send + Sync>>> + Send + 'a>>;

/// Says of the broker's session that it is ours.
///
/// The client refuses `Session Present = 1` unless it knows the session, or with `AllowBrokerOnly` accepts it but then
/// refuses to SUBSCRIBE, which Mosquitto needs after its restart. A client that only receives has no state of its own that
/// must survive, so an empty session is a true account of ours.
#[derive(Debug)]
struct OwnSession(PersistedSession);

impl SessionStore for OwnSession {
    fn load<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        Box::pin(async { Ok(Some(self.0.clone())) })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
