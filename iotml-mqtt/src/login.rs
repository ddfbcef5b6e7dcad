//! How source and sink connect.

use std::time::Duration;

use iotml_core::error::ConfigError;
use iotml_core::secret::Secret;
use rumqttc::{MqttOptions, TlsConfiguration, Transport};

use crate::server::Server;
use crate::tls::{TlsConfig, read_pem};

/// What of a configuration concerns the connection.
pub(crate) struct Login<'a> {
    pub(crate) server: &'a Server,
    pub(crate) tls: &'a TlsConfig,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a Secret>,
    pub(crate) keep_alive: Duration,
    pub(crate) connect_timeout: Duration,
}

impl Login<'_> {
    /// Options for the connection with this client id. Reads the certificate files.
    pub(crate) fn options(&self, client_id: &str) -> Result<MqttOptions, ConfigError> {
        let mut options = MqttOptions::new(client_id, (self.server.host.as_str(), self.server.port));
        let mut network = options.network_options();
        // Acknowledgements are small packets that the other side waits for: Nagle's algorithm would hold them back 40 ms.
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_keep_alive(u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX))
            .set_connect_timeout(self.connect_timeout);
        match (self.username, self.password) {
            (Some(username), Some(password)) => {
                options.set_credentials(username, password.expose().to_owned());
            }
            (Some(username), None) => {
                options.set_username(username);
            }
            (None, _) => {}
        }
        if self.server.tls {
            options.set_transport(self.transport()?);
        }
        Ok(options)
    }

    fn transport(&self) -> Result<Transport, ConfigError> {
        let Some(ca) = &self.tls.ca else {
            return Transport::try_tls_with_default_config()
                .map_err(|source| ConfigError::with("cannot load the system's certificates; set tls.ca", source));
        };
        let client_auth = match (&self.tls.cert, &self.tls.key) {
            (Some(cert), Some(key)) => Some((read_pem(cert)?, read_pem(key)?)),
            _ => None,
        };
        Ok(Transport::tls_with_config(TlsConfiguration::Simple { ca: read_pem(ca)?, alpn: None, client_auth }))
    }
}
