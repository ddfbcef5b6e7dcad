//! Configuration of the schema registry client.

use std::path::PathBuf;

use iotml_core::error::ConfigError;
use iotml_core::plugin::{ByteSize, HumanDuration};
use iotml_core::schemars::{self, JsonSchema};
use iotml_core::secret::Secret;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;

/// Where a schema registry is and how to log on to it.
///
/// ```toml
/// [decode.registry]
/// url = "https://registry:8081/apis/ccompat/v7"
/// username = "scoring"
/// password = "${env:REGISTRY_PASSWORD}"
/// tls.ca = "/etc/ssl/registry-ca.pem"
/// ```
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaRegistryConfig {
    /// Base address of a registry with the Confluent API, with any path before `/schemas` and `/subjects`.
    pub url: String,
    /// User name, for basic authentication.
    #[serde(default)]
    pub username: Option<String>,
    /// Password, for basic authentication.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Token, for bearer authentication.
    #[serde(default)]
    pub token: Option<Secret>,
    /// Certificates for `https://`.
    #[serde(default)]
    pub tls: RegistryTlsConfig,
    /// How long to wait for an answer.
    #[serde(default = "default_timeout")]
    pub timeout: HumanDuration,
    /// Longer answers are refused; one holds a schema as text within JSON.
    #[serde(default = "default_max_answer")]
    pub max_answer_bytes: ByteSize,
}

/// Whom to trust on a connection to a schema registry with TLS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegistryTlsConfig {
    /// Certificates (PEM) of the authorities that may sign the registry's, besides the system's.
    pub ca: Option<PathBuf>,
}

fn default_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}

fn default_max_answer() -> ByteSize {
    ByteSize(2 << 20)
}

impl SchemaRegistryConfig {
    /// A registry without authentication.
    pub fn new(url: &str) -> Self {
        let url = url.to_owned();
        Self {
            url,
            username: None,
            password: None,
            token: None,
            tls: RegistryTlsConfig::default(),
            timeout: default_timeout(),
            max_answer_bytes: default_max_answer(),
        }
    }

    /// The base address, ready to have a path appended.
    pub(super) fn base(&self) -> Result<Url, ConfigError> {
        // The address is not repeated: it may hold a password.
        let url = Url::parse(self.url.trim_end_matches('/'))
            .map_err(|error| ConfigError::with("the registry's url is not an address like http://host:8081", error))?;
        if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() {
            return Err(ConfigError::new("the registry's url must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ConfigError::new("the registry's url must not hold a user; set username and password instead"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ConfigError::new("the registry's url must end with its path"));
        }
        if self.username.is_none() && self.password.is_some() {
            return Err(ConfigError::new("the registry's password is set without username"));
        }
        if self.username.is_some() && self.token.is_some() {
            return Err(ConfigError::new("set the registry's username and password or its token, not both"));
        }
        if self.tls.ca.is_some() && url.scheme() == "http" {
            return Err(ConfigError::new(
                "the registry's tls.ca is set but its url is http://; write https:// to use TLS",
            ));
        }
        Ok(url)
    }

    pub(super) fn client(&self) -> Result<Client, ConfigError> {
        let mut builder = Client::builder().timeout(self.timeout.0).connect_timeout(self.timeout.0);
        if let Some(file) = &self.tls.ca {
            let wrong =
                |error: reqwest::Error| ConfigError::with(format!("{} holds no certificates", file.display()), error);
            let pem = std::fs::read(file)
                .map_err(|error| ConfigError::with(format!("{} cannot be read", file.display()), error))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(wrong)?;
            if certificates.is_empty() {
                return Err(ConfigError::new(format!("{} holds no certificates", file.display())));
            }
            builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        builder.build().map_err(|error| ConfigError::with("the client of the registry cannot be made", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_address_is_refused_before_anything_starts() {
        for (url, part) in [
            ("registry:8081", "http://"),
            ("not an address", "http://host:8081"),
            ("http://me:hunter2@h/", "set username and password"),
            ("http://h/?x=1", "its path"),
        ] {
            let error = SchemaRegistryConfig::new(url).base().unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{url}: {error}");
        }
        for url in ["http://h:8081", "https://h/apis/ccompat/v7", "http://h/base/"] {
            assert!(SchemaRegistryConfig::new(url).base().is_ok(), "{url}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let refused = |change: fn(&mut SchemaRegistryConfig), url: &str| {
            let mut config = SchemaRegistryConfig::new(url);
            change(&mut config);
            config.base().unwrap_err().to_string()
        };
        assert!(
            refused(|config| config.password = Some(Secret::new("hunter2")), "http://h").contains("without username")
        );
        let both = refused(
            |config| {
                config.username = Some("me".into());
                config.token = Some(Secret::new("hunter2"));
            },
            "http://h",
        );
        assert!(both.contains("not both") && !both.contains("hunter2"), "{both}");
        assert!(refused(|config| config.tls.ca = Some("ca.pem".into()), "http://h").contains("write https://"));
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let mut config = SchemaRegistryConfig::new("https://h");
        config.tls.ca = Some("/does/not/exist.pem".into());
        assert!(config.client().unwrap_err().to_string().contains("/does/not/exist.pem"));
        let file = tempfile::NamedTempFile::new().unwrap();
        config.tls.ca = Some(file.path().to_owned());
        assert!(config.client().unwrap_err().to_string().contains("no certificates"));
    }
}
