//! Invariants 1, 2, 3, 5, 6 and 11 of the source.

use std::time::Duration;

use iotml_core::plugin::HumanDuration;
use iotml_mqtt::MqttSourceConfig;
use iotml_mqtt::embedded::EmbeddedBroker;
use iotml_mqtt::source::TopicConfig;

use crate::broker::{Broker, on_every_broker, unique};
use crate::cut::Wire;
use crate::publisher::{Publisher, numbered};
use crate::reader::Reader;

fn config(address: &str, topic: &str) -> MqttSourceConfig {
    let mut config = MqttSourceConfig::new(address, TopicConfig::new(format!("{topic}/#")));
    config.client_id = Some(unique("client"));
    config
}

/// Leaves a session behind at the broker that nobody is connected to, so that what is published now waits there.
async fn begin_session(broker: &Broker, config: &MqttSourceConfig) {
    let wire = Wire::to(&broker.address()).await;
    let mut config = config.clone();
    config.connection.server = wire.address.clone();
    Reader::open(config).await.close().await;
    wire.wait_until_parted().await;
}

/// A process that is killed after it acknowledged four of eleven gets the other seven again.
async fn killed(broker: Broker) {
    let topic = unique("kill");
    let wire = Wire::to(&broker.address()).await;
    let config = config(&wire.address, &topic);
    let mut publisher = Publisher::connect(&broker.address()).await;
    // Published while no one is connected, because HiveMQ sends more than one unacknowledged message only then.
    begin_session(&broker, &config).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..11)).await;
    let mut reader = Reader::open(config.clone()).await;
    reader.read(11).await;
    reader.ack_first(4);
    wire.wait_for_acks(4).await;
    drop(reader);
    wire.wait_until_parted().await;

    publisher.publish_all(&format!("{topic}/a"), numbered(11..13)).await;
    let mut reader = Reader::open(config).await;
    reader.read(7).await;
    reader.ack_first(7);
    reader.read(9).await;
    assert_eq!(reader.read_rest().await, 9);
    assert_eq!(reader.payloads(), numbered(4..13), "exactly the unacknowledged ones, in order, then the new ones");
    reader.close().await;
}

/// The wire is cut with messages in flight: they are not handed on twice, and acknowledged once.
async fn cut(broker: Broker) {
    let topic = unique("cut");
    let wire = Wire::to(&broker.address()).await;
    let config = config(&wire.address, &topic);
    let mut publisher = Publisher::connect(&broker.address()).await;
    begin_session(&broker, &config).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..11)).await;
    let mut reader = Reader::open(config.clone()).await;
    reader.read(11).await;
    wire.cut();
    reader.wait_for_count("reconnects", 1).await;
    // Durable while away: acknowledged when they come again.
    reader.ack_first(6);
    publisher.publish_all(&format!("{topic}/a"), numbered(11..15)).await;
    wire.mend();
    reader.wait_for_count("redelivered_messages", 11).await;
    reader.ack_first(11);
    reader.read(15).await;
    assert_eq!(reader.read_rest().await, 15);
    assert_eq!(reader.payloads(), numbered(0..15), "each once and in order, although eleven were sent twice");
    assert!(reader.lost.is_empty());
    reader.ack_all();
    reader.wait_for_count("acknowledged_messages", 15).await;
    assert_eq!(reader.count("acknowledged_messages"), 15);
    reader.close().await;

    let mut reader = Reader::open(config).await;
    assert_eq!(reader.read_rest().await, 0, "nothing was left unacknowledged");
    reader.close().await;
}

/// The same in a shared subscription, whose messages HiveMQ may send again under other packet ids.
async fn cut_shared(broker: Broker) {
    let topic = unique("cutshared");
    let wire = Wire::to(&broker.address()).await;
    let group = unique("group");
    let mut first = config(&wire.address, &topic);
    first.group = Some(group.clone());
    let mut second = config(&broker.address(), &topic);
    second.group = Some(group);
    let mut first = Reader::open(first).await;
    let mut second = Reader::open(second).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    let topic = format!("{topic}/a");
    publisher.publish_all(&topic, numbered(0..40)).await;
    for reader in [&mut first, &mut second] {
        reader.read_rest().await;
        reader.ack_all();
    }
    publisher.publish_all(&topic, numbered(40..80)).await;
    first.read_rest().await;
    // The first holds what it has; the second goes on while the first is away.
    wire.cut();
    publisher.publish_all(&topic, numbered(80..120)).await;
    for _ in 0..4 {
        second.read_rest().await;
        second.ack_all();
    }
    wire.mend();
    publisher.publish_all(&topic, numbered(120..200)).await;
    for _ in 0..6 {
        for reader in [&mut first, &mut second] {
            reader.read_rest().await;
            reader.ack_all();
        }
    }
    let mut all: Vec<_> = first.payloads().into_iter().chain(second.payloads()).collect();
    all.sort();
    all.dedup();
    assert_eq!(all, numbered(0..200), "a reused packet id hides no message");
    first.close().await;
    second.close().await;
}

