//! What the source on the Paho backend makes of a broker that comes back: without its session, without granting the
//! subscription, without an answer, or with another client in its place. Played by a broker that does as it is told.

use iotml_core::error::Class;
use iotml_core::pipeline::TaskContext;
use iotml_core::plugin::{ByteSize, HumanDuration};
use iotml_core::source::{Demand, Source, SourceError, SourceEvent};
use iotml_mqtt::source::{BackendKind, MqttVersion, SpoolConfig, TopicConfig};
use iotml_mqtt::{MqttSource, MqttSourceConfig};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::broker::unique;
use crate::not_utf8::read_packet;
use crate::reader::{PATIENCE, Reader};
use crate::spooled::reopen;

const GRANTED: Option<u8> = Some(1);
const SUBSCRIBE: u8 = 0x80;

/// What the broker does with one connection.
#[derive(Clone, Copy)]
struct Turn {
    has_session: bool,
    /// The code of the SUBACK, if it answers at all.
    suback: Option<u8>,
    /// How it goes on after it.
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    Stay,
    HangUp,
    /// Says DISCONNECT with this reason first.
    Disconnect(u8),
}

/// A broker that takes connection after connection as its turns say, and tells the types of the packets it gets.
async fn broker(version: MqttVersion, turns: Vec<Turn>) -> (String, mpsc::UnboundedReceiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let (got, packets) = mpsc::unbounded_channel();
    let no_properties: &[u8] = if version == MqttVersion::V5 { &[0] } else { &[] };
    let packet = |kind: u8, body: &[u8]| [&[kind, body.len() as u8], body].concat();
    tokio::spawn(async move {
        for turn in turns {
            let (mut connection, _) = listener.accept().await.expect("a connection");
            while let Some((kind, body)) = read_packet(&mut connection).await {
                let _ = got.send(kind);
                match (kind, turn.suback) {
                    (0x10, _) => {
                        let body = [&[u8::from(turn.has_session), 0], no_properties].concat();
                        connection.write_all(&packet(0x20, &body)).await.expect("CONNACK");
                    }
                    (SUBSCRIBE, Some(code)) => {
                        let body = [&body[..2], no_properties, &[code]].concat();
                        connection.write_all(&packet(0x90, &body)).await.expect("SUBACK");
                        match turn.then {
                            Then::Stay => {}
                            Then::HangUp => break,
                            Then::Disconnect(reason) => {
                                connection.write_all(&[0xe0, 2, reason, 0]).await.expect("DISCONNECT");
                                break;
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    });
    (address, packets)
}

fn config(address: &str, version: MqttVersion) -> (MqttSourceConfig, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = MqttSourceConfig::new(address, TopicConfig::new("again/#"));
    config.client_id = Some(unique("client"));
    config.connection.connect_timeout = HumanDuration::from_secs(2);
    config.backend = BackendKind::Paho;
    config.mqtt_version = version;
    config.spool = Some(SpoolConfig { dir: folder.path().into(), max_bytes: ByteSize(1 << 20), fsync: false });
    (config, folder)
}

/// How a source ends that stood once.
async fn failure(config: MqttSourceConfig) -> String {
    let mut source = MqttSource::new(config).expect("a valid configuration");
    source.open(&TaskContext::single("again")).await.expect("it stands at first");
    let failing = async {
        loop {
            if let SourceEvent::Batch(batch) = source.poll(Demand::Batches).await? {
                panic!("a message came out: {:?}", batch.messages().message(0));
            }
        }
    };
    let failed: Result<(), SourceError> = tokio::time::timeout(PATIENCE, failing).await.expect("the source fails");
    let error = failed.expect_err("the source fails");
    assert_eq!(error.class(), Class::Fatal);
    println!("{error}");
    error.to_string()
}

#[tokio::test]
async fn inv_4_a_session_that_the_broker_no_longer_has_is_counted() {
    for version in [MqttVersion::V5, MqttVersion::V3] {
        let (address, _packets) = broker(
            version,
            vec![
                Turn { has_session: false, suback: GRANTED, then: Then::HangUp },
                Turn { has_session: true, suback: GRANTED, then: Then::HangUp },
                Turn { has_session: false, suback: GRANTED, then: Then::Stay },
            ],
        )
        .await;
        let (config, _folder) = config(&address, version);
        let mut reader = Reader::open(config).await;
        reader.wait_for_count("lost_sessions", 1).await;
        assert_eq!(reader.count("reconnects"), 2, "neither the first connection nor a resumed session is a loss");
        reader.close().await;
    }
}

#[tokio::test]
async fn inv_4_a_subscription_that_is_refused_after_a_reconnect_ends_the_source() {
    for (version, code) in [(MqttVersion::V5, 0x87), (MqttVersion::V3, 0x80)] {
        let turns = vec![
            Turn { has_session: false, suback: GRANTED, then: Then::HangUp },
            Turn { has_session: true, suback: Some(code), then: Then::Stay },
        ];
        let (address, _packets) = broker(version, turns).await;
        let (config, _folder) = config(&address, version);
        let error = failure(config).await;
        assert!(error.contains("refused to subscribe") && error.contains("again/#"), "{code:#x}: {error}");
    }
}

#[tokio::test]
async fn inv_4_a_subscription_that_is_not_answered_after_a_reconnect_is_asked_for_again() {
    let (address, mut packets) = broker(
        MqttVersion::V5,
        vec![
            Turn { has_session: false, suback: GRANTED, then: Then::HangUp },
            Turn { has_session: true, suback: None, then: Then::Stay },
            Turn { has_session: true, suback: GRANTED, then: Then::Stay },
            Turn { has_session: true, suback: GRANTED, then: Then::Stay },
        ],
    )
    .await;
    let (config, _folder) = config(&address, MqttVersion::V5);
    let reader = Reader::open(config.clone()).await;
    let asking = async {
        let mut n = 0;
        while n < 3 {
            n += usize::from(packets.recv().await.expect("the broker is there") == SUBSCRIBE);
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it asks once more");
    assert_eq!(reader.count("lost_sessions"), 0);
    reader.close().await;
    // The spool is free again, though Paho waits for the missing answer for ever.
    Reader::open(config).await.close().await;
}

#[tokio::test]
async fn a_first_subscription_that_is_not_answered_is_an_error_and_gives_the_spool_up() {
    let (address, _packets) = broker(
        MqttVersion::V5,
        vec![
            Turn { has_session: false, suback: None, then: Then::Stay },
            Turn { has_session: true, suback: GRANTED, then: Then::Stay },
        ],
    )
    .await;
    let (mut config, _folder) = config(&address, MqttVersion::V5);
    config.connection.connect_timeout = HumanDuration::from_secs(1);
    let error = Reader::try_open(config.clone()).await.err().expect("no answer").to_string();
    assert!(error.contains("in time"), "{error}");
    reopen(&config).await.close().await;
}

#[tokio::test]
async fn a_broker_that_says_that_it_goes_is_waited_for() {
    let (address, _packets) = broker(
        MqttVersion::V5,
        vec![
            // Server shutting down.
            Turn { has_session: false, suback: GRANTED, then: Then::Disconnect(0x8b) },
            Turn { has_session: false, suback: GRANTED, then: Then::Stay },
        ],
    )
    .await;
    let (config, _folder) = config(&address, MqttVersion::V5);
    let mut reader = Reader::open(config).await;
    reader.wait_for_count("lost_sessions", 1).await;
    assert_eq!(reader.count("reconnects"), 1);
    reader.close().await;
}

#[tokio::test]
async fn another_client_in_its_place_ends_the_source() {
    let (address, _packets) = broker(
        MqttVersion::V5,
        // Session taken over.
        vec![Turn { has_session: false, suback: GRANTED, then: Then::Disconnect(0x8e) }],
    )
    .await;
    let (config, _folder) = config(&address, MqttVersion::V5);
    let error = failure(config).await;
    assert!(error.contains("same client id"), "{error}");
}
