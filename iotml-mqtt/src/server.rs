//! Where a broker is: `mqtt://host:port` or `mqtts://host:port`.

use std::fmt;

use iotml_core::error::ConfigError;

/// A broker's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl Server {
    /// Reads `mqtt://host[:1883]`, `mqtts://host[:8883]` or plain `host[:1883]`.
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong = |why: &str| {
            ConfigError::new(format!(
                "server {text:?} {why}; write it like mqtt://localhost:1883 or, with TLS, mqtts://broker.example:8883"
            ))
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("mqtt", text));
        let tls = match scheme {
            "mqtt" | "tcp" => false,
            "mqtts" | "ssl" => true,
            _ => return Err(wrong("has an unknown scheme")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(ConfigError::new(
                "a user name or password does not belong into `server`, where logs show it; set `username` and `password`",
            ));
        }
        let default = if tls { 8883 } else { 1883 };
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 address without a port ends in its bracket.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong("has no valid port"))?),
            _ => (rest, default),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() || port == 0 || host.contains(['/', '?', '#', ' ']) {
            return Err(wrong("names no host and port"));
        }
        Ok(Self { host: host.into(), port, tls })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("mqtt://localhost:1884", "mqtt://localhost:1884"),
            ("localhost", "mqtt://localhost:1883"),
            ("127.0.0.1:29991", "mqtt://127.0.0.1:29991"),
            ("mqtts://broker.example/", "mqtts://broker.example:8883"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtt://[::1]:99", "mqtt://[::1]:99"),
        ];
        for (text, want) in cases {
            assert_eq!(Server::parse(text).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn a_wrong_address_is_named_with_what_to_write() {
        for text in ["http://x", "mqtt://", "mqtt://host:x", "mqtt://host:0", "mqtt://host/path"] {
            let error = Server::parse(text).unwrap_err().to_string();
            assert!(error.contains("mqtt://localhost:1883"), "{error}");
        }
    }

    #[test]
    fn inv_10_a_password_in_the_address_is_refused_and_not_repeated() {
        let error = Server::parse("mqtt://user:hunter2@host").unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("password"), "{error}");
    }
}
