//! TLS towards a broker.

use std::path::{Path, PathBuf};

use iotml_core::error::ConfigError;
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
