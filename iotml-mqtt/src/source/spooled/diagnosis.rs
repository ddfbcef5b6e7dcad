//! Why a broker could not be reached over TLS. Paho says the same of a broker that is not there, a certificate that is not trusted
//! and one that is missing, so a handshake of the other client's is asked.

use rumqttc::{AsyncClient, ConnectionError};

use super::super::backend::Shared;
use crate::trouble::Trouble;

/// What keeps a connection from standing, if that is the network or TLS. Disturbs no session: it connects under a name of its own,
/// as `client_id` would.
pub(super) async fn of_tls(shared: &Shared, client_id: &str) -> Option<Trouble> {
    let options = shared.config.connection.options(&shared.server, &format!("{client_id}-diagnosis")).ok()?;
    let (_client, mut events) = AsyncClient::builder(options).unbounded().build();
    let error = events.poll().await.err()?;
    let is_known = matches!(error, ConnectionError::Io(_) | ConnectionError::Tls(_) | ConnectionError::MqttState(_));
    is_known.then(|| Trouble::from_client(&shared.server, error))
}
