//! Scale-down: an instance that does not come back leaves nothing behind at the broker, and loses nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use iotml_mqtt::MqttSourceConfig;
use iotml_mqtt::source::TopicConfig;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet};

use crate::broker::{Broker, on_every_broker, unique};
use crate::publisher::{Publisher, numbered};
use crate::reader::{PATIENCE, Reader};

/// Two instances share a subscription, the broker holds messages for both, and one leaves once it has acknowledged
/// `n_before` messages: the one that receives something first, since HiveMQ lets the other sleep.
pub async fn one_of_two_leaves(broker: &Broker, topic: &str, configs: [MqttSourceConfig; 2], n_before: usize) {
    let client_ids = configs.each_ref().map(|config| config.client_id.clone().expect("a client id"));
    let [first, second] = configs;
    let (mut leaver, mut other) = (Reader::open(first).await, Reader::open(second).await);
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..300)).await;

    let is_second = tokio::select! {
        biased;
        () = leaver.read(1) => false,
        () = other.read(1) => true,
    };
    if is_second {
        std::mem::swap(&mut leaver, &mut other);
    }
    while leaver.len() < n_before {
        leaver.ack_all();
        leaver.read(leaver.len() + 1).await;
    }
    if n_before > 0 {
        leaver.ack_all();
    }
    leaver.leave().await;
    leaver.read_to_end().await;
    let of_leaver: BTreeSet<_> = leaver.payloads().into_iter().collect();
    let n_left = leaver.len();
    leaver.close().await;
    let client_id = format!("{}-it-0-0", client_ids[usize::from(is_second)]);
    assert!(!has_session(&broker.address(), &client_id).await, "the broker keeps nothing for who left");

    publisher.publish_all(&format!("{topic}/a"), numbered(300..500)).await;
    let all: BTreeSet<_> = numbered(0..500).into_iter().collect();
    let of_other = loop {
        other.ack_all();
        let of_other: BTreeSet<_> = other.payloads().into_iter().collect();
        if of_leaver.union(&of_other).count() == all.len() {
            break of_other;
        }
        other.read(other.len() + 1).await;
    };
    assert!(numbered(300..500).iter().all(|payload| of_other.contains(payload)), "all that came later is the other's");
    assert!(of_leaver.iter().all(|payload| *payload < numbered(300..301)[0]));
    let n_twice = n_left + other.len() - all.len();
    println!("{n_left} to who left, {n_twice} twice");
    assert!(n_twice <= 1, "{n_twice} messages came twice, where one is held back to wake the others");
    other.close().await;
}

/// Whether the broker keeps a session for this client.
async fn has_session(address: &str, client_id: &str) -> bool {
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let mut options = MqttOptions::new(client_id, (host, port.parse().expect("a port")));
    options.set_clean_start(false).set_session_expiry_interval(Some(0)).set_connect_timeout(PATIENCE);
    let (_client, mut events) = AsyncClient::builder(options).capacity(1).build();
    loop {
        match tokio::time::timeout(PATIENCE, events.poll()).await.expect("an answer") {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => return connack.session_present,
            Ok(_) => {}
            // The client refuses a session that it knows nothing of, and only then.
            Err(error) if error.to_string().to_lowercase().contains("session") => return true,
            Err(error) => panic!("{error}"),
        }
    }
}

fn shared(address: &str, topic: &str, group: &str) -> MqttSourceConfig {
    let mut config = MqttSourceConfig::new(address, TopicConfig::new(format!("{topic}/#")));
    (config.client_id, config.group) = (Some(unique("client")), Some(group.to_owned()));
    // So small that the broker has to queue.
    config.receive_maximum = 10;
    config
}

async fn leaves(broker: Broker) {
    leaves_after(broker, 0).await;
}

/// Nothing is in flight at that moment, and the broker is about to send more.
async fn leaves_up_to_date(broker: Broker) {
    leaves_after(broker, 50).await;
}

async fn leaves_after(broker: Broker, n_before: usize) {
    let (topic, group) = (unique("leave"), unique("group"));
    let configs = [(); 2].map(|()| shared(&broker.address(), &topic, &group));
    one_of_two_leaves(&broker, &topic, configs, n_before).await;
}

/// What the broker has queued for a plain subscription has no other reader: it is received before the session ends.
async fn leaves_alone(broker: Broker) {
    let topic = unique("leavealone");
    let mut config = shared(&broker.address(), &topic, "");
    config.group = None;
    let client_id = format!("{}-it-0-0", config.client_id.as_deref().expect("a client id"));
    let mut reader = Reader::open(config).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..200)).await;
    reader.leave().await;
    reader.read_to_end().await;
    assert_eq!(reader.payloads(), numbered(0..200));
    reader.close().await;
    assert!(!has_session(&broker.address(), &client_id).await);
}

/// Who closes before all is done keeps the session, and gets the rest when it comes back.
async fn cannot_finish(broker: Broker) {
    let topic = unique("unfinished");
    let config = shared(&broker.address(), &topic, &unique("group"));
    let mut reader = Reader::open(config.clone()).await;
    let mut publisher = Publisher::connect(&broker.address()).await;
    publisher.publish_all(&format!("{topic}/a"), numbered(0..5)).await;
    // HiveMQ may send the others only once this one is acknowledged.
    reader.read(1).await;
    reader.leave().await;
    // Longer than a broker must be silent for who is done.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    reader.read_rest().await;
    assert!(!reader.has_ended, "nothing is acknowledged");
    reader.close().await;
    let mut reader = Reader::open(config).await;
    while reader.len() < 5 {
        reader.read(reader.len() + 1).await;
        reader.ack_all();
    }
    assert_eq!(reader.payloads(), numbered(0..5));
    reader.close().await;
}

on_every_broker! {
    inv_1_who_leaves_loses_nothing_and_leaves_nothing_behind => leaves;
    inv_1_who_leaves_in_the_middle_of_a_backlog_loses_nothing => leaves_up_to_date;
    inv_1_who_leaves_alone_receives_what_is_queued => leaves_alone;
    inv_1_who_cannot_finish_keeps_the_session => cannot_finish;
}
