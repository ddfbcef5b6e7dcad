//! What a user is told when it does not work.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use iotml_core::error::Class;
use iotml_core::plugin::HumanDuration;
use iotml_core::secret::Secret;
use iotml_core::source::SourceError;
use iotml_core::testing::servers;
use iotml_mqtt::MqttSourceConfig;
use iotml_mqtt::source::TopicConfig;
use tokio::net::TcpListener;

use crate::broker::unique;
use crate::publisher::Publisher;
use crate::reader::Reader;

fn config(server: String) -> MqttSourceConfig {
    let mut config = MqttSourceConfig::new(server, TopicConfig::new(unique("refusal")));
    config.client_id = Some(unique("client"));
    config
}

async fn refused(config: MqttSourceConfig) -> SourceError {
    let error = Reader::try_open(config).await.err().expect("the source must not open");
    assert_eq!(error.class(), Class::Fatal);
    error
}

#[tokio::test]
async fn a_closed_port_is_one_clear_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let error = refused(config(address.clone())).await.to_string();
    assert!(error.contains(&address) && error.contains("is the broker running"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut config = config(listener.local_addr().expect("an address").to_string());
    config.connect_timeout = HumanDuration::from_millis(300);
    let began = Instant::now();
    let error = refused(config).await.to_string();
    assert!(began.elapsed() < Duration::from_secs(10) && error.contains("in time"), "{error}");
}

#[tokio::test]
async fn inv_10_a_wrong_password_is_one_clear_error_without_the_password() {
    let Some(address) = servers::server("IOTML_MOSQUITTO_AUTH") else { return };
    let mut wrong = config(address);
    wrong.username = Some("nobody".into());
    wrong.password = Some(Secret::new("hunter2"));
    let error = refused(wrong.clone()).await.to_string();
    assert!(error.contains("`password`") && !error.contains("hunter2"), "{error}");
    wrong.username = None;
    wrong.password = None;
    assert!(refused(wrong).await.to_string().contains("`username`"));
}

#[tokio::test]
async fn the_right_password_opens() {
    let (Some(address), Some(user), Some(password)) = (
        servers::server("IOTML_MOSQUITTO_AUTH"),
        servers::server("IOTML_MOSQUITTO_USER"),
        servers::server("IOTML_MOSQUITTO_PASSWORD"),
    ) else {
        return;
    };
    let mut config = config(address);
    config.username = Some(user);
    config.password = Some(Secret::new(password));
    Reader::open(config).await.close().await;
}

#[tokio::test]
async fn tls_with_the_right_authority_receives() {
    let (Some(tls), Some(ca), Some(plain)) =
        (servers::server("IOTML_MOSQUITTO_TLS"), servers::server("IOTML_TLS_CA"), servers::mosquitto())
    else {
        return;
    };
    let mut config = config(format!("mqtts://{tls}"));
    config.tls.ca = Some(PathBuf::from(ca));
    let topic = config.topics[0].filter.clone();
    let mut reader = Reader::open(config).await;
    Publisher::connect(&plain).await.publish(&topic, b"over tls".to_vec()).await;
    reader.read(1).await;
    reader.ack_all();
    assert_eq!(reader.payloads(), [b"over tls"]);
    reader.close().await;
}

#[tokio::test]
async fn tls_with_an_unknown_authority_or_to_a_plain_port_is_one_clear_error() {
    let (Some(tls), Some(plain)) = (servers::server("IOTML_MOSQUITTO_TLS"), servers::mosquitto()) else { return };
    // The system's authorities did not sign the test server's certificate.
    let error = refused(config(format!("mqtts://{tls}"))).await.to_string();
    assert!(error.contains("tls.ca"), "{error}");
    let error = refused(config(format!("mqtts://{plain}"))).await.to_string();
    assert!(error.contains("tls"), "{error}");
}