/// No more than the window arrives without an acknowledgement, and acknowledging opens it.
async fn window(broker: Broker) {
    let topic = unique("window");
    let mut config = config(&broker.address(), &topic);
    config.receive_maximum = 10;
    let mut publisher = Publisher::connect(&broker.address()).await;
    begin_session(&broker, &config).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..60)).await;
    let mut reader = Reader::open(config).await;
    assert!((1..=10).contains(&reader.read_rest().await), "{} messages arrived unacknowledged", reader.len());
    while reader.len() < 60 {
        reader.ack_all();
        reader.read(reader.len() + 1).await;
    }
    assert_eq!(reader.payloads(), numbered(0..60), "in order");
    reader.close().await;
}

/// Several connections of one group divide the messages; each lane is acknowledged for itself.
async fn several_connections(broker: Broker) {
    let topic = unique("several");
    let mut config = config(&broker.address(), &topic);
    config.group = Some(unique("group"));
    config.connections = 3;
    begin_session(&broker, &config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    // Brokers divide at other moments: HiveMQ when members ask, the embedded one when a message arrives.
    publisher.publish_all(&format!("{topic}/a"), numbered(0..200)).await;
    let mut reader = Reader::open(config.clone()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(200..300)).await;
    while reader.len() < 300 {
        reader.read(reader.len() + 1).await;
        reader.ack_all();
    }
    let mut payloads = reader.payloads();
    payloads.sort();
    assert_eq!(payloads, numbered(0..300));
    let lanes: std::collections::HashSet<_> =
        reader.batches.iter().flat_map(|batch| batch.positions()).map(|position| position.lane).collect();
    assert!(lanes.len() > 1, "the broker used one connection only");
    reader.wait_for_count("acknowledged_messages", 300).await;
    reader.close().await;
    let mut reader = Reader::open(config).await;
    assert_eq!(reader.read_rest().await, 0, "all lanes were acknowledged");
    reader.close().await;
}

/// The pipeline stalls for several keep-alives; the connection stands all the same.
async fn unpolled(broker: Broker) {
    let topic = unique("unpolled");
    let mut config = config(&broker.address(), &topic);
    config.connection.keep_alive = HumanDuration::from_secs(3);
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..5)).await;
    // The broker gives up after one and a half keep-alives of silence.
    tokio::time::sleep(Duration::from_secs(8)).await;
    while reader.len() < 5 {
        reader.read(reader.len() + 1).await;
        reader.ack_all();
    }
    assert_eq!((reader.count("reconnects"), reader.payloads()), (0, numbered(0..5)));
    reader.close().await;
}

on_every_broker! {
    inv_1_a_killed_process_gets_what_it_did_not_acknowledge => killed;
    inv_3_a_cut_wire_repeats_nothing_that_is_in_flight => cut;
    inv_3_a_reused_packet_id_hides_no_message => cut_shared;
    inv_6_no_more_than_the_window_arrives_unacknowledged => window;
    inv_2_every_connection_acknowledges_for_itself => several_connections;
    inv_5_keep_alives_do_not_wait_for_the_pipeline => unpolled;
}

#[tokio::test]
async fn inv_3_a_lost_session_voids_its_lane_and_a_new_one_begins() {
    let broker = EmbeddedBroker::start().expect("a broker");
    let (address, port) = (broker.address(), broker.port());
    let topic = unique("lost");
    let mut reader = Reader::open(config(&address, &topic)).await;
    let mut publisher = Publisher::connect(&address).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..3)).await;
    reader.read(3).await;
    drop(broker);
    let _broker = EmbeddedBroker::start_on(port).expect("the port is free again");
    reader.read_until_lost().await;
    let lost = reader.lost[0];
    assert_eq!(reader.count("lost_sessions"), 1);
    let mut publisher = Publisher::connect(&address).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(3..6)).await;
    reader.read(6).await;
    reader.ack_lane(lost, 2);
    assert_eq!(reader.payloads(), numbered(0..6), "subscribed again without being told");
    let lane = reader.batches.last().expect("a batch").lane(0);
    assert_ne!(lane, lost);
    reader.ack_lane(lane, 2);
    reader.wait_for_count("acknowledged_messages", 3).await;
    assert_eq!(reader.count("acknowledged_messages"), 3, "the void lane was not acknowledged");
    reader.close().await;
}

#[tokio::test]
async fn inv_6_qos0_beyond_its_bound_is_dropped_and_counted() {
    let broker = EmbeddedBroker::start().expect("a broker");
    let topic = unique("qos0");
    let mut config = config(&broker.address(), &topic);
    config.topics[0].qos = 0;
    config.max_qos0_rows = 10;
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..50)).await;
    reader.wait_unpolled(|reader| reader.count("messages") + reader.count("dropped_messages") == 50).await;
    assert_eq!(reader.read_rest().await, 10);
    assert_eq!((reader.count("messages"), reader.count("dropped_messages")), (10, 40));
    reader.close().await;
}
