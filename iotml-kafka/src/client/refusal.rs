//! What a refusal of librdkafka means, in the words of the user who has to mend it.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use openssl::ssl::{HandshakeError, SslConnector, SslMethod};

use super::KafkaProperties;

/// For the second look at a certificate.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is wrong and what to change, from what librdkafka says.
pub(super) fn advice(said: &str, properties: &KafkaProperties) -> String {
    match known(said, properties) {
        Some(advice) => advice.to_owned(),
        None => format!("{}; check the sasl.* and ssl.* properties", essence(said)),
    }
}

/// The same where it is known what it means.
pub(super) fn known(said: &str, properties: &KafkaProperties) -> Option<&'static str> {
    let said = essence(said).to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["certificate verify failed"]) {
        // librdkafka does not say why.
        return Some(certificate(properties));
    }
    if says(&["plaintext broker listener", "wrong version number", "packet length too long", "http request"]) {
        return Some("the port does not speak TLS; check the port or security.protocol");
    }
    if is_alert(&said) {
        let names = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
        return Some(match names.iter().any(|name| properties.get(name).is_some()) {
            true => "it refuses this client certificate; check ssl.certificate.* and ssl.key.*",
            false => "it asks for a client certificate; set ssl.certificate.location and ssl.key.location",
        });
    }
    if says(&["invalid username or password", "invalid credentials", "authentication failed"]) {
        return Some("wrong user name or password; check sasl.username and sasl.password");
    }
    // Nothing more is said where a broker that expects TLS, or a log-in, is spoken to without.
    says(&["brokers are down"]).then_some(
        "it closes every connection without a word; does the port expect TLS or a log-in (security.protocol)?",
    )
}

/// Whether the far side refused in TLS's own words what this client showed of itself, which no waiting will change.
pub(super) fn is_alert(said: &str) -> bool {
    let said = said.to_lowercase();
    ["certificate required", "bad certificate", "unknown ca"]
        .iter()
        .any(|alert| said.contains(&format!("alert {alert}")))
}

/// Without the broker's own prefix and the times behind it.
fn essence(said: &str) -> &str {
    let said = said.split_once("/bootstrap: ").map_or(said, |(_, rest)| rest);
    said.split(" (after ").next().unwrap_or(said).trim_end()
}

/// Why the certificate of the first broker that shows one is not trusted.
fn certificate(properties: &KafkaProperties) -> &'static str {
    let found = properties.servers().into_iter().flat_map(|servers| servers.split(',')).find_map(|server| {
        let (host, _) = server.trim().rsplit_once(':')?;
        verify(server.trim(), host.trim_matches(['[', ']']), properties.get("ssl.ca.location"))
    });
    match found.as_deref() {
        Some(why) if why.contains("expired") => "the broker's certificate has expired",
        Some(why) if why.contains("mismatch") => {
            "the broker's certificate is for another host; write a name in bootstrap.servers that the certificate has"
        }
        _ => {
            "the authorities trusted did not sign the broker's certificate; set ssl.ca.location to the certificate of the one \
             that did"
        }
    }
}

/// What OpenSSL says of the certificate at `server`; `None` where it cannot be looked at.
fn verify(server: &str, host: &str, authority: Option<&str>) -> Option<String> {
    let address = server.to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
    if let Some(authority) = authority {
        connector.set_ca_file(authority).ok()?;
    }
    match connector.build().connect(host, stream) {
        Err(HandshakeError::Failure(handshake)) => Some(handshake.ssl().verify_result().error_string().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_places_are_left_out_of_what_is_not_known() {
        let said = "sasl_plaintext://127.0.0.1:1/bootstrap: Something new happened (after 5ms in state AUTH_REQ, 1 identical \
                    error(s) suppressed)";
        let properties = KafkaProperties::new("127.0.0.1:1");
        assert_eq!(advice(said, &properties), "Something new happened; check the sasl.* and ssl.* properties");
    }
}
