//! The MQTT sink.

use std::sync::Arc;
use std::time::Duration;

use iotml_core::async_trait;
use iotml_core::error::{Class, Reason};
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::HumanDuration;
use iotml_core::secret::Secret;
use iotml_core::sink::{Outgoing, Sink};
use iotml_core::testing::servers;
use iotml_core::testing::sink::{SinkHarness, Stored, conforms, outgoing};
use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::{MqttSink, MqttSinkConfig, MqttSourceConfig};

use crate::broker::{Broker, on_every_broker, unique};
use crate::cut::Wire;
use crate::reader::Reader;

struct Harness {
    config: MqttSinkConfig,
    /// Subscribed before anything is written.
    reader: Reader,
}

impl Harness {
    async fn new(broker: &Broker) -> Self {
        let root = unique("sink");
        let config = MqttSinkConfig::new(broker.address(), format!("{root}/{{key}}/alerts"));
        Self { config, reader: subscribe(broker, &root).await }
    }
}

async fn subscribe(broker: &Broker, root: &str) -> Reader {
    let mut topic = TopicConfig::new(format!("{root}/{{key}}/alerts"));
    topic.key = Some("{key}".into());
    let mut config = MqttSourceConfig::new(broker.address(), topic);
    config.client_id = Some(unique("client"));
    Reader::open(config).await
}

#[async_trait]
impl SinkHarness for Harness {
    async fn sink(&mut self) -> Arc<dyn Sink> {
        Arc::new(MqttSink::new(self.config.clone()).expect("a valid configuration"))
    }

    async fn stored(&mut self, n: usize) -> Vec<Stored> {
        while self.reader.len() < n {
            self.reader.read(self.reader.len() + 1).await;
            self.reader.ack_all();
        }
        // A dropped write may have been stored too, so the n-th message need not be the last.
        self.reader.read_rest().await;
        self.reader.ack_all();
        let rows =
            self.reader.batches.iter().flat_map(|batch| (0..batch.len()).map(move |row| (batch.messages(), row)));
        let stored = rows.map(|(messages, row)| Stored {
            key: messages.key(row).map(<[u8]>::to_vec),
            payload: messages.payload(row).map(<[u8]>::to_vec),
        });
        stored.collect()
    }
}

async fn sink(broker: Broker) {
    conforms(&mut Harness::new(&broker).await).await;
}

/// Rows written while the broker is away are reported as worth another try, and then go through.
async fn broker_away(broker: Broker) {
    let wire = Wire::to(&broker.address()).await;
    let root = unique("away");
    let mut reader = subscribe(&broker, &root).await;
    let mut config = MqttSinkConfig::new(&wire.address, format!("{root}/{{key}}/alerts"));
    config.delivery_timeout = HumanDuration::from_secs(1);
    let sink = MqttSink::new(config).expect("a valid configuration");
    sink.open(&TaskContext::single("it")).await.expect("open");
    wire.cut();
    let written = sink.write(outgoing(0..5)).await.expect("a lost connection is no error of the whole write");
    assert_eq!((written.retryable.len(), written.rejected.len()), (5, 0), "{written:?}");
    wire.mend();
    let delivering = async {
        loop {
            let written = sink.write(outgoing(0..5)).await.expect("write");
            assert!(written.rejected.is_empty(), "{written:?}");
            if written.retryable.is_empty() {
                return;
            }
            // As the pipeline backs off between two tries.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), delivering).await.expect("the sink reconnects");
    reader.read(1).await;
    reader.ack_all();
    while reader.payloads().last().is_none_or(|last| last != b"row 0004") {
        reader.read(reader.len() + 1).await;
        reader.ack_all();
    }
    sink.close().await.expect("close");
}

on_every_broker! {
    sink_conforms => sink;
    rows_survive_a_broker_that_is_away => broker_away;
}

#[tokio::test]
async fn a_row_without_a_usable_key_is_refused_and_its_neighbours_are_written() {
    let broker = Broker::embedded();
    let root = unique("neighbours");
    let mut reader = subscribe(&broker, &root).await;
    let config = MqttSinkConfig::new(broker.address(), format!("{root}/{{key}}/alerts"));
    let sink = MqttSink::new(config).expect("a valid configuration");
    sink.open(&TaskContext::single("it")).await.expect("open");
    let rows = outgoing(0..3);
    let mut messages = iotml_core::batch::Messages::default();
    for (row, key) in [(0, &b"ev-0"[..]), (1, b"ev/+/1"), (2, b"ev-2")] {
        messages.push(iotml_core::batch::Message { key: Some(key), ..rows.messages.message(row) });
    }
    let written = sink.write(Outgoing { messages: Arc::new(messages), ..rows }).await.expect("write");
    let refused: Vec<_> = written.rejected.iter().map(|rejected| (rejected.row, rejected.cause.reason)).collect();
    assert_eq!(refused, [(1, Reason::NoTarget)]);
    reader.read(2).await;
    assert_eq!(reader.payloads(), [b"row 0000", b"row 0002"]);
}

#[tokio::test]
async fn a_closed_port_is_one_clear_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let sink = MqttSink::new(MqttSinkConfig::new(&address, "a/{key}")).expect("a valid configuration");
    let error = sink.open(&TaskContext::single("it")).await.expect_err("nothing listens there");
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains(&address) && error.to_string().contains("is the broker running"), "{error}");
}

#[tokio::test]
async fn inv_10_passwords_are_checked_and_never_shown() {
    let Some(auth) = servers::server("IOTML_MOSQUITTO_AUTH") else { return };
    let open = async |config: MqttSinkConfig| {
        let sink = MqttSink::new(config).expect("a valid configuration");
        let opened = sink.open(&TaskContext::single("it")).await;
        sink.close().await.expect("close");
        opened.map_err(|error| error.to_string())
    };
    let mut config = MqttSinkConfig::new(auth, "a/{key}");
    config.connection.username = Some("nobody".into());
    config.connection.password = Some(Secret::new("hunter2"));
    let error = open(config.clone()).await.expect_err("a wrong password");
    assert!(error.contains("`password`") && !error.contains("hunter2"), "{error}");
    config.connection.username = servers::server("IOTML_MOSQUITTO_USER");
    config.connection.password = servers::server("IOTML_MOSQUITTO_PASSWORD").map(Secret::new);
    open(config).await.expect("the right password");
}
