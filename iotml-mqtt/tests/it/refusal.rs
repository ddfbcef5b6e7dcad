//! What a user is told when it does not work.

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
    config.connection.connect_timeout = HumanDuration::from_millis(300);
    let began = Instant::now();
    let error = refused(config).await.to_string();
    assert!(began.elapsed() < Duration::from_secs(10) && error.contains("in time"), "{error}");
}

#[tokio::test]
async fn inv_10_a_wrong_password_is_one_clear_error_without_the_password() {
    let Some(address) = servers::server("IOTML_MOSQUITTO_AUTH") else { return };
    let mut wrong = config(address);
    wrong.connection.username = Some("nobody".into());
    wrong.connection.password = Some(Secret::new("hunter2"));
    let error = refused(wrong.clone()).await.to_string();
    assert!(error.contains("`password`") && !error.contains("hunter2"), "{error}");
    wrong.connection.username = None;
    wrong.connection.password = None;
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
    config.connection.username = Some(user);
    config.connection.password = Some(Secret::new(password));
    Reader::open(config).await.close().await;
}
