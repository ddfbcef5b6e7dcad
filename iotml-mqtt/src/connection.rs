//! How source and sink reach a broker: what a user writes about it, and what the client makes of it.

use iotml_core::error::ConfigError;
use iotml_core::plugin::HumanDuration;
use iotml_core::secret::Secret;
use rumqttc::{MqttOptions, TlsConfiguration, Transport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::server::Server;
use crate::tls::{TlsConfig, read_pem};

/// A broker, and how to log on to it: the same keys for source and sink.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct ConnectionConfig {
    /// The broker: `mqtt://host:1883`, or `mqtts://host:8883` for TLS.
    pub server: String,
    /// User name.
    #[serde(default)]
    pub username: Option<String>,
    /// Password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Certificates for `mqtts://`.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Interval of MQTT keep-alives.
    #[serde(default = "default_keep_alive")]
    pub keep_alive: HumanDuration,
    /// How long one attempt to connect may take.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: HumanDuration,
}

fn default_keep_alive() -> HumanDuration {
    HumanDuration::from_secs(30)
}

fn default_connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

impl ConnectionConfig {
    /// A broker that lets everybody in.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            username: None,
            password: None,
            tls: TlsConfig::default(),
            keep_alive: default_keep_alive(),
            connect_timeout: default_connect_timeout(),
        }
    }

    /// The address, once everything has been checked that can be without connecting.
    pub(crate) fn check(&self) -> Result<Server, ConfigError> {
        let server = Server::parse(&self.server)?;
        self.tls.check(server.tls)?;
        if self.password.is_some() && self.username.is_none() {
            return Err(ConfigError::new("password is set without username"));
        }
        if !(1..=65_535).contains(&self.keep_alive.0.as_secs()) {
            return Err(ConfigError::new("keep_alive must be between 1s and 65535s"));
        }
        Ok(server)
    }

    /// Options for the connection with this client id. Reads the certificate files.
    pub(crate) fn options(&self, server: &Server, client_id: &str) -> Result<MqttOptions, ConfigError> {
        let mut options = MqttOptions::new(client_id, (server.host.as_str(), server.port));
        let mut network = options.network_options();
        // Acknowledgements are small packets that the other side waits for: Nagle's algorithm would hold them back 40 ms.
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_keep_alive(u16::try_from(self.keep_alive.0.as_secs()).unwrap_or(u16::MAX))
            .set_connect_timeout(self.connect_timeout.0);
        match (&self.username, &self.password) {
            (Some(username), Some(password)) => {
                options.set_credentials(username, password.expose().to_owned());
            }
            (Some(username), None) => {
                options.set_username(username);
            }
            (None, _) => {}
        }
        if server.tls {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_right_is_named() {
        type Change = fn(&mut ConnectionConfig);
        let wrong: [(&str, Change); 4] = [
            ("keep_alive", |config| config.keep_alive = HumanDuration::from_millis(10)),
            ("username", |config| config.password = Some(Secret::new("p"))),
            ("mqtts://", |config| config.tls.ca = Some("ca.pem".into())),
            ("mqtt://localhost:1883", |config| config.server = "http://x".into()),
        ];
        for (part, change) in wrong {
            let mut config = ConnectionConfig::new("mqtt://localhost");
            assert!(config.check().is_ok());
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn inv_10_a_printed_configuration_hides_the_password() {
        let mut config = ConnectionConfig::new("mqtt://localhost");
        config.password = Some(Secret::new("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    }
}
