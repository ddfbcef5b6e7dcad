//! TLS towards a broker.

use std::path::{Path, PathBuf};

use iotml_core::error::ConfigError;
use rumqttc::tokio_rustls::rustls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Certificates for an `mqtts://` server; all files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificates of the authorities that may sign the broker's; without it the system's are trusted.
    pub ca: Option<PathBuf>,
    /// Certificate chain that this client shows to the broker; needs `key`.
    pub cert: Option<PathBuf>,
    /// Private key of `cert`.
    pub key: Option<PathBuf>,
}

impl TlsConfig {
    /// Certificate and key go together, and with a CA of their own.
    pub(crate) fn check(&self, tls: bool) -> Result<(), ConfigError> {
        if !tls && *self != Self::default() {
            return Err(ConfigError::new("tls is set but the server is mqtt://; write mqtts:// to use TLS"));
        }
        if self.cert.is_some() != self.key.is_some() {
            return Err(ConfigError::new("tls.cert and tls.key go together; set both or neither"));
        }
        if self.cert.is_some() && self.ca.is_none() {
            return Err(ConfigError::new("tls.cert needs tls.ca, the authority that signed the broker's certificate"));
        }
        Ok(())
    }
}

/// What to do about an error of TLS.
pub(crate) fn advice(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError as Wrong, Error};
    match error {
        Error::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature) => {
            "the authorities trusted did not sign its certificate; set tls.ca to the certificate of the one that did"
        }
        Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "its certificate is for another host; write a name in `server` that the certificate has"
        }
        Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => "its certificate has expired",
        Error::InvalidCertificate(_) => "its certificate cannot be trusted; check tls.ca",
        Error::AlertReceived(Alert::CertificateRequired) => {
            "it asks for a client certificate; set tls.cert and tls.key"
        }
        Error::AlertReceived(
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure,
        ) => "it refuses this client certificate; check tls.cert and tls.key",
        Error::InconsistentKeys(_) => "tls.key does not belong to the client certificate in tls.cert",
        Error::InvalidMessage(_) => "it does not speak tls; does the port expect tls?",
        _ => "the tls handshake failed; check tls.ca, tls.cert and the port",
    }
}

/// Reads a PEM file, naming it in the error.
pub(crate) fn read_pem(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path)
        .map_err(|source| ConfigError::with(format!("cannot read {}: {source}; check tls", path.display()), source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_client_certificate_is_refused() {
        let tls = TlsConfig { cert: Some("c.pem".into()), ..TlsConfig::default() };
        assert!(tls.check(true).unwrap_err().to_string().contains("tls.key"));
        let tls = TlsConfig { ca: Some("ca.pem".into()), ..TlsConfig::default() };
        assert!(tls.check(true).is_ok());
        assert!(tls.check(false).unwrap_err().to_string().contains("mqtts://"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_pem(Path::new("/nowhere/ca.pem")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
