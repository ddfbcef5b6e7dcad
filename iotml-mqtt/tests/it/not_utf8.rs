//! A topic that is not UTF-8, which MQTT forbids (1.5.4): a broker refuses the packet and ends the connection that sent it, so
//! that no subscriber ever gets it, and what comes behind it arrives.

use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::source::{Demand, Source, SourceError, SourceEvent};
use iotml_mqtt::source::TopicConfig;
use iotml_mqtt::{MqttSource, MqttSourceConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::broker::{Broker, on_every_broker, unique};
use crate::publisher::Publisher;
use crate::reader::{PATIENCE, Reader};

const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;

/// Connects, sends one PUBLISH at QoS 1 with the topic as given, and returns the types of the packets that come back before the
/// broker hangs up.
async fn publish_raw(address: &str, version: u8, topic: &[u8]) -> Vec<u8> {
    let no_properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let client_id = unique("raw").into_bytes();
    let connect = [b"\0\x04MQTT", &[version, 2, 0, 60][..], no_properties, &field(&client_id)].concat();
    let publish = [&field(topic), &[0, 7][..], no_properties, b"never"].concat();
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(&packet(0x10, &connect)).await.expect("CONNECT is sent");
    let answer = async |connection: &mut TcpStream| {
        let reading = read_packet(connection);
        tokio::time::timeout(PATIENCE, reading).await.expect("the broker answers or hangs up").map(|(kind, _)| kind)
    };
    assert_eq!(answer(&mut connection).await, Some(CONNACK));
    connection.write_all(&packet(0x32, &publish)).await.expect("PUBLISH is sent");
    let mut kinds = Vec::new();
    while let Some(kind) = answer(&mut connection).await {
        kinds.push(kind);
    }
    kinds
}

/// Type and body of the next packet; `None` once the far side has hung up.
pub async fn read_packet(connection: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let kind = connection.read_u8().await.ok()? & 0xf0;
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        let byte = connection.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "the length fits one byte");
    [&[kind, body.len() as u8], body].concat()
}

async fn is_refused(broker: &Broker, version: u8) {
    let root = unique("ill-formed");
    let mut config = MqttSourceConfig::new(broker.address(), TopicConfig::new(format!("{root}/#")));
    config.client_id = Some(unique("client"));
    let mut reader = Reader::open(config).await;
    let kinds = publish_raw(&broker.address(), version, &[root.as_bytes(), b"/\xff\xfe"].concat()).await;
    assert!(!kinds.contains(&PUBACK), "version {version}: the broker took the message: {kinds:x?}");
    Publisher::connect(&broker.address()).await.publish(&format!("{root}/good"), b"good".to_vec()).await;
    reader.read(1).await;
    assert_eq!(reader.read_rest().await, 1);
    assert_eq!(reader.payloads(), [b"good"]);
    reader.ack_all();
    reader.close().await;
}

async fn refused_in_mqtt_5(broker: Broker) {
    is_refused(&broker, 5).await;
}

on_every_broker! {
    a_topic_that_is_no_text_is_refused => refused_in_mqtt_5;
}

#[tokio::test]
async fn real_brokers_refuse_it_in_mqtt_3_1_1_too() {
    for broker in [Broker::mosquitto(), Broker::hivemq()].into_iter().flatten() {
        is_refused(&broker, 4).await;
    }
}

/// A broker that answers CONNECT and SUBSCRIBE, sends one message under a topic that is not UTF-8, and tells every packet it gets.
async fn unruly_broker() -> (String, mpsc::UnboundedReceiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let (got, packets) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            while let Some((kind, body)) = read_packet(&mut connection).await {
                let _ = got.send(kind);
                let answer: &[u8] = match kind {
                    0x10 => b"\x20\x03\x00\x00\x00",
                    0x80 => {
                        &[&b"\x90\x04"[..], &body[..2], b"\x00\x01", b"\x32\x09\x00\x03x/\xff\x00\x07\x00!"].concat()
                    }
                    _ => continue,
                };
                if connection.write_all(answer).await.is_err() {
                    break;
                }
            }
        }
    });
    (address, packets)
}

/// A broker that hands one on all the same would send it again and again, so the source ends, and says why.
#[tokio::test]
async fn inv_1_a_broker_that_sends_a_topic_that_is_no_text_ends_the_source_with_one_clear_error() {
    let (address, mut packets) = unruly_broker().await;
    let mut source =
        MqttSource::new(MqttSourceConfig::new(address, TopicConfig::new("x/#"))).expect("a valid configuration");
    let failing = async {
        source.open(&TaskContext::single("ill-formed")).await?;
        loop {
            if let SourceEvent::Batch(batch) = source.poll(Demand::Batches).await? {
                panic!("a message came out: {:?}", batch.messages().message(0));
            }
        }
    };
    let failed: Result<(), SourceError> = tokio::time::timeout(PATIENCE, failing).await.expect("the source fails");
    let error = failed.expect_err("the source fails");
    assert_eq!(error.class(), Class::Fatal);
    assert!(error.to_string().contains("utf-8") && error.to_string().contains("broker"), "{error}");
    while let Ok(kind) = packets.try_recv() {
        assert_ne!(kind, PUBACK, "nothing is acknowledged");
    }
}
